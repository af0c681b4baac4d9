"""POST /v1/chat/completions and GET /v1/models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

from starlette.responses import Response

from langchain_tokenhub.testing.chat_replies import answer
from langchain_tokenhub.testing.chat_validation import check_chat
from langchain_tokenhub.testing.failures import FOREVER, cut_short, drip, inner_error, streamed
from langchain_tokenhub.testing.families import listed
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.http import Exchange, json_response
from langchain_tokenhub.testing.stream import Envelope, Json, frame, frames, whole
from langchain_tokenhub.testing.tables import table
from langchain_tokenhub.testing.usage import usage

_DELTA_SECONDS = 0.03
_CREATED = 1774800000


async def models(_: Exchange) -> Response:
    """List what the key may use, of every modality."""
    media = [{"id": name, "status": "online"} for name in table("media_rules")["model"]]
    rows = [
        {"id": row["id"], "object": "model", "name": row["id"], "created": _CREATED}
        | {"status": row["status"]}
        for row in [*listed(), *media]
    ]
    return json_response({"object": "list", "data": rows})


async def chat(x: Exchange) -> Response:
    """Answer a chat request, whole or as a stream."""
    row = check_chat(x.body, x.hub.era)
    reply = answer(x.body, row)
    bill = usage(x.hub.era, x.body, reply, x.hub.cache.tokens(x.body))
    who = x.key, x.body["model"]
    x.hub.rates.admit(who, x.hub.now(), bill["prompt_tokens"], bill["total_tokens"])
    envelope = Envelope(
        id=x.dice.uuid(),
        model=x.body["model"],
        created=int(x.hub.now()),
        era=x.hub.era,
        call_ids=tuple(f"call_{x.dice.uuid()[:13]}" for _ in reply.calls),
        repeats_calls=row.repeats_calls,
    )
    if not x.body.get("stream"):
        await x.hub.sleep(_DELTA_SECONDS * reply.tokens)
        return _whole(x, whole(reply, envelope, bill))
    asked = (x.body.get("stream_options") or {}).get("include_usage")
    events = list(frames(reply, envelope, bill if asked else None))
    return streamed(_counted(x, _sent(x, events)), {"content-type": "text/event-stream"})


def _whole(x: Exchange, data: Json) -> Response:
    match x.fault:
        case Fault(kind="error-in-200"):
            return json_response(inner_error(x.arrival, x.fault))
        case Fault(kind="cut"):
            raw = json.dumps(data, ensure_ascii=False).encode(errors="replace")
            headers = {"content-type": "application/json", "content-length": str(len(raw))}
            return streamed(cut_short(raw, len(raw) // 2, x.arrival.request), headers)
        case _:
            return json_response(data)


async def _counted(x: Exchange, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    x.hub.streams += 1
    try:
        async with aclosing(events) as open_events:
            async for event in open_events:
                yield event
    finally:
        x.hub.streams -= 1


def _sent(x: Exchange, events: list[bytes]) -> AsyncGenerator[bytes, None]:
    match x.fault:
        case Fault(kind="drip", seconds=seconds):
            return drip(b"".join(events), seconds)
        case _:
            return _paced(x, events)


async def _paced(x: Exchange, events: list[bytes]) -> AsyncGenerator[bytes, None]:
    for number, event in enumerate(events):
        if x.fault and x.fault.after in (number, number - len(events)):
            async for odd in _broken(x, x.fault, event):
                yield odd
            if x.fault.kind == "error-in-200":
                return
        yield event
        await x.hub.sleep(_DELTA_SECONDS)


async def _broken(x: Exchange, fault: Fault, event: bytes) -> AsyncIterator[bytes]:
    """Do what a fault wants in the middle of a stream, before an event."""
    match fault.kind:
        case "bad-sse":
            yield b'data: {"choices": [{"index": 0, "delta\n\n'
        case "duplicate":
            yield event
        case "error-in-200":
            yield frame(inner_error(x.arrival, fault))
        case "keep-alive":
            for comment in _comments():
                yield comment
                await asyncio.sleep(0.02)
        case "cut":
            x.arrival.request.state.transport.close()
            await asyncio.sleep(FOREVER)
        case "stall":
            await asyncio.sleep(FOREVER)
        case _:
            return


def _comments() -> Iterator[bytes]:
    while True:
        yield b": keep-alive\n\n"
