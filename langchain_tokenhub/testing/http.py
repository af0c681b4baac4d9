"""From an HTTP request to an answer in JSON, and the answers that are failures."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from langchain_tokenhub.testing.errors import RefusedError
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.state import EmulatorState, ReceivedRequest, Rng
from langchain_tokenhub.testing.tables import Body

BODY_LIMIT = 100 << 20
"""Bytes of a request; the largest holds a video (1823/136957)."""
FOREVER = 86400.0
_MAX_DEPTH = 100
_MAX_DRIP_PIECES = 1000
_GARBAGE = "<!doctype html><html><body><h1>Welcome</h1></body></html>"


@dataclass(frozen=True)
class Exchange:
    """A request, and what is needed to answer it.

    Args:
        raw: The body; None if it was too large to keep.
        fault: The fault injected for it.
        rng: For its ids and all else that is random.
        key: The API key of an authorised request.
    """

    hub: EmulatorState
    request: Request
    received: ReceivedRequest
    raw: bytes | None
    fault: Fault | None
    rng: Rng
    key: str = ""

    @property
    def body(self) -> Body:
        """The JSON object of an authorised POST."""
        body: Body = self.received.body
        return body

    @property
    def base(self) -> str:
        """Scheme, host and port as the client wrote them."""
        return str(self.request.base_url).rstrip("/")


Headers = Mapping[str, str]
Handler = Callable[[Exchange], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(hub: EmulatorState, handler: Handler, *, needs_key: bool = True) -> Endpoint:
    """Serve a path: record the request, wait, apply the injected fault, and answer."""

    async def serve(request: Request) -> Response:
        if hub.is_unreachable:
            return await _wait_for_disconnect(request)
        try:
            x = await _receive(hub, request)
        except ClientDisconnect:
            return Response()
        latency = hub.latency
        await asyncio.sleep(x.rng.uniform(*latency) if isinstance(latency, tuple) else latency)
        try:
            response = await _fail(x) or await handler(_authorise(x) if needs_key else x)
        except RefusedError as error:
            response = refusal(hub, x.rng, error)
        return _damage(x, response)

    return serve


# -- requests -----------------------------------------------------------------------------------


async def _receive(hub: EmulatorState, request: Request) -> Exchange:
    raw = await _read(request)
    method, path, headers = request.method, request.url.path, dict(request.headers)
    received = ReceivedRequest(
        method, path, request.url.query, headers, _parse(raw), at=hub.uptime()
    )
    hub.requests.append(received)
    key = headers.get("authorization", "")
    rng = hub.rng_for(method.encode(), path.encode(), key.encode(), raw or b"")
    return Exchange(hub, request, received, raw, hub.faults.take(method, path), rng)


async def _read(request: Request) -> bytes | None:
    """Read the whole body, even one too large to keep: a client reads the refusal only then."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size <= BODY_LIMIT:
            parts.append(part)
    return b"".join(parts) if size <= BODY_LIMIT else None


def _parse(raw: bytes | None) -> Any:
    """Read JSON; `int` refuses the words that JSON lacks, such as NaN."""
    try:
        value = json.loads(raw, parse_constant=int) if raw else None
        return value if _depth(value) <= _MAX_DEPTH else None
    except (ValueError, RecursionError):
        return None


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 1


def _authorise(x: Exchange) -> Exchange:
    """Check the key and the body.

    Raises:
        RefusedError: The key is not accepted, or the body is not a JSON object.
    """
    scheme, _, key = x.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise RefusedError("401001", "No API Key: send it as 'Authorization: Bearer <key>'.")
    if not x.hub.is_valid_key(key.strip()):
        raise RefusedError("401002", "API Key does not exist or signature verification failed.")
    if x.raw is None:
        raise RefusedError("413001", f"The request body exceeds {BODY_LIMIT >> 20} MB.")
    if x.request.method == "POST" and not isinstance(x.received.body, dict):
        raise RefusedError("400001", "The request body is not a JSON object.")
    return replace(x, key=key.strip())


# -- answers ------------------------------------------------------------------------------------


def to_json(data: Any) -> bytes:
    """Write JSON; Chinese is not escaped."""
    return json.dumps(data, ensure_ascii=False).encode(errors="replace")


def json_response(data: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """Answer with JSON."""
    return Response(to_json(data), status, headers, media_type="application/json")


def refusal(hub: EmulatorState, rng: Rng, error: RefusedError, raw: str | None = None) -> Response:
    """Answer with an error of the era, or with other text in its place."""
    status, wait = error.status_in(hub.era), error.retry_after
    headers = {} if wait is None else {"retry-after": str(wait)}
    if raw is not None:
        return Response(raw, status, headers)
    return json_response(error.body(hub.era, rng.uuid()), status, headers)


# -- failures -----------------------------------------------------------------------------------


async def _fail(x: Exchange) -> Response | None:
    """Answer with the injected fault; `None` where there is none or it is applied later."""
    is_streamed = isinstance(x.received.body, dict) and x.received.body.get("stream")
    match x.fault:
        case Fault(kind="status") as fault:
            return refusal(x.hub, x.rng, fault.error(), fault.body)
        case Fault(kind="garbage"):
            return Response(_GARBAGE, media_type="text/html")
        case Fault(kind="reset"):
            return await _reset(x.request)
        case Fault(kind="hang"):
            return await _wait_for_disconnect(x.request)
        case Fault(kind="error-in-200") as fault if not is_streamed:
            return json_response(fault.error().body(x.hub.era, x.rng.uuid()))
        case _:
            return None


async def _reset(request: Request) -> Response:
    transport, linger = request.state.transport, struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return await _wait_for_disconnect(request)


async def hang_up(request: Request) -> Response:
    """Close the connection without an answer."""
    request.state.transport.close()
    return await _wait_for_disconnect(request)


async def _wait_for_disconnect(request: Request) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        continue
    return Response()


async def drip(raw: bytes, seconds: float) -> AsyncGenerator[bytes, None]:
    """Send a body evenly over a time, in pieces so small that characters are cut."""
    size = max(1, -(-len(raw) // _MAX_DRIP_PIECES))
    started = time.monotonic()
    for at in range(0, len(raw), size):
        yield raw[at : at + size]
        due = started + seconds * (at + size) / len(raw)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _damage(x: Exchange, response: Response) -> Response:
    """Cut an answer short or let it drip; a stream does so itself."""
    if isinstance(response, StreamingResponse):
        return response
    raw, headers = bytes(response.body), dict(response.headers)
    match x.fault:
        case Fault(kind="drip", seconds=seconds):
            body = drip(raw, seconds)
        case Fault(kind="cut", after=after):
            is_file = x.request.method == "GET"
            body = _cut(x.request, raw[: after if is_file else len(raw) // 2])
        case _:
            return response
    return StreamingResponse(body, response.status_code, headers)


async def _cut(request: Request, raw: bytes) -> AsyncGenerator[bytes, None]:
    """Send the beginning of a body, then close the connection."""
    yield raw
    request.state.transport.close()
    await asyncio.sleep(FOREVER)
