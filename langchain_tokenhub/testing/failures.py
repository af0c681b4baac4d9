"""Answers that are none, or not as they should be."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from langchain_tokenhub.testing.errors import RefusedError, error_body, status_of
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.http import (
    Arrival,
    Exchange,
    arrive,
    authorised,
    json_response,
    refusal,
)
from langchain_tokenhub.testing.state import Hub

_GARBAGE = "<!doctype html><html><body><h1>Welcome</h1></body></html>"
_MOST_PIECES = 1000
FOREVER = 86400.0

Answer = Callable[[Arrival], Awaitable[Response]]
Handler = Callable[[Exchange], Awaitable[Response]]


def endpoint(hub: Hub, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Serve a path of the API."""

    async def answer(x: Arrival) -> Response:
        return await handler(authorised(x))

    return entrance(hub, answer)


def entrance(hub: Hub, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Wrap what answers: record, wait, fail to order, refuse."""

    async def serve(request: Request) -> Response:
        if hub.unreachable:
            return await _silence(request)
        try:
            x = await arrive(hub, request)
        except ClientDisconnect:
            return Response()
        await asyncio.sleep(_latency(x))
        try:
            given = await _strike(x) or await answer(x)
        except RefusedError as error:
            given = refusal(hub, x.dice, error)
        return _dripped(given, x.fault)

    return serve


def _latency(x: Arrival) -> float:
    asked = x.hub.latency
    return x.dice.roll(*asked) if isinstance(asked, tuple) else asked


async def _strike(x: Arrival) -> Response | None:
    """Fail at once, or return nothing where the handler has to do it."""
    match x.fault:
        case Fault(kind="status"):
            return _status(x, x.fault)
        case Fault(kind="garbage"):
            return Response(_GARBAGE, media_type="text/html")
        case Fault(kind="reset"):
            return await _reset(x.request)
        case Fault(kind="hang"):
            return await _silence(x.request)
        case Fault(kind="error-in-200") if not _is_chat(x.request):
            return json_response(inner_error(x, x.fault))
        case _:
            return None


def _is_chat(request: Request) -> bool:
    return request.url.path.endswith("/chat/completions")


def _status(x: Arrival, fault: Fault) -> Response:
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    code = fault.code or f"{fault.status or 500}001"
    status = fault.status or status_of(x.hub.era, code)
    if fault.body is not None:
        return Response(fault.body, status, headers)
    body = error_body(x.hub.era, status, code, fault.message, x.dice.uuid())
    return json_response(body, status, headers)


def inner_error(x: Arrival, fault: Fault) -> dict[str, Any]:
    """Build an error body that comes with HTTP 200."""
    code = fault.code or "500001"
    status = fault.status or status_of(x.hub.era, code)
    return error_body(x.hub.era, status, code, fault.message, x.dice.uuid())


async def _reset(request: Request) -> Response:
    """Reset the connection."""
    transport = request.state.transport
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return await _silence(request)


async def hang_up(request: Request) -> Response:
    """Close the connection without an answer."""
    request.state.transport.close()
    return await _silence(request)


async def _silence(request: Request) -> Response:
    """Wait until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
    return Response()


# -- piece by piece -----------------------------------------------------------------------------


def streamed(body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
    """Answer piece by piece; the content type is taken as given, without a charset."""
    return StreamingResponse(body, headers=dict(headers))


async def cut_short(raw: bytes, after: int, request: Request) -> AsyncIterator[bytes]:
    """Send the beginning of a body, then close the connection."""
    yield raw[:after]
    request.state.transport.close()
    await asyncio.sleep(FOREVER)


async def drip(raw: bytes, seconds: float) -> AsyncGenerator[bytes, None]:
    """Send a body evenly over a time, in pieces so small that characters are cut."""
    size = max(1, -(-len(raw) // _MOST_PIECES))
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    begun = time.monotonic()
    for number, piece in enumerate(pieces, 1):
        yield piece
        due = begun + seconds * number / len(pieces)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _dripped(given: Response, fault: Fault | None) -> Response:
    """Slow an answer down; a stream has done so itself."""
    if fault is None or fault.kind != "drip" or isinstance(given, StreamingResponse):
        return given
    body = drip(bytes(given.body), fault.seconds)
    return StreamingResponse(body, given.status_code, dict(given.headers))
