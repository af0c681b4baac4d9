"""Chat answers as JSON, and as server-sent events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from langchain_tokenhub.testing.chat_replies import Answer
from langchain_tokenhub.testing.errors import Era

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Envelope:
    """What stands around every answer.

    Args:
        call_ids: One for each tool call.
        repeats_calls: Whether every delta of a tool call repeats its id and has an empty name.
    """

    id: str
    model: str
    created: int
    era: Era
    call_ids: tuple[str, ...]
    repeats_calls: bool = False

    def head(self) -> Json:
        """Begin an answer; the guide's samples have no `created`."""
        head: Json = {"id": self.id, "object": "chat.completion", "model": self.model}
        return head if self.era == "guide" else head | {"created": self.created}

    def chunk_head(self) -> Json:
        """Begin a chunk; the guide's sample has the id alone."""
        kind = {"object": "chat.completion.chunk"}
        return {"id": self.id} if self.era == "guide" else self.head() | kind


def whole(answer: Answer, envelope: Envelope, usage: Json) -> Json:
    """Build the answer without streaming."""
    message: Json = {"role": "assistant", "content": "".join(answer.content)}
    if answer.reasoning:
        message["reasoning_content"] = "".join(answer.reasoning)
    if answer.calls:
        message["content"] = message["content"] or _no_words(envelope)
        message["tool_calls"] = [
            _call(envelope.call_ids[at], name, "".join(arguments))
            for at, (name, arguments) in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish}
    return envelope.head() | {"choices": [choice], "usage": usage}


def _no_words(envelope: Envelope) -> str | None:
    """Content beside tool calls: null in the guide's sample, an empty string today."""
    return None if envelope.era == "guide" else ""


def _call(call_id: str, name: str, arguments: str) -> Json:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def frames(answer: Answer, envelope: Envelope, usage: Json | None) -> Iterator[bytes]:
    """Build all events of a stream, with a usage chunk if there is one."""
    head = envelope.chunk_head()
    for delta in _deltas(answer, envelope):
        yield frame(head | {"choices": [_choice(delta, None, envelope)]})
    yield frame(head | {"choices": [_choice({}, answer.finish, envelope)]})
    if usage is not None:
        yield frame(head | {"choices": [], "usage": usage})
    yield DONE


def frame(data: Json) -> bytes:
    """Write one event; Chinese goes out as it is."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode(errors="replace") + b"\n\n"


def _choice(delta: Json, finish: str | None, envelope: Envelope) -> Json:
    """Before the end `finish_reason` is null in the guide and absent today."""
    choice: Json = {"index": 0, "delta": delta}
    if finish is not None or envelope.era == "guide":
        choice["finish_reason"] = finish
    return choice


def _deltas(answer: Answer, envelope: Envelope) -> Iterator[Json]:
    yield {"role": "assistant"}
    for piece in answer.reasoning:
        yield {"reasoning_content": piece}
    for piece in answer.content:
        yield {"content": piece}
    for at, (name, _) in enumerate(answer.calls):
        yield {"tool_calls": [{"index": at, **_call(envelope.call_ids[at], name, "")}]}
    rounds = zip_longest(*(arguments for _, arguments in answer.calls))
    for pieces in rounds:
        for at, piece in enumerate(pieces):
            if piece is not None:
                yield {"tool_calls": [_more(at, piece, envelope)]}


def _more(at: int, piece: str, envelope: Envelope) -> Json:
    if not envelope.repeats_calls:
        return {"index": at, "function": {"arguments": piece}}
    return {"index": at, **_call(envelope.call_ids[at], "", piece)}
