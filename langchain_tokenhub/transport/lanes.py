"""Connections as lanes: each lane is an HTTP transport of exactly one connection.

httpx's own pool costs CPU that grows with the square of what is in flight, and cancellations can
leave it dead. A lane is taken from a last-in-first-out stack, or made, and comes back when its
answer was read to the end; on any error or cancellation it is thrown away. Taking and returning
are O(1), requests share no lock, and a cancelled request can hurt only its own lane.

Stacks are kept a process for sync, and a running event loop for async. After `fork` the child
forgets its parent's lanes without closing them.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import functools
import logging
import os
import socket
import ssl
import time
import urllib.request
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypeVar

import httpx

from langchain_tokenhub.errors import redacted
from langchain_tokenhub.transport import hosts, retry

IDLE = 30.0
"""Seconds that an idle lane is kept: a human turn does not pay for a new TLS handshake."""
FRESH = 1.0
"""Seconds that a lane may have been idle to carry a submit. A server that closes an idle connection
while a request is on its way leaves it open whether the request was taken; servers keep idle
connections for 5 s and more, so a younger lane is safe, and else a new one costs a handshake."""
PROXY_TIME = 30.0
"""Seconds after which the system is asked anew which proxy it uses."""
MOST_IDLE = 128
"""Idle lanes kept an origin; more are closed when they come back."""

Origin = tuple[str, str, int | None, str]
"""Scheme, host, port, and the TLS name where it is not the host."""
L = TypeVar("L", httpx.HTTPTransport, httpx.AsyncHTTPTransport)


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    return url.scheme, url.host, url.port, str(request.extensions.get("sni_hostname", ""))


class _Stacks(Generic[L]):
    """Idle lanes by origin, the freshest on top. No locks: each step is one of CPython's own."""

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[tuple[float, L]]] = {}
        self._swept = time.monotonic()

    def take(self, origin: Origin, youth: float) -> L | None:
        """Return the freshest idle lane, if it was idle for less than `youth` seconds."""
        stack = self._idle.get(origin)
        try:
            since, lane = stack.pop() if stack else _NOTHING
        except IndexError:  # another thread took the last one meanwhile
            return None
        if lane is not None and time.monotonic() - since >= youth:
            self._idle[origin].append((since, lane))
            return None
        return lane

    def put(self, origin: Origin, lane: L) -> list[L]:
        """Keep `lane`, and return those that are too old or too many."""
        now = time.monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append((now, lane))
        swept = _old(stack, now, MOST_IDLE)
        if now - self._swept >= IDLE:  # hosts that nobody asks any more hold lanes too
            self._swept = now
            for other in list(self._idle.values()):
                swept += _old(other, now, MOST_IDLE)
        return swept

    def clear(self) -> list[L]:
        """Return all lanes, and keep none."""
        return [lane for stack in list(self._idle.values()) for lane in _old(stack, 0.0, 0)]


_NOTHING: tuple[float, None] = (0.0, None)


def _old(stack: deque[tuple[float, L]], now: float, most: int) -> list[L]:
    """Take the lanes that are too old or too many from `stack`."""
    swept: list[L] = []
    with contextlib.suppress(IndexError):  # another thread took the last one meanwhile
        while stack and (len(stack) > most or now - stack[0][0] >= IDLE):
            swept.append(stack.popleft()[1])
    return swept


class SyncLanes(httpx.BaseTransport):
    """Lanes for threads."""

    def __init__(self) -> None:
        self._stacks: _Stacks[httpx.HTTPTransport] = _Stacks()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send on a free lane."""
        origin = _origin(request)
        lane = self._stacks.take(origin, _youth(request)) or _open(httpx.HTTPTransport, origin)
        try:
            with _discreet():
                response = lane.handle_request(request)
        except BaseException:
            lane.close()
            raise
        response.stream = _SyncHeld(response.stream, functools.partial(self._back, origin, lane))
        return response

    def _back(self, origin: Origin, lane: httpx.HTTPTransport, *, whole: bool) -> None:
        keep = whole and _keeps(origin)
        for swept in self._stacks.put(origin, lane) if keep else [lane]:
            swept.close()

    def close(self) -> None:
        """Close the idle lanes; those in use come back to empty stacks."""
        for lane in self._stacks.clear():
            lane.close()


class AsyncLanes(httpx.AsyncBaseTransport):
    """Lanes for the tasks of one event loop."""

    def __init__(self) -> None:
        self._stacks: _Stacks[httpx.AsyncHTTPTransport] = _Stacks()
        self._keeper: AsyncGenerator[None, None] | None = None
        self._over = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send on a free lane."""
        if self._keeper is None:
            self._keeper = self._until_the_loop_ends()
            await anext(self._keeper)
        origin = _origin(request)
        lane = self._stacks.take(origin, _youth(request)) or _open(httpx.AsyncHTTPTransport, origin)
        try:
            with _discreet():
                response = await lane.handle_async_request(request)
        except BaseException:
            await lane.aclose()
            raise
        response.stream = _AsyncHeld(response.stream, functools.partial(self._back, origin, lane))
        return response

    async def _back(self, origin: Origin, lane: httpx.AsyncHTTPTransport, *, whole: bool) -> None:
        keep = whole and _keeps(origin) and not self._over
        for swept in self._stacks.put(origin, lane) if keep else [lane]:
            await swept.aclose()

    async def aclose(self) -> None:
        """Close the idle lanes; those in use come back to empty stacks."""
        for lane in self._stacks.clear():
            await lane.aclose()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """Wait where `asyncio.run` closes every async generator before it closes its loop."""
        try:
            yield
        finally:
            self._over = True
            await self.aclose()


class _SyncHeld(httpx.SyncByteStream):
    """A body that knows whether it was read to its end, and gives its lane back."""

    def __init__(self, body: object, back: Callable[..., None]) -> None:
        assert isinstance(body, httpx.SyncByteStream)  # noqa: S101 - narrows the union for types
        self._body, self._back = body, back
        self._ended = self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body
        self._ended = True

    def close(self) -> None:
        if self._closed:
            return
        self._closed, whole = True, False
        try:
            self._body.close()
            whole = self._ended
        finally:
            self._back(whole=whole)


class _AsyncHeld(httpx.AsyncByteStream):
    """The same for a body of an event loop."""

    def __init__(self, body: object, back: Callable[..., Awaitable[None]]) -> None:
        assert isinstance(body, httpx.AsyncByteStream)  # noqa: S101 - narrows the union for types
        self._body, self._back = body, back
        self._ended = self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk
        self._ended = True

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed, whole = True, False
        try:
            await self._body.aclose()
            whole = self._ended
        finally:
            await self._back(whole=whole)


def _youth(request: httpx.Request) -> float:
    """Return how long a lane may have been idle: a paid submit must not meet a closing one."""
    return FRESH if request.extensions.get("fresh") else IDLE


def _keeps(origin: Origin) -> bool:
    """Say whether lanes to `origin` are kept: pinned ones are many addresses, each asked once."""
    return not origin[3]


def _open(make: Callable[..., L], origin: Origin) -> L:
    scheme, host, _, sni = origin
    return make(
        verify=_tls() if scheme == "https" else _no_tls(),
        proxy=None if sni else _proxy(scheme, host),  # a pinned address is asked directly
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE),
        socket_options=_socket_options(),
    )


def _proxy(scheme: str, host: str) -> httpx.Proxy | None:
    address = proxy_for(scheme, host)
    if address is None:
        return None
    return httpx.Proxy(address, ssl_context=_tls() if address.startswith("https:") else None)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return the one TLS context of this process; `SSL_CERT_FILE` is honoured."""
    return httpx.create_ssl_context()


@functools.cache
def _no_tls() -> ssl.SSLContext:
    """Return a context that costs nothing, for lanes to loopback that never use it."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the environment's proxy for `host`: giving httpx a transport switches its own off."""
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


@functools.cache
def _socket_options() -> list[tuple[int, int, int]]:
    """Return options that find a dead peer in a minute or two, where the system knows them."""
    wanted = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    known = [(getattr(socket, name, None), value) for name, value in wanted]
    known.append((getattr(socket, "TCP_USER_TIMEOUT", None), 120_000))
    tcp = [(socket.IPPROTO_TCP, name, value) for name, value in known if name is not None]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *tcp]


_sync = SyncLanes()
_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncLanes] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[object] = []


def sync_lanes() -> SyncLanes:
    """Return the lanes of this process."""
    return _sync


def async_lanes() -> AsyncLanes:
    """Return the lanes of the running event loop."""
    loop = asyncio.get_running_loop()
    lanes = _by_loop.get(loop)
    if lanes is None:
        for ended in [known for known in list(_by_loop) if known.is_closed()]:
            del _by_loop[ended]  # its lanes hold it, so it would never go by itself
        lanes = _by_loop[loop] = AsyncLanes()
    return lanes


def _forget() -> None:
    """Start anew in a forked child; closing the parent's connections would disturb the parent."""
    global _sync, _by_loop
    _inherited.append((_sync, _by_loop))
    _sync, _by_loop = SyncLanes(), weakref.WeakKeyDictionary()
    hosts.forget()
    retry.forget()


_ours: contextvars.ContextVar[bool] = contextvars.ContextVar("tokenhub_ours", default=False)


@contextlib.contextmanager
def _discreet() -> Iterator[None]:
    """Mark what runs inside as ours, for `_redact`."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def _redact(record: logging.LogRecord) -> bool:
    """Take signed links (a redirect's Location) and passwords out of the library's own lines."""
    if not _ours.get():
        return True
    record.msg, record.args = redacted(record.getMessage()), ()
    return record.name != "httpcore.socks"  # whose lines quote the proxy's password


for _name in ("http11", "connection", "proxy", "socks"):
    logging.getLogger(f"httpcore.{_name}").addFilter(_redact)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: sync_lanes().close())
