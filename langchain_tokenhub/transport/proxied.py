"""Lanes that go through a proxy.

They are left to httpcore, httpx's own engine, which knows how to speak to HTTP and SOCKS proxies,
over TLS too. It is imported when there is a proxy.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import httpcore
import httpx

from langchain_tokenhub.errors import redacted
from langchain_tokenhub.transport.dial import socket_options
from langchain_tokenhub.transport.lane import IDLE, Answer
from langchain_tokenhub.transport.line import PIECE, tls
from langchain_tokenhub.transport.progress import Progress

P = TypeVar("P")


class _Proxied:
    """What sync and async lanes through a proxy have in common; httpcore looks after the rest."""

    over = False

    def __init__(self) -> None:
        self._stream: Any = None
        self._plug: Any = None
        """The connection to the proxy, which the engine forgets when it understands no answer."""

    def _note(self, progress: Progress, name: str, info: dict[str, Any]) -> None:
        if name.endswith("connect_tcp.complete"):
            self._plug = info["return_value"]
        progress.note(name, info)

    def _heard(self, answer: httpcore.Response) -> Answer:
        self._stream = answer.stream
        return Answer(answer.status, answer.headers, dict(answer.extensions))


class SyncProxied(_Proxied):
    """A lane that blocks its thread."""

    def __init__(self, proxy: httpx.Proxy) -> None:
        super().__init__()
        self._pool: httpcore.ConnectionPool = _opened(
            proxy, http=httpcore.HTTPProxy, socks=httpcore.SOCKSProxy
        )

    async def ask(self, request: httpx.Request) -> Answer:  # noqa: D102
        note = partial(self._note, request.extensions["progress"])
        with _ours(), _named():
            return self._heard(self._pool.handle_request(_told(request, note)))

    async def pieces(self) -> AsyncGenerator[bytes, None]:  # noqa: D102
        with _named():
            for piece in self._stream:
                yield piece

    async def leave(self) -> bool:  # noqa: D102
        self._stream.close()
        return True

    async def close(self) -> None:  # noqa: D102
        self._pool.close()
        if self._plug is not None:
            self._plug.close()


class AsyncProxied(_Proxied):
    """A lane of an event loop."""

    def __init__(self, proxy: httpx.Proxy) -> None:
        super().__init__()
        self._pool: httpcore.AsyncConnectionPool = _opened(
            proxy, http=httpcore.AsyncHTTPProxy, socks=httpcore.AsyncSOCKSProxy
        )

    async def ask(self, request: httpx.Request) -> Answer:  # noqa: D102
        progress = request.extensions["progress"]

        async def note(name: str, info: dict[str, Any]) -> None:
            self._note(progress, name, info)

        with _ours(), _named():
            return self._heard(await self._pool.handle_async_request(_told(request, note)))

    async def pieces(self) -> AsyncGenerator[bytes, None]:  # noqa: D102
        with _named():
            async with aclosing(aiter(self._stream)) as pieces:
                async for piece in pieces:
                    yield piece

    async def leave(self) -> bool:  # noqa: D102
        await self._stream.aclose()
        return True

    async def close(self) -> None:  # noqa: D102
        await self._pool.aclose()
        if self._plug is not None:
            await self._plug.aclose()


def _opened(proxy: httpx.Proxy, *, http: Callable[..., P], socks: Callable[..., P]) -> P:
    """Return a pool of one connection through `proxy`."""
    url = proxy.url
    through: dict[str, Any] = {
        "proxy_url": httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        "proxy_auth": proxy.raw_auth,
        "ssl_context": tls(),
        "max_connections": 1,
        "keepalive_expiry": IDLE,
    }
    if url.scheme.startswith("socks"):
        return socks(**through)
    secure = {"proxy_ssl_context": tls()} if url.scheme == "https" else {}
    return http(**through, **secure, socket_options=socket_options())


def _told(request: httpx.Request, trace: Callable[..., Any]) -> httpcore.Request:
    """Return `request` in the engine's terms."""
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=_Content(request.content),
        extensions={"timeout": request.extensions["timeout"], "trace": trace},
    )


class _Content:
    """A body that leaves in pieces: the engine gives each the whole write timeout."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), PIECE):
            yield self._content[start : start + PIECE]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
"""The engine's errors."""
_SOCKS: tuple[type[Exception], ...] = (
    (import_module("socksio").SOCKSError,) if find_spec("socksio") is not None else ()
)
"""Those of a package that only some have, which the engine lets pass."""


@contextmanager
def _named() -> Iterator[None]:
    """Raise the engine's errors as httpx's, which have the same names."""
    try:
        yield
    except _FAILURES as failure:
        raise getattr(httpx, type(failure).__name__)(str(failure)) from failure
    except _SOCKS as failure:
        raise httpx.ProxyError("what answers is no SOCKS proxy") from failure


_at_work: contextvars.ContextVar[bool] = contextvars.ContextVar("tokenhub_at_work", default=False)
"""Whether the engine works for us: then `_redact` looks after what it logs."""


@contextmanager
def _ours() -> Iterator[None]:
    token = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(token)


def _redact(record: logging.LogRecord) -> bool:
    """Take signed links (a redirect's Location) and passwords out of the library's own lines."""
    if not _at_work.get():
        return True
    record.msg, record.args = redacted(record.getMessage()), ()
    return record.name != "httpcore.socks"  # whose lines quote the proxy's password


for _name in ("http11", "connection", "proxy", "socks"):
    logging.getLogger(f"httpcore.{_name}").addFilter(_redact)
