"""One connection to one origin, with one face for sync and async.

A lane is a connection of httpcore, httpx's own engine, without the pool that httpx puts around it:
a pool of one costs as much CPU again as the connection. What differs between sync and async is
here; `lanes` says once who may use which lane.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from importlib.util import find_spec
from typing import Any, Generic, Protocol, TypeVar, cast

import httpcore
import httpx

IDLE = 30.0
"""Seconds that an idle lane is kept: a human turn does not pay for a new TLS handshake."""
PROXY_TIME = 30.0
"""Seconds after which the system is asked anew which proxy it uses."""
PIECE = 256 * 1024
"""Bytes of a large request that are written at once; each piece has the whole write timeout."""

T = TypeVar("T")
P = TypeVar("P")

FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
"""The engine's errors."""


@contextmanager
def named() -> Iterator[None]:
    """Raise the engine's errors as httpx's, which have the same names."""
    try:
        yield
    except FAILURES as failure:
        raise getattr(httpx, type(failure).__name__)(str(failure)) from failure


class Lane(Protocol):
    """One connection, used by one request at a time."""

    @property
    def closed(self) -> bool:
        """Whether the connection has ended here, as it does when an answer is left early."""
        ...

    @property
    def over(self) -> bool:
        """Whether an idle lane is of no more use: closed, or left by the server."""
        ...

    async def ask(self, request: httpcore.Request) -> httpcore.Response:
        """Send, and return the answer with its body not yet read."""
        ...

    def pieces(self, answer: httpcore.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes."""
        ...

    async def leave(self, answer: httpcore.Response) -> None:
        """Be done with an answer; the connection ends unless the answer was read whole."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class _Lane(Generic[T]):
    """What sync and async lanes have in common: how a connection is opened, and whether it ended.

    A proxy's pool of one looks after its connection itself.
    """

    def __init__(self, line: T) -> None:
        self._line = line

    @property
    def closed(self) -> bool:
        """Whether the connection has ended here, as it does when an answer is left early."""
        return isinstance(self._line, _DIRECT) and self._line.is_closed()

    @property
    def over(self) -> bool:
        """Whether an idle lane is of no more use: closed, or left by the server."""
        line = self._line
        if not isinstance(line, _DIRECT):
            return False
        return line.is_closed() or line.has_expired() or _more_was_said(line)


_DIRECT = (httpcore.HTTPConnection, httpcore.AsyncHTTPConnection)


def _opened(
    request: httpcore.Request,
    *,
    direct: Callable[..., T],
    http: Callable[..., P],
    socks: Callable[..., P],
    backend: object,
) -> T | P:
    """Return a connection for `request`: direct, or through the environment's proxy."""
    proxy = _proxy_of(request)
    if proxy is None:
        return direct(**_direct(request), network_backend=backend)
    if proxy.url.scheme.startswith("socks"):
        return socks(**_through(proxy))
    return http(**_through(proxy), **_tls_of(proxy), network_backend=backend)


class SyncLane(_Lane[httpcore.HTTPConnection | httpcore.ConnectionPool]):
    """A lane that blocks its thread."""

    def __init__(self, request: httpcore.Request) -> None:
        line: httpcore.HTTPConnection | httpcore.ConnectionPool = _opened(
            request,
            direct=httpcore.HTTPConnection,
            http=httpcore.HTTPProxy,
            socks=httpcore.SOCKSProxy,
            backend=_backends()[0],
        )
        super().__init__(line)

    async def ask(self, request: httpcore.Request) -> httpcore.Response:  # noqa: D102
        with named():
            return self._line.handle_request(request)

    async def pieces(self, answer: httpcore.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        with named():
            for piece in cast("Any", answer.stream):
                yield piece

    async def leave(self, answer: httpcore.Response) -> None:  # noqa: D102
        cast("Any", answer.stream).close()

    async def close(self) -> None:  # noqa: D102
        self._line.close()


class AsyncLane(_Lane[httpcore.AsyncHTTPConnection | httpcore.AsyncConnectionPool]):
    """A lane of an event loop."""

    def __init__(self, request: httpcore.Request) -> None:
        line: httpcore.AsyncHTTPConnection | httpcore.AsyncConnectionPool = _opened(
            request,
            direct=httpcore.AsyncHTTPConnection,
            http=httpcore.AsyncHTTPProxy,
            socks=httpcore.AsyncSOCKSProxy,
            backend=_backends()[1],
        )
        super().__init__(line)

    async def ask(self, request: httpcore.Request) -> httpcore.Response:  # noqa: D102
        with named():
            return await self._line.handle_async_request(request)

    async def pieces(self, answer: httpcore.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        with named():
            async with aclosing(aiter(cast("Any", answer.stream))) as pieces:
                async for piece in pieces:
                    yield piece

    async def leave(self, answer: httpcore.Response) -> None:  # noqa: D102
        await cast("Any", answer.stream).aclose()

    async def close(self) -> None:  # noqa: D102
        await self._line.aclose()


def _more_was_said(line: object) -> bool:
    """Say whether bytes came after the answer: the engine would take them for the next one's."""
    parser = getattr(getattr(line, "_connection", None), "_h11_state", None)
    return parser is not None and parser.trailing_data[0] != b""


def _direct(request: httpcore.Request) -> dict[str, Any]:
    return {
        "origin": request.url.origin,
        "ssl_context": tls() if request.url.scheme == b"https" else _no_tls(),
        "socket_options": _socket_options(),
    }


# -- one write a request ---------------------------------------------------------------------


class _Whole(httpcore.NetworkStream):
    """Holds what is written until the request is whole: head and body leave together.

    Two writes would be two packets and two system calls, which are a fifth of a call's CPU. The
    engine ends a request whose length it declared with an empty write.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._held: list[bytes] = []

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            self._held.append(buffer)
            return
        held, self._held = b"".join(self._held), []
        for piece in _pieces(held):
            self._stream.write(piece, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Whole(self._stream.start_tls(*args, **kwargs))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _AsyncWhole(httpcore.AsyncNetworkStream):
    """The same for an event loop."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._held: list[bytes] = []
        self._early: bytes | None = None

    # httpcore's own signatures, hence ASYNC109
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._early is not None:
            early, self._early = self._early, None
            return early
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if buffer:
            self._held.append(buffer)
            return
        held, self._held = b"".join(self._held), []
        if len(held) <= PIECE:
            await self._stream.write(held, timeout)
        else:
            await self._write_and_listen(held, timeout)

    async def _write_and_listen(self, held: bytes, patience: float | None) -> None:
        """Keep what the server says meanwhile: asyncio forgets it when a write fails."""
        heard = asyncio.ensure_future(self._stream.read(PIECE))
        try:
            for piece in _pieces(held):
                await asyncio.sleep(0)  # a write that need not wait gives nobody a turn to listen
                await self._stream.write(piece, patience)
        finally:
            heard.cancel()
            await asyncio.wait({heard})
            if not heard.cancelled() and heard.exception() is None:
                self._early = heard.result()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncWhole(await self._stream.start_tls(*args, **kwargs))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _pieces(held: bytes) -> Iterator[bytes]:
    return (held[start : start + PIECE] for start in range(0, len(held), PIECE))


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Whole(self._inner.connect_tcp(*args, **kwargs))


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncWhole(await self._inner.connect_tcp(*args, **kwargs))


@functools.cache
def _backends() -> tuple[_Backend, _AsyncBackend]:
    return _Backend(), _AsyncBackend()


# -- proxies -----------------------------------------------------------------------------------


def _proxy_of(request: httpcore.Request) -> httpx.Proxy | None:
    """Return the proxy for `request`; a pinned address is asked directly.

    So is plain http: it is for loopback alone, and a proxy would read the key.
    """
    if "sni_hostname" in request.extensions or request.url.scheme == b"http":
        return None
    scheme, host = request.url.scheme.decode("ascii"), request.url.host.decode("ascii")
    address = proxy_for(scheme, host)
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


def _through(proxy: httpx.Proxy) -> dict[str, Any]:
    url = proxy.url
    return {
        "proxy_url": httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        "proxy_auth": proxy.raw_auth,
        "ssl_context": tls(),
        "max_connections": 1,
        "keepalive_expiry": IDLE,
    }


def _tls_of(proxy: httpx.Proxy) -> dict[str, Any]:
    """Return what only a proxy that speaks HTTP knows."""
    secure = {"proxy_ssl_context": tls()} if proxy.url.scheme == "https" else {}
    return {"socket_options": _socket_options(), **secure}


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


# -- TLS and sockets ---------------------------------------------------------------------------


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the one TLS context of this process; `SSL_CERT_FILE` is honoured."""
    return httpx.create_ssl_context()


@functools.cache
def _no_tls() -> ssl.SSLContext:
    """Return a context that costs nothing, for lanes to loopback that never use it."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@functools.cache
def _socket_options() -> list[tuple[int, int, int]]:
    """Return options that find a dead peer in a minute or two, where the system knows them."""
    wanted = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    known = [(getattr(socket, name, None), value) for name, value in wanted]
    known.append((getattr(socket, "TCP_USER_TIMEOUT", None), 120_000))
    tcp = [(socket.IPPROTO_TCP, name, value) for name, value in known if name is not None]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *tcp]
