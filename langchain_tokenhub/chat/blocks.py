"""Answers as LangChain's v1 content blocks and v3 events. Pure.

Blocks of a stream have string indices (`lc_rs_0` reasoning, `lc_txt_0` text, `lc_tc_<n>` a call):
LangChain merges blocks of one index, so text and calls in one delta, or interleaved calls, stay
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock
from langchain_protocol.protocol import MessagesData

from langchain_tokenhub.chat.deltas import arguments
from langchain_tokenhub.chat.response import PROVIDER, Delta, Ending

REASONING, TEXT, CALL = "lc_rs_0", "lc_txt_0", "lc_tc_{}"

_CHUNK = {"type": "tool_call_chunk"}

Block = dict[str, Any]


def blocks_of(message: AIMessage) -> list[ContentBlock]:
    """Return the v1 blocks of a message, those of a chunk with an index each."""
    is_chunk = isinstance(message, AIMessageChunk)
    blocks: list[Block] = []
    if reasoning := message.additional_kwargs.get("reasoning_content"):
        index = {"index": REASONING} if is_chunk else {}
        blocks.append({"type": "reasoning", "reasoning": reasoning, **index})
    index = {"index": TEXT} if is_chunk else {}
    blocks += [{**block, **index} for block in _text_blocks(message)]
    if isinstance(message, AIMessageChunk) and message.chunk_position != "last":
        chunks = message.tool_call_chunks
        blocks += [{**chunk, **_CHUNK, "index": CALL.format(chunk["index"])} for chunk in chunks]
    else:
        blocks += [{"type": "tool_call", **call} for call in message.tool_calls]
        blocks += [dict(call) for call in message.invalid_tool_calls]
    return cast("list[ContentBlock]", blocks)


register_translator(PROVIDER, blocks_of, blocks_of)


def _text_blocks(message: AIMessage) -> list[Block]:
    content = message.content
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]


class EventWriter:
    """Converts a stream to v3 events; each block is started once, and finished at the end."""

    def __init__(self, message_id: str, model: str) -> None:
        start = {"event": "message-start", "role": "ai", "id": message_id}
        self._events: list[Any] = [{**start, "metadata": {"provider": PROVIDER, "model": model}}]
        self._positions: dict[str, int] = {}
        self._blocks: list[Block] = []
        self._pieces: list[list[str]] = []

    def write(self, delta: Delta | Ending) -> list[MessagesData]:
        """Return the events of a delta; the first call also returns the start of the message."""
        if isinstance(delta, Ending):
            self._events += self._end(delta)
        else:
            if piece := delta.reasoning:
                new = {"type": "reasoning-delta", "reasoning": piece}
                self._add(REASONING, {"type": "reasoning", "reasoning": ""}, new, piece)
            if piece := delta.text:
                self._add(
                    TEXT, {"type": "text", "text": ""}, {"type": "text-delta", "text": piece}, piece
                )
            for chunk in delta.tools:
                key, args = CALL.format(chunk["index"]), chunk["args"] or ""
                call = {"id": chunk["id"], "name": chunk["name"], "args": "", "index": key}
                self._add(key, {**_CHUNK, **call}, {"type": "tool-call-delta", "args": args}, args)
        events, self._events = self._events, []
        return events

    def _add(self, key: str, block: Block, delta: Block, piece: str) -> None:
        """Add a piece to a block, and start the block with its first piece."""
        position = self._positions.get(key)
        if position is None:
            position = self._positions[key] = len(self._blocks)
            self._blocks.append({**block, "index": key})
            self._pieces.append([])
            start = {"event": "content-block-start", "index": position, "content": block}
            self._events.append(start)
        if piece:
            self._pieces[position].append(piece)
            self._events.append({"event": "content-block-delta", "index": position, "delta": delta})

    def _end(self, ending: Ending) -> Iterator[Block]:
        for position, block in enumerate(self._blocks):
            finished = _finish_block(block, "".join(self._pieces[position]))
            yield {"event": "content-block-finish", "index": position, "content": finished}
        finish: Block = {"event": "message-finish", "metadata": ending.metadata}
        if ending.usage:
            finish["usage"] = ending.usage
        if REASONING in self._positions:
            reasoning = "".join(self._pieces[self._positions[REASONING]])
            finish["additional_kwargs"] = {"reasoning_content": reasoning}
        yield finish


def _finish_block(block: Block, text: str) -> Block:
    if block["type"] != "tool_call_chunk":
        return {**block, block["type"]: text}
    args = arguments(text)
    call = {"id": block["id"], "name": block["name"]}
    if args is None or not block["name"]:
        error = "the arguments are not a JSON object"
        return {"type": "invalid_tool_call", **call, "args": text, "error": error}
    return {"type": "tool_call", **call, "args": args}
