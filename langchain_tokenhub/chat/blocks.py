"""LangChain's v1 content blocks and v3 events for what TokenHub says. Pure.

Blocks of a stream carry string indices that name what they belong to (`lc_rs_0` reasoning,
`lc_txt_0` text, `lc_tc_<n>` a call): LangChain merges by equal index, so that text and tool calls
in one delta, or two calls interleaved, stay apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.content import ContentBlock
from langchain_core.messages.tool import ToolCallChunk
from langchain_protocol.protocol import MessagesData

from langchain_tokenhub.chat.deltas import arguments
from langchain_tokenhub.chat.provider import PROVIDER
from langchain_tokenhub.chat.response import Delta, Ending

REASONING, TEXT, CALL = "lc_rs_0", "lc_txt_0", "lc_tc_{}"

_GROWTH = {"text": "text-delta", "reasoning": "reasoning-delta"}

Block = dict[str, Any]


def blocks_of(message: AIMessage) -> list[ContentBlock]:
    """Return the v1 blocks of a whole message."""
    blocks: list[Block] = []
    if reasoning := message.additional_kwargs.get("reasoning_content"):
        blocks.append({"type": "reasoning", "reasoning": reasoning})
    blocks += _said(message)
    blocks += [_call(call) for call in message.tool_calls]
    blocks += [dict(call) for call in message.invalid_tool_calls]
    return cast("list[ContentBlock]", blocks)


def blocks_of_chunk(chunk: AIMessage) -> list[ContentBlock]:
    """Return the v1 blocks of a chunk, each with the index of what it belongs to."""
    blocks: list[Block] = []
    if reasoning := chunk.additional_kwargs.get("reasoning_content"):
        blocks.append({"type": "reasoning", "reasoning": reasoning, "index": REASONING})
    blocks += [{**block, "index": TEXT} for block in _said(chunk)]
    if isinstance(chunk, AIMessageChunk) and chunk.chunk_position != "last":
        blocks += [_call_chunk(call) for call in chunk.tool_call_chunks]
    else:
        blocks += [_call(call) for call in chunk.tool_calls]
        blocks += [dict(call) for call in chunk.invalid_tool_calls]
    return cast("list[ContentBlock]", blocks)


def _said(message: AIMessage) -> list[Block]:
    content = message.content
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]


def _call(call: Any) -> Block:
    return {"type": "tool_call", "name": call["name"], "args": call["args"], "id": call["id"]}


def _call_chunk(chunk: ToolCallChunk) -> Block:
    return {
        "type": "tool_call_chunk",
        "id": chunk["id"],
        "name": chunk["name"],
        "args": chunk["args"],
        "index": CALL.format(chunk["index"]),
    }


class EventWriter:
    """Writes a stream as v3 events: every block starts once, grows, and is finished at the end."""

    def __init__(self, message_id: str, model: str) -> None:
        self._id = message_id
        self._model = model
        self._begun = False
        self._places: dict[str, int] = {}
        self._blocks: list[Block] = []
        self._pieces: list[list[str]] = []

    def write(self, delta: Delta | Ending) -> list[MessagesData]:
        """Return the events for what came; the first opens the message, the ending finishes it."""
        events: list[Any] = [] if self._begun else [self._begin()]
        if isinstance(delta, Ending):
            events += self._end(delta)
            return events
        reasoning, text, tools = delta
        if reasoning:
            self._grow(events, REASONING, "reasoning", reasoning)
        if text:
            self._grow(events, TEXT, "text", text)
        for chunk in tools:
            self._call(events, chunk)
        return events

    def _begin(self) -> Block:
        self._begun = True
        return {
            "event": "message-start",
            "role": "ai",
            "id": self._id,
            "metadata": {"provider": PROVIDER, "model": self._model},
        }

    def _end(self, ending: Ending) -> Iterator[Block]:
        for place, block in enumerate(self._blocks):
            finished = _finished(block, "".join(self._pieces[place]))
            yield {"event": "content-block-finish", "index": place, "content": finished}
        finish: Block = {"event": "message-finish", "metadata": ending.metadata}
        if ending.usage:
            finish["usage"] = ending.usage
        if REASONING in self._places:
            thought = "".join(self._pieces[self._places[REASONING]])
            finish["additional_kwargs"] = {"reasoning_content": thought}
        yield finish

    def _grow(
        self, events: list[Any], key: str, kind: Literal["text", "reasoning"], more: str
    ) -> None:
        place = self._places.get(key)
        if place is None:
            place = self._start(events, key, {"type": kind, kind: ""}, {"index": key})
        self._pieces[place].append(more)
        delta = {"type": _GROWTH[kind], kind: more}
        events.append({"event": "content-block-delta", "index": place, "delta": delta})

    def _call(self, events: list[Any], chunk: ToolCallChunk) -> None:
        key = CALL.format(chunk["index"])
        place = self._places.get(key)
        if place is None:
            block = {"type": "tool_call_chunk", "id": chunk["id"], "name": chunk["name"]}
            place = self._start(events, key, {**block, "args": "", "index": key}, {})
        if args := chunk["args"]:
            self._pieces[place].append(args)
            delta = {"type": "tool-call-delta", "args": args}
            events.append({"event": "content-block-delta", "index": place, "delta": delta})

    def _start(self, events: list[Any], key: str, skeleton: Block, kept: Block) -> int:
        place = self._places[key] = len(self._blocks)
        self._blocks.append({**skeleton, **kept})
        self._pieces.append([])
        events.append({"event": "content-block-start", "index": place, "content": skeleton})
        return place


def _finished(block: Block, whole: str) -> Block:
    if block["type"] != "tool_call_chunk":
        return {**block, block["type"]: whole}
    args = arguments(whole)
    known = {"id": block["id"], "name": block["name"]}
    if args is None or not block["name"]:
        error = "the arguments are not a JSON object"
        return {"type": "invalid_tool_call", **known, "args": whole, "error": error}
    return {"type": "tool_call", **known, "args": args}
