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
import functools
import os
import socket
import ssl
import time
import urllib.request
import weakref
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypeVar

import httpx

IDLE = 30.0
"""Seconds that an idle lane is kept: a human turn does not pay for a new TLS handshake."""
MOST_IDLE = 128
"""Idle lanes kept an origin; more are closed when they come back."""

Origin = tuple[str, str, int | None, str]
"""Scheme, host, port, and the TLS name where it is not the host."""
L = TypeVar("L", httpx.HTTPTransport, httpx.AsyncHTTPTransport)


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    return url.scheme, url.host, url.port, str(request.extensions.get("sni_hostname", ""))


class _Stacks(Generic[L]):
    """Idle lanes by origin, the freshest on top."""

    def __init__(self) -> None:
        self._idle: defaultdict[Origin, deque[tuple[float, L]]] = defaultdict(deque)

    def take(self, origin: Origin) -> L | None:
        """Return the freshest idle lane that is young enough."""
        try:
            since, lane = self._idle[origin].pop()
        except IndexError:
            return None
        if time.monotonic() - since < IDLE:
            return lane
        self._idle[origin].append((since, lane))  # `put` sweeps it out
        return None

    def put(self, origin: Origin, lane: L) -> list[L]:
        """Keep `lane`, and return those that are too old or too many."""
        stack = self._idle[origin]
        now = time.monotonic()
        stack.append((now, lane))
        swept: list[L] = []
        with contextlib.suppress(IndexError):  # another thread took the last one meanwhile
            while len(stack) > MOST_IDLE or now - stack[0][0] >= IDLE:
                swept.append(stack.popleft()[1])
        return swept

    def clear(self) -> list[L]:
        """Return all lanes, and keep none."""
        lanes = [lane for stack in self._idle.values() for _, lane in stack]
        self._idle.clear()
        return lanes


class SyncLanes(httpx.BaseTransport):
    """Lanes for threads."""

    def __init__(self) -> None:
        self._stacks: _Stacks[httpx.HTTPTransport] = _Stacks()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send on a free lane."""
        origin = _origin(request)
        lane = self._stacks.take(origin) or _open(httpx.HTTPTransport, origin)
        try:
            response = lane.handle_request(request)
        except BaseException:
            lane.close()
            raise
        response.stream = _SyncHeld(response.stream, functools.partial(self._back, origin, lane))
        return response

    def _back(self, origin: Origin, lane: httpx.HTTPTransport, reusable: bool) -> None:  # noqa: FBT001
        for swept in self._stacks.put(origin, lane) if reusable else [lane]:
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

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send on a free lane."""
        if self._keeper is None:
            self._keeper = self._until_the_loop_ends()
            await anext(self._keeper)
        origin = _origin(request)
        lane = self._stacks.take(origin) or _open(httpx.AsyncHTTPTransport, origin)
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            await lane.aclose()
            raise
        response.stream = _AsyncHeld(response.stream, functools.partial(self._back, origin, lane))
        return response

    async def _back(self, origin: Origin, lane: httpx.AsyncHTTPTransport, reusable: bool) -> None:  # noqa: FBT001
        for swept in self._stacks.put(origin, lane) if reusable else [lane]:
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
            await self.aclose()


class _SyncHeld(httpx.SyncByteStream):
    """A body that knows whether it was read to its end, and gives its lane back."""

    def __init__(self, body: object, back: Callable[[bool], None]) -> None:
        assert isinstance(body, httpx.SyncByteStream)  # noqa: S101 - narrows the union for types
        self._body, self._back = body, back
        self._ended = self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body
        self._ended = True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._body.close()
        finally:
            self._back(self._ended)


class _AsyncHeld(httpx.AsyncByteStream):
    """The same for a body of an event loop."""

    def __init__(self, body: object, back: Callable[[bool], Awaitable[None]]) -> None:
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
        self._closed = True
        try:
            await self._body.aclose()
        finally:
            await self._back(self._ended)


def _open(make: Callable[..., L], origin: Origin) -> L:
    scheme, host, _, sni = origin
    return make(
        verify=_tls() if scheme == "https" else _no_tls(),
        proxy=None if sni else proxy_for(scheme, host),  # a pinned address is asked directly
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE),
        socket_options=_socket_options(),
    )


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
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return proxy if proxy and not urllib.request.proxy_bypass(host) else None


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: sync_lanes().close())
