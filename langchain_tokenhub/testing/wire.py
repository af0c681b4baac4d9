"""From an HTTP request to an answer, and to answers that are none."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from langchain_tokenhub.testing.errors import RefusedError, error_body, status_of
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.hub import Hub, Received

_GARBAGE = "<!doctype html><html><body><h1>Welcome</h1></body></html>"
FOREVER = 86400.0


@dataclass(frozen=True)
class Exchange:
    """One authorised request with a JSON object.

    Args:
        fault: A failure that strikes inside the handler.
        base: Where this server was reached.
    """

    hub: Hub
    request: Request
    body: dict[str, Any]
    fault: Fault | None
    key: str

    @property
    def base(self) -> str:
        """Return scheme, host and port as the client wrote them."""
        return str(self.request.base_url).rstrip("/")


Handler = Callable[[Exchange], Awaitable[Response]]


def json_response(
    data: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON; Chinese goes out as it is."""
    raw = json.dumps(data, ensure_ascii=False).encode(errors="replace")
    return Response(raw, status, headers, media_type="application/json")


def refusal(hub: Hub, error: RefusedError) -> Response:
    """Answer with an error in the words of the era."""
    body = error_body(hub.era, error.status, error.code, error.message, hub.uuid())
    return json_response(body, status_of(hub.era, error.status, error.code))


def endpoint(hub: Hub, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: record, fail to order, check the key, read the body."""

    async def serve(request: Request) -> Response:
        raw = await request.body()
        fault = take_fault(hub, request, raw)
        if fault and (failed := await strike(hub, fault, request)):
            return failed
        try:
            key = _check_key(hub, request)
            body = _read(raw) if request.method == "POST" else {}
            return await handler(Exchange(hub, request, body, fault, key))
        except RefusedError as error:
            return refusal(hub, error)

    return serve


def take_fault(hub: Hub, request: Request, raw: bytes) -> Fault | None:
    """Record a request and see whether it is to fail."""
    hub.requests.append(
        Received(
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers=dict(request.headers),
            body=_parsed(raw),
            at=hub.uptime(),
        )
    )
    return hub.faults.take(request.method, request.url.path)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def _read(raw: bytes) -> dict[str, Any]:
    body = _parsed(raw)
    if not isinstance(body, dict):
        raise RefusedError(400, "400001", "The request body is not a JSON object.")
    return body


def _check_key(hub: Hub, request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hub.accepts(key.strip()):
        raise RefusedError(
            401, "401002", "API Key does not exist or signature verification failed."
        )
    return key.strip()


# -- failures -----------------------------------------------------------------------------------


async def strike(hub: Hub, fault: Fault, request: Request) -> Response | None:
    """Fail at once, or return nothing where the handler has to do it."""
    match fault.kind:
        case "status":
            return _status(hub, fault)
        case "garbage":
            return Response(_GARBAGE, media_type="text/html")
        case "reset":
            return await reset(request)
        case "hang":
            return await _silence(request)
        case "error-in-200" if not _is_chat(request):
            return json_response(inner_error(hub, fault))
        case _:
            return None


def _is_chat(request: Request) -> bool:
    return request.url.path.endswith("/chat/completions")


def _status(hub: Hub, fault: Fault) -> Response:
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    if fault.body is not None:
        return Response(fault.body, fault.status, headers)
    code = fault.code or f"{fault.status}001"
    body = error_body(hub.era, fault.status, code, fault.message, hub.uuid())
    return json_response(body, fault.status, headers)


def inner_error(hub: Hub, fault: Fault) -> dict[str, Any]:
    """Build an error body that comes with HTTP 200."""
    return error_body(hub.era, fault.status, fault.code or "500001", fault.message, hub.uuid())


async def reset(request: Request) -> Response:
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


def streamed(body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
    """Answer piece by piece; the content type is taken as given, without a charset."""
    return StreamingResponse(body, headers=dict(headers))


async def cut_short(raw: bytes, after: int, request: Request) -> AsyncIterator[bytes]:
    """Send the beginning of a body, then close the connection."""
    yield raw[:after]
    request.state.transport.close()
    await asyncio.sleep(FOREVER)
