"""POST /v1/chat/completions and GET /v1/models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from starlette.responses import Response, StreamingResponse

from langchain_tokenhub.testing.chat_replies import compute_answer
from langchain_tokenhub.testing.chat_script import Answer, ToolCall
from langchain_tokenhub.testing.chat_validation import (
    check_chat,
    count_tokens,
    pieces,
    prompt_tokens,
)
from langchain_tokenhub.testing.errors import Era
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.http import FOREVER, Exchange, drip, json_response, to_json
from langchain_tokenhub.testing.tables import chat_model, served_models

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"
_TOKEN_SECONDS = 0.03
_CREATED = 1774800000


async def models(x: Exchange) -> Response:
    """List the models of every kind, those that were added included."""
    rows = [
        {
            "id": name,
            "object": "model",
            "name": name,
            "created": _CREATED,
            "status": chat_model(name)["status"] if kind == "chat" else "online",
        }
        for name, kind in (dict.fromkeys(x.hub.models, "added") | served_models()).items()
    ]
    return json_response({"object": "list", "data": rows})


async def chat(x: Exchange) -> Response:
    """Answer a chat request, whole or as a stream."""
    row = check_chat(x.body, x.hub.era, x.hub.models)
    prompt = prompt_tokens(x.body)
    spent = x.hub.rates.admit(x.key, x.body["model"], x.hub.now(), prompt)
    answer = await x.hub.script.next_answer(x.received) or compute_answer(x.body, row)
    spent.tokens += answer.tokens
    calls = tuple(replace(c, id=c.id or f"call_{x.rng.uuid()[:13]}") for c in answer.calls)
    answer = replace(answer, calls=calls)
    envelope = Envelope(
        x.rng.uuid(), x.body["model"], int(x.hub.now()), x.hub.era, row["repeats_calls"]
    )
    usage = count_usage(answer, prompt, x.hub.cache.count(x.body), x.hub.era)
    if not x.body.get("stream"):
        await x.hub.sleep(_TOKEN_SECONDS * answer.tokens)
        return json_response(completion(answer, envelope, usage))
    options = x.body.get("stream_options") or {}
    events = list(frames(answer, envelope, usage if options.get("include_usage") else None))
    return StreamingResponse(_send_events(x, events), headers={"content-type": "text/event-stream"})


def count_usage(answer: Answer, prompt: int, cached: int, era: Era) -> Json:
    """Return the usage: that of a scripted answer, else what is counted.

    The guide writes `cached_token` without an s.
    """
    given = answer.usage
    prompt, cached = given.get("input_tokens", prompt), min(cached, prompt)
    written = given.get("output_tokens", answer.tokens)
    read = (given.get("input_token_details") or {}).get("cache_read", cached)
    thought = (given.get("output_token_details") or {}).get("reasoning")
    thought = count_tokens(answer.reasoning) if thought is None else thought
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_token" if era == "guide" else "cached_tokens": read},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


async def _send_events(x: Exchange, events: list[bytes]) -> AsyncIterator[bytes]:
    """Send a stream, and count it while it is open."""
    match x.fault:
        case Fault(kind="drip", seconds=seconds):
            sent = drip(b"".join(events), seconds)
        case fault:
            sent = _pace(x, events, fault)
    x.hub.streams += 1
    try:
        async with aclosing(sent):
            async for event in sent:
                yield event
    finally:
        x.hub.streams -= 1


async def _pace(
    x: Exchange, events: list[bytes], fault: Fault | None
) -> AsyncGenerator[bytes, None]:
    for number, event in enumerate(events):
        if fault and fault.after in (number, number - len(events)):
            async for extra in _fail(x, fault, event):
                yield extra
            if fault.kind == "error-in-200":
                return
        yield event
        await x.hub.sleep(_TOKEN_SECONDS)


async def _fail(x: Exchange, fault: Fault, event: bytes) -> AsyncIterator[bytes]:
    """Apply a failure in the middle of a stream, before an event."""
    match fault.kind:
        case "bad-sse":
            yield b'data: {"choices": [{"index": 0, "delta\n\n'
        case "duplicate":
            yield event
        case "error-in-200":
            yield frame(fault.error().body(x.hub.era, x.rng.uuid()))
        case "keep-alive":
            while True:
                yield b": keep-alive\n\n"
                await asyncio.sleep(0.02)
        case "cut":
            x.request.state.transport.close()
            await asyncio.sleep(FOREVER)
        case "stall":
            await asyncio.sleep(FOREVER)
        case _:
            return


# -- JSON and events ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Envelope:
    """What surrounds an answer.

    Args:
        repeats_calls: Whether every delta of a tool call repeats its id and has an empty name.
    """

    id: str
    model: str
    created: int
    era: Era
    repeats_calls: bool = False

    def head(self, *, is_chunk: bool) -> Json:
        """Return the first fields of a completion or a chunk.

        The guide's samples have no `created`, and those of chunks have the id alone.
        """
        if self.era == "guide" and is_chunk:
            return {"id": self.id}
        kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        head: Json = {"id": self.id, "object": kind, "model": self.model}
        return head if self.era == "guide" else head | {"created": self.created}


def completion(answer: Answer, envelope: Envelope, usage: Json) -> Json:
    """Build the answer without streaming.

    With tool calls the content is null in the guide's sample, and an empty string today.
    """
    message: Json = {"role": "assistant", "content": answer.content}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["content"] = answer.content or (None if envelope.era == "guide" else "")
        message["tool_calls"] = list(map(_call, answer.calls))
    choice = {"index": 0, "message": message, "finish_reason": answer.finish}
    return envelope.head(is_chunk=False) | {"choices": [choice], "usage": usage}


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def frames(answer: Answer, envelope: Envelope, usage: Json | None) -> Iterator[bytes]:
    """Build all events of a stream, with a usage chunk if there is one.

    Before the end `finish_reason` is null in the guide and absent today.
    """
    head, is_guide = envelope.head(is_chunk=True), envelope.era == "guide"
    open_choice: Json = {"finish_reason": None} if is_guide else {}
    for delta in _deltas(answer, envelope):
        yield frame(head | {"choices": [{"index": 0, "delta": delta, **open_choice}]})
    last = {"index": 0, "delta": {}, "finish_reason": answer.finish}
    yield frame(head | {"choices": [last]})
    if usage is not None:
        yield frame(head | {"choices": [], "usage": usage})
    yield DONE


def frame(data: Json) -> bytes:
    """Write one event."""
    return b"data: " + to_json(data) + b"\n\n"


def _deltas(answer: Answer, envelope: Envelope) -> Iterator[Json]:
    yield {"role": "assistant"}
    yield from ({"reasoning_content": piece} for piece in pieces(answer.reasoning))
    yield from ({"content": piece} for piece in pieces(answer.content))
    for at, call in enumerate(answer.calls):
        yield {"tool_calls": [{"index": at, **_call(replace(call, arguments=""))}]}
    for row in zip_longest(*(pieces(call.arguments) for call in answer.calls)):
        for at, piece in enumerate(row):
            if piece is not None:
                whole = _call(replace(answer.calls[at], name="", arguments=piece))
                delta = whole if envelope.repeats_calls else {"function": {"arguments": piece}}
                yield {"tool_calls": [{"index": at, **delta}]}
