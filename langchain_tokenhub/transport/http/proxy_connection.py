"""Connections through a proxy, with httpcore. Imported only if there is a proxy."""

from __future__ import annotations

import contextvars
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import httpcore
import httpx

from langchain_tokenhub.errors import redact_text
from langchain_tokenhub.transport.http.connect import MAX_IDLE, socket_options
from langchain_tokenhub.transport.http.parser import ResponseHead
from langchain_tokenhub.transport.http.sockets import WRITE_SIZE, tls
from langchain_tokenhub.transport.http.time_limits import (
    AsyncReader,
    AsyncTrace,
    SyncReader,
    Trace,
    send_in_time,
    send_in_time_async,
)

T = TypeVar("T")


def open_proxy(proxy: httpx.Proxy, *, is_async: bool) -> ProxyConnection:
    """Return a connection through `proxy`, not yet connected."""
    kind = _AsyncConnection if is_async else ProxyConnection
    prefix = "Async" if is_async else ""
    url = proxy.url
    options: dict[str, Any] = {
        "proxy_url": _url(url),
        "proxy_auth": proxy.raw_auth,
        "ssl_context": tls(),
        "max_connections": 1,
        "keepalive_expiry": MAX_IDLE,
    }
    if url.scheme.startswith("socks"):
        return kind(getattr(httpcore, f"{prefix}SOCKSProxy")(**options))
    if url.scheme == "https":
        options["proxy_ssl_context"] = tls()
    return kind(getattr(httpcore, f"{prefix}HTTPProxy")(**options, socket_options=socket_options()))


class ProxyConnection:
    """A connection that blocks its thread, with the methods of `DirectConnection`."""

    is_stale = False  # httpcore checks whether it is open

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        """A httpcore pool of one connection."""
        self._reader: Any = None
        self._socket: Any = None
        """The connection to the proxy, which httpcore leaves open after an invalid answer."""
        self._at_work: Future[Any] | None = None
        """The work of another thread with the connection."""

    async def send(self, request: httpx.Request) -> ResponseHead:  # noqa: D102
        with _redact_logs(), _map_errors():
            response = send_in_time(partial(self._send, request), request)
        self._reader = SyncReader(response.stream, response.extensions)
        return ResponseHead(response.status, response.headers)

    def _send(self, request: httpx.Request, trace: Trace) -> Any:
        sending = self._at_work = Future[None]()
        try:
            return self._pool.handle_request(_convert(request, partial(self._trace, trace)))
        finally:
            sending.set_result(None)

    def _trace(self, trace: Callable[..., T], name: str, info: dict[str, Any]) -> T:
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"]
        return trace(name, info)

    async def body(self) -> AsyncGenerator[bytes, None]:  # noqa: D102
        with _map_errors():
            async with aclosing(self._reader.pieces()) as pieces:
                async for piece in pieces:
                    yield piece

    def limit_body(self, seconds: float) -> None:  # noqa: D102
        self._reader.limit_body(seconds)

    async def release(self) -> bool:  # noqa: D102
        self._reader.stream.close()
        return True

    async def close(self) -> None:  # noqa: D102
        if self._at_work is None:
            return
        if not self._at_work.done() and self._socket is not None:
            with suppress(OSError):  # it ends the thread that still reads
                self._socket.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._at_work.add_done_callback(self._close)

    def _close(self, _: Future[Any]) -> None:
        self._pool.close()
        if self._socket is not None:
            self._socket.close()


class _AsyncConnection(ProxyConnection):
    """A connection of an event loop."""

    async def send(self, request: httpx.Request) -> ResponseHead:
        def send(trace: AsyncTrace) -> Any:
            return self._pool.handle_async_request(_convert(request, partial(self._trace, trace)))

        with _redact_logs(), _map_errors():
            response = await send_in_time_async(send, request)
        self._reader = AsyncReader(response.stream)
        return ResponseHead(response.status, response.headers)

    async def release(self) -> bool:
        await self._reader.stream.aclose()
        return True

    async def close(self) -> None:
        await self._pool.aclose()
        if self._socket is not None:
            await self._socket.aclose()


def _url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _convert(request: httpx.Request, trace: Callable[..., Any]) -> httpcore.Request:
    return httpcore.Request(
        request.method,
        _url(request.url),
        headers=request.headers.raw,
        content=_Content(request.content),
        extensions={"timeout": request.extensions["timeout"], "trace": trace},
    )


class _Content:
    """A request body in pieces, since each has the whole write timeout."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), WRITE_SIZE):
            yield self._content[start : start + WRITE_SIZE]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_SOCKS_ERRORS: tuple[type[Exception], ...] = (
    (import_module("socksio").SOCKSError,) if find_spec("socksio") is not None else ()
)
"""Errors of an optional package, which httpcore does not map."""


@contextmanager
def _map_errors() -> Iterator[None]:
    """Raise httpcore's errors as httpx's, which have the same names."""
    try:
        yield
    except _ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
    except _SOCKS_ERRORS as error:
        raise httpx.ProxyError("the proxy's answer is not SOCKS") from error


_is_redacting: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "tokenhub_is_redacting", default=False
)
"""Whether httpcore is handling a request of this package."""


@contextmanager
def _redact_logs() -> Iterator[None]:
    token = _is_redacting.set(True)
    try:
        yield
    finally:
        _is_redacting.reset(token)


def _redact(record: logging.LogRecord) -> bool:
    """Remove signed links (a redirect's Location) and passwords from httpcore's log lines."""
    if not _is_redacting.get():
        return True
    record.msg, record.args = redact_text(record.getMessage()), ()
    return record.name != "httpcore.socks"  # its lines quote the proxy's password


for _name in ("http11", "connection", "proxy", "socks"):
    logging.getLogger(f"httpcore.{_name}").addFilter(_redact)
