"""From an HTTP request to an answer in JSON, and the answers that are failures."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from langchain_tokenhub.testing.errors import Fault, RefusedError
from langchain_tokenhub.testing.state import EmulatorState, ReceivedRequest, Rng
from langchain_tokenhub.testing.tables import Body

_BODY_LIMIT = 100 << 20
"""Bytes of a request; the largest holds a video (1823/136957)."""
_INVALID_KEY_PREFIXES = ("wrong", "sk-wrong")
_MAX_DRIP_PIECES = 1000
_GARBAGE = "<!doctype html><html><body><h1>Welcome</h1></body></html>"


@dataclass(frozen=True)
class Exchange:
    """A request, the fault injected for it, and the random numbers of its answer."""

    hub: EmulatorState
    request: Request
    received: ReceivedRequest
    raw: bytes
    fault: Fault | None
    rng: Rng

    @property
    def body(self) -> Body:
        """The JSON object of an authorised POST."""
        body: Body = self.received.body
        return body

    @property
    def key(self) -> str:
        """The API key, or an empty text."""
        scheme, _, key = self.request.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    @property
    def base(self) -> str:
        """Scheme, host and port as the client wrote them."""
        return str(self.request.base_url).rstrip("/")

    def error_body(self, error: RefusedError) -> dict[str, Any]:
        """Return the JSON of an error."""
        return error.answer(self.hub.era, self.rng.uuid())[1]


Handler = Callable[[Exchange], Awaitable[Response]]


async def respond(hub: EmulatorState, handler: Handler, request: Request) -> Response:
    """Record a request, wait, apply the injected fault, and answer."""
    if hub.is_unreachable:
        return await wait_for_disconnect(request)
    try:
        x = await _receive(hub, request)
    except ClientDisconnect:
        return Response()
    latency = hub.latency
    await asyncio.sleep(x.rng.uniform(*latency) if isinstance(latency, tuple) else latency)
    try:
        response = await _fail(x) or await handler(x)
        if x.fault and x.fault.kind == "lost-answer":
            return await close_connection(x.request)
    except RefusedError as error:
        response = _refuse(x, error)
    except RecursionError:
        response = _refuse(x, RefusedError("400001", "The request body is nested too deeply."))
    except Exception as error:  # noqa: BLE001  # the client of a test has to see what failed
        response = _refuse(x, RefusedError("500001", f"The emulator itself failed: {error!r}"))
    return await _alter_response(x, response)


async def _receive(hub: EmulatorState, request: Request) -> Exchange:
    raw, method, path = await request.body(), request.method, request.url.path
    headers = dict(request.headers)
    received = ReceivedRequest(
        method, path, request.url.query, headers, _parse(raw), at=hub.uptime()
    )
    hub.requests.append(received)
    key = headers.get("authorization", "")
    rng = hub.rng_for(method.encode(), path.encode(), key.encode(), raw)
    return Exchange(hub, request, received, raw, hub.faults.take(method, path), rng)


def _parse(raw: bytes) -> Any:
    """Read JSON; `int` refuses the words that JSON lacks, such as NaN."""
    try:
        return json.loads(raw, parse_constant=int) if len(raw) <= _BODY_LIMIT else None
    except (ValueError, RecursionError):
        return None


def authorise(x: Exchange) -> None:
    """Refuse a request whose key or body is not valid."""
    keys = [x.hub.api_key] if isinstance(x.hub.api_key, str) else x.hub.api_key
    if not x.key:
        raise RefusedError("401001", "No API Key: send it as 'Authorization: Bearer <key>'.")
    is_valid = x.key in keys if keys else not x.key.startswith(_INVALID_KEY_PREFIXES)
    if not is_valid:
        raise RefusedError("401002", "API Key does not exist or signature verification failed.")
    if len(x.raw) > _BODY_LIMIT:
        raise RefusedError("413001", f"The request body exceeds {_BODY_LIMIT >> 20} MB.")
    if x.request.method == "POST" and not isinstance(x.received.body, dict):
        raise RefusedError("400001", "The request body is not a JSON object.")


# -- answers ------------------------------------------------------------------------------------


def to_json(data: Any) -> bytes:
    """Write JSON; Chinese is not escaped."""
    return json.dumps(data, ensure_ascii=False).encode(errors="replace")


def json_response(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(to_json(data), status, headers, media_type="application/json")


def _refuse(x: Exchange, error: RefusedError, raw: str | None = None) -> Response:
    """Answer with an error, or with other text in its place."""
    status, body = error.answer(x.hub.era, x.rng.uuid())
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return json_response(body, status, headers) if raw is None else Response(raw, status, headers)


# -- failures -----------------------------------------------------------------------------------


async def _fail(x: Exchange) -> Response | None:
    """Answer with the injected fault; `None` where there is none or it is applied later."""
    is_streamed = isinstance(x.received.body, dict) and x.received.body.get("stream")
    match x.fault:
        case Fault(kind="status" | "refuse") as fault:
            return _refuse(x, fault.error(), fault.body)
        case Fault(kind="garbage"):
            return Response(_GARBAGE, media_type="text/html")
        case Fault(kind="reset"):
            return await _reset(x.request)
        case Fault(kind="hang"):
            return await wait_for_disconnect(x.request)
        case Fault(kind="error-in-200") as fault if not is_streamed:
            return json_response(x.error_body(fault.error()))
        case _:
            return None


async def _reset(request: Request) -> Response:
    transport, linger = request.state.transport, struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    return await wait_for_disconnect(request)


async def close_connection(request: Request) -> Response:
    """Close the connection."""
    request.state.transport.close()
    return await wait_for_disconnect(request)


async def wait_for_disconnect(request: Request) -> Response:
    """Send nothing more."""
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


async def _alter_response(x: Exchange, response: Response) -> Response:
    """Cut an answer short, or let it drip; a stream does so itself."""
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
    await close_connection(request)
