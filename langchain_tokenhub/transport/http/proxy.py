"""Lanes that go through a proxy.

They are left to httpcore, httpx's own engine, which knows how to speak to HTTP and SOCKS proxies,
over TLS too. It is imported when there is a proxy.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import httpcore
import httpx

from langchain_tokenhub.errors import redacted
from langchain_tokenhub.transport.http.connect import socket_options
from langchain_tokenhub.transport.http.connection import IDLE, Answer
from langchain_tokenhub.transport.http.sockets import PIECE, tls
from langchain_tokenhub.transport.send_state import SendState

P = TypeVar("P")


class _Proxied:
    """What sync and async lanes through a proxy have in common; httpcore looks after the rest."""

    over = False

    def __init__(self) -> None:
        self._stream: Any = None
        self._socket: Any = None
        """The connection to the proxy, which the engine forgets when it understands no answer."""

    def _note(self, send_state: SendState, name: str, info: dict[str, Any]) -> None:
        if name.endswith("connect_tcp.complete"):
            self._socket = info["return_value"]
        send_state.note(name, info)

    def _heard(self, answer: httpcore.Response) -> Answer:
        self._stream = answer.stream
        return Answer(answer.status, answer.headers, dict(answer.extensions))


class SyncProxyConnection(_Proxied):
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
        if self._socket is not None:
            self._socket.close()


class AsyncProxyConnection(_Proxied):
    """A lane of an event loop."""

    def __init__(self, proxy: httpx.Proxy) -> None:
        super().__init__()
        self._pool: httpcore.AsyncConnectionPool = _opened(
            proxy, http=httpcore.AsyncHTTPProxy, socks=httpcore.AsyncSOCKSProxy
        )

    async def ask(self, request: httpx.Request) -> Answer:  # noqa: D102
        send_state = request.extensions["progress"]

        async def note(name: str, info: dict[str, Any]) -> None:
            self._note(send_state, name, info)

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
        if self._socket is not None:
            await self._socket.aclose()


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


PROXY_TIME = 30.0
"""Seconds after which the system is asked anew which proxy it uses."""


def proxy_of(request: httpx.Request) -> httpx.Proxy | None:
    """Return the proxy for `request`; a pinned address is asked directly.

    So is plain http: it is for loopback alone, and a proxy would read the key.
    """
    if "sni_hostname" in request.extensions or request.url.scheme == "http":
        return None
    address = proxy_for(request.url.scheme, request.url.raw_host.decode("ascii"))
    return _known(address) if address else None


def _known(address: str) -> httpx.Proxy:
    """Return the proxy at `address`, which is in no message: it may hold a password."""
    try:
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None:
        raise httpx.ProxyError("the environment names a proxy that is none of http, https, socks5")
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise httpx.ProxyError("a SOCKS proxy needs a package: pip install 'httpx[socks]'")
    return proxy


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the environment's proxy for `host`."""
    said = tuple(os.environ.get(name) for name in _PROXY_VARIABLES)
    return _proxy_for(scheme, host, said, int(time.monotonic() // PROXY_TIME))


_PROXY_VARIABLES = tuple(
    spelled
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")
    for spelled in (name, name.upper())
)


@functools.lru_cache(maxsize=256)
def _proxy_for(scheme: str, host: str, _variables: tuple[str | None, ...], _: int) -> str | None:
    """Ask the system, which takes a while: again when a variable changes, and now and then."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
