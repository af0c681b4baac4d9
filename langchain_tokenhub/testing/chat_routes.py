"""POST /v1/chat/completions, POST /v1/embeddings and GET /v1/models."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import Any
from zlib import crc32

from starlette.responses import Response, StreamingResponse

from langchain_tokenhub.testing.chat_replies import compute_answer
from langchain_tokenhub.testing.chat_script import Answer, ToolCall
from langchain_tokenhub.testing.chat_validation import (
    check_chat,
    check_embeddings,
    count_tokens,
    message_tokens,
    pieces,
)
from langchain_tokenhub.testing.errors import Era, Fault
from langchain_tokenhub.testing.http import (
    Exchange,
    close_connection,
    drip,
    json_response,
    to_json,
    wait_for_disconnect,
)
from langchain_tokenhub.testing.tables import Body, chat_model, served_models

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
    row, prompt = check_chat(x.body, x.hub.era, x.hub.models)
    spent = x.hub.admit_chat(x.key, x.body["model"], prompt)
    answer = await x.hub.script.next_answer(x.received) or compute_answer(x.body, row)
    spent.tokens += answer.tokens
    calls = tuple(replace(c, id=c.id or f"call_{x.rng.uuid()[:13]}") for c in answer.calls)
    answer = replace(answer, calls=calls)
    envelope = Envelope(
        x.rng.uuid(), x.body["model"], int(x.hub.now()), x.hub.era, row["repeats_calls"]
    )
    usage = _count_usage(answer, prompt, _count_cached(x.body, x.hub.conversations), x.hub.era)
    if not x.body.get("stream"):
        await x.hub.sleep(_TOKEN_SECONDS * answer.tokens)
        return json_response(completion(answer, envelope, usage))
    options = x.body.get("stream_options") or {}
    events = list(frames(answer, envelope, usage if options.get("include_usage") else None))
    return StreamingResponse(_send_events(x, events), headers={"content-type": "text/event-stream"})


def _count_cached(body: Body, conversations: set[int]) -> int:
    """Return the tokens of the longest beginning asked before, and record this conversation."""
    mark, known, total = hash(body["model"]), 0, 0
    for message in body["messages"]:
        mark = hash((mark, json.dumps(message, sort_keys=True)))
        total += message_tokens(message)
        known = total if mark in conversations else known
        conversations.add(mark)
    return known


def _count_usage(answer: Answer, prompt: int, cached: int, era: Era) -> Json:
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


async def _send_events(x: Exchange, events: list[bytes]) -> AsyncGenerator[bytes, None]:
    """Send a stream token by token, and count it while it is open."""
    fault = x.fault
    x.hub.streams += 1
    try:
        if fault and fault.kind == "drip":
            async for piece in drip(b"".join(events), fault.seconds):
                yield piece
            return
        for number, event in enumerate(events):
            if fault and fault.after in (number, number - len(events)):
                async for extra in _fail(x, fault, event):
                    yield extra
                if fault.kind == "error-in-200":
                    return
            yield event
            await x.hub.sleep(_TOKEN_SECONDS)
    finally:
        x.hub.streams -= 1


async def _fail(x: Exchange, fault: Fault, event: bytes) -> AsyncIterator[bytes]:
    """Apply a failure in the middle of a stream, before an event."""
    match fault.kind:
        case "bad-sse":
            yield b'data: {"choices": [{"index": 0, "delta\n\n'
        case "duplicate":
            yield event
        case "error-in-200":
            yield frame(x.error_body(fault.error()))
        case "keep-alive":
            while True:
                yield b": keep-alive\n\n"
                await asyncio.sleep(0.02)
        case "cut":
            await close_connection(x.request)
        case "stall":
            await wait_for_disconnect(x.request)


# -- JSON and events ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Envelope:
    """What surrounds an answer; `repeats_calls` is a column of `models.toml`."""

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


# -- embeddings ---------------------------------------------------------------------------------


async def embeddings(x: Exchange) -> Response:
    """Answer with a vector for each text."""
    size, texts = check_embeddings(x.body, x.hub.models), x.body["input"]
    texts = [texts] if isinstance(texts, str) else texts
    data = [
        {"object": "embedding", "index": index, "embedding": vector_of(text, size)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "model": x.body["model"], "data": data, "usage": usage})


@lru_cache(maxsize=1024)
def vector_of(text: str, size: int) -> list[float]:
    """Return counts of a text's runs of 1 to 3 characters, hashed into a vector of length 1."""
    vector = [0.0] * size
    plain = text.lower()
    for run in (plain[at : at + n] for n in (1, 2, 3) for at in range(len(plain) - n + 1)):
        place = crc32(run.encode(errors="replace"))
        vector[place % size] += 1 if place & 1 << 31 else -1
    length = math.hypot(*vector)
    return [number / length for number in vector]
