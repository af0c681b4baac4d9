"""Answers as LangChain's v1 content blocks and v3 events. Pure.

Blocks of a stream have string indices (`lc_rs_0` reasoning, `lc_txt_0` text, `lc_tc_<n>` a call):
LangChain merges blocks of one index, so text and calls in one delta, or interleaved calls, stay
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock
from langchain_core.messages.tool import ToolCallChunk
from langchain_protocol.protocol import MessagesData

from langchain_tokenhub.chat.deltas import arguments
from langchain_tokenhub.chat.response import PROVIDER, Delta, Ending

REASONING, TEXT, CALL = "lc_rs_0", "lc_txt_0", "lc_tc_{}"

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
        blocks += [_call_chunk(call) for call in message.tool_call_chunks]
    else:
        blocks += [_call(call) for call in message.tool_calls]
        blocks += [dict(call) for call in message.invalid_tool_calls]
    return cast("list[ContentBlock]", blocks)


register_translator(PROVIDER, blocks_of, blocks_of)


def _text_blocks(message: AIMessage) -> list[Block]:
    content = message.content
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]


def _call(call: Any) -> Block:
    return {"type": "tool_call", "name": call["name"], "args": call["args"], "id": call["id"]}


def _call_chunk(chunk: ToolCallChunk) -> Block:
    return {**chunk, "type": "tool_call_chunk", "index": CALL.format(chunk["index"])}


class EventWriter:
    """Converts a stream to v3 events: a block starts once, and all are finished at the end."""

    def __init__(self, message_id: str, model: str) -> None:
        self._id = message_id
        self._model = model
        self._has_started = False
        self._positions: dict[str, int] = {}
        self._blocks: list[Block] = []
        self._pieces: list[list[str]] = []

    def write(self, delta: Delta | Ending) -> list[MessagesData]:
        """Return the events of a delta, the first also those that start the message."""
        events: list[Any] = [] if self._has_started else [self._start_message()]
        if isinstance(delta, Ending):
            events += self._end(delta)
            return events
        reasoning, text, tools = delta
        if reasoning:
            self._add(events, REASONING, "reasoning", reasoning)
        if text:
            self._add(events, TEXT, "text", text)
        for chunk in tools:
            self._call(events, chunk)
        return events

    def _start_message(self) -> Block:
        self._has_started = True
        return {
            "event": "message-start",
            "role": "ai",
            "id": self._id,
            "metadata": {"provider": PROVIDER, "model": self._model},
        }

    def _end(self, ending: Ending) -> Iterator[Block]:
        for position, block in enumerate(self._blocks):
            finished = _finished(block, "".join(self._pieces[position]))
            yield {"event": "content-block-finish", "index": position, "content": finished}
        finish: Block = {"event": "message-finish", "metadata": ending.metadata}
        if ending.usage:
            finish["usage"] = ending.usage
        if REASONING in self._positions:
            reasoning = "".join(self._pieces[self._positions[REASONING]])
            finish["additional_kwargs"] = {"reasoning_content": reasoning}
        yield finish

    def _add(
        self, events: list[Any], key: str, kind: Literal["text", "reasoning"], piece: str
    ) -> None:
        position = self._positions.get(key)
        if position is None:
            position = self._start_block(events, key, {"type": kind, kind: ""}, {"index": key})
        self._pieces[position].append(piece)
        delta = {"type": f"{kind}-delta", kind: piece}
        events.append({"event": "content-block-delta", "index": position, "delta": delta})

    def _call(self, events: list[Any], chunk: ToolCallChunk) -> None:
        key = CALL.format(chunk["index"])
        position = self._positions.get(key)
        if position is None:
            block = {"type": "tool_call_chunk", "id": chunk["id"], "name": chunk["name"]}
            position = self._start_block(events, key, {**block, "args": "", "index": key}, {})
        if args := chunk["args"]:
            self._pieces[position].append(args)
            delta = {"type": "tool-call-delta", "args": args}
            events.append({"event": "content-block-delta", "index": position, "delta": delta})

    def _start_block(self, events: list[Any], key: str, content: Block, extra: Block) -> int:
        position = self._positions[key] = len(self._blocks)
        self._blocks.append({**content, **extra})
        self._pieces.append([])
        events.append({"event": "content-block-start", "index": position, "content": content})
        return position


def _finished(block: Block, text: str) -> Block:
    if block["type"] != "tool_call_chunk":
        return {**block, block["type"]: text}
    args = arguments(text)
    call = {"id": block["id"], "name": block["name"]}
    if args is None or not block["name"]:
        error = "the arguments are not a JSON object"
        return {"type": "invalid_tool_call", **call, "args": text, "error": error}
    return {"type": "tool_call", **call, "args": args}
