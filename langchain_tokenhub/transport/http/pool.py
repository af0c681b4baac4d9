"""Who uses which connection: lanes, taken and given back without a lock.

httpx's own pool costs CPU that grows with the square of what is in flight, and cancellations can
leave it dead. A lane is taken from a last-in-first-out stack, or opened, and comes back when its
answer was read to the end; on any error or cancellation it is thrown away. Taking and returning
are O(1), requests share no lock, and a cancelled request can hurt only its own lane.

Stacks are kept a process for sync, and a running event loop for async. After `fork` the child
forgets its parent's lanes without closing them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from types import ModuleType

import httpx

from langchain_tokenhub.transport import failover, retry
from langchain_tokenhub.transport.http import sockets
from langchain_tokenhub.transport.http.connection import IDLE, Connection, DirectConnection
from langchain_tokenhub.transport.http.proxy import proxy_of
from langchain_tokenhub.transport.http.sockets import AsyncStream, SyncStream, close_orphans

FRESH = 1.0
"""Seconds that a lane may have been idle to carry a submit. A server that closes an idle connection
while a request is on its way leaves it open whether the request was taken; servers keep idle
connections for 5 s and more, so a younger lane is safe, and else a new one costs a handshake."""
MOST_IDLE = 128
"""Idle lanes kept an origin; more are closed when they come back."""

Origin = tuple[str, str, int | None, str]
"""Scheme, host, port, and the TLS name where it is not the host."""


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    return url.scheme, url.host, url.port, str(request.extensions.get("sni_hostname", ""))


class _Stacks:
    """Idle lanes by origin, the freshest on top. No locks: each step is one of CPython's own."""

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[tuple[float, Connection]]] = {}
        self._swept = time.monotonic()

    def take(self, origin: Origin, youth: float) -> Connection | None:
        """Return the freshest idle lane, if it was idle for less than `youth` seconds."""
        stack = self._idle.get(origin)
        try:
            since, connection = stack.pop() if stack else _NOTHING
        except IndexError:  # another thread took the last one meanwhile
            return None
        if connection is not None and time.monotonic() - since >= youth:
            self._idle[origin].append((since, connection))
            return None
        return connection

    def put(self, origin: Origin, connection: Connection) -> list[Connection]:
        """Keep `lane`, and return those that are too old or too many."""
        now = time.monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append((now, connection))
        swept = _old(stack, now, MOST_IDLE)
        if now - self._swept >= IDLE:  # hosts that nobody asks any more hold lanes too
            self._swept = now
            for other in list(self._idle.values()):
                swept += _old(other, now, MOST_IDLE)
        return swept

    def clear(self) -> list[Connection]:
        """Return all lanes, and keep none."""
        return [
            connection for stack in list(self._idle.values()) for connection in _old(stack, 0.0, 0)
        ]


_NOTHING: tuple[float, None] = (0.0, None)


def _old(stack: deque[tuple[float, Connection]], now: float, most: int) -> list[Connection]:
    """Take the lanes that are too old or too many from `stack`."""
    swept: list[Connection] = []
    with contextlib.suppress(IndexError):  # another thread took the last one meanwhile
        while stack and (len(stack) > most or now - stack[0][0] >= IDLE):
            swept.append(stack.popleft()[1])
    return swept


def _open_sync(request: httpx.Request) -> Connection:
    proxy = proxy_of(request)
    return DirectConnection(SyncStream) if proxy is None else _proxied().SyncProxyConnection(proxy)


def _open_async(request: httpx.Request) -> Connection:
    proxy = proxy_of(request)
    return (
        DirectConnection(AsyncStream) if proxy is None else _proxied().AsyncProxyConnection(proxy)
    )


def _proxied() -> ModuleType:
    """Return what needs an engine of its own, which nobody loads who has no proxy."""
    from langchain_tokenhub.transport.http import proxy

    return proxy


class ConnectionPool:
    """The lanes of a process, for its threads."""

    def __init__(self, opened: Callable[[httpx.Request], Connection] = _open_sync) -> None:
        self._opened = opened
        self._stacks = _Stacks()
        self._begun, self._over = True, False

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send on a free lane; sync or async, the answer's stream is an async one."""
        if not self._begun:
            await self._begin()
        origin = _origin(request)
        connection = await self._free(origin, request) or self._opened(request)
        try:
            answer = await connection.ask(request)
        except BaseException:
            await connection.close()
            raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(connection, partial(self._back, origin, connection)),
            extensions=dict(answer.extensions),
        )

    async def _free(self, origin: Origin, request: httpx.Request) -> Connection | None:
        youth = FRESH if request.extensions.get("fresh") else IDLE
        while (connection := self._stacks.take(origin, youth)) is not None:
            if not connection.over:
                return connection
            await connection.close()
        return None

    async def _back(self, origin: Origin, connection: Connection, again: bool) -> None:  # noqa: FBT001
        """Keep `lane` for the next request, if it may carry one."""
        pinned = origin[3]  # these are many addresses, each asked once
        keep = again and not (pinned or self._over)
        for swept in self._stacks.put(origin, connection) if keep else [connection]:
            await swept.close()

    async def _begin(self) -> None:
        """Begin to look at when lanes are to be kept no more: for a process, `atexit` does."""

    async def close(self) -> None:
        """Close the idle lanes; those in use come back to empty stacks."""
        for connection in self._stacks.clear():
            await connection.close()


class LoopConnectionPool(ConnectionPool):
    """The lanes of one event loop, for its tasks."""

    def __init__(self) -> None:
        super().__init__(_open_async)
        self._begun = False
        self._backend = self._until_the_loop_ends()

    async def _begin(self) -> None:
        self._begun = True
        await anext(self._backend)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """Wait where `asyncio.run` closes every async generator before it closes its loop."""
        try:
            yield
        finally:
            self._over = True
            await self.close()
            await asyncio.sleep(0)  # the loop's turn to let go of them


class _Body(httpx.AsyncByteStream):
    """A body that gives its lane back when it is left."""

    def __init__(self, connection: Connection, back: Callable[[bool], Awaitable[None]]) -> None:
        self._lane, self._back = connection, back
        self._left = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._lane.pieces()

    async def aclose(self) -> None:
        if self._left:
            return
        self._left = True
        try:
            again = await self._lane.leave()
        except BaseException:
            await self._lane.close()
            raise
        await self._back(again)


_sync = ConnectionPool()
_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopConnectionPool] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[object] = []


def sync_pool() -> ConnectionPool:
    """Return the lanes of this process."""
    return _sync


def async_pool() -> LoopConnectionPool:
    """Return the lanes of the running event loop."""
    loop = asyncio.get_running_loop()
    pool = _by_loop.get(loop)
    if pool is None:
        for known in _by_loop.keyrefs():  # a copy: other threads begin loops too
            if (ended := known()) is not None and ended.is_closed():
                _by_loop.pop(ended, None)  # its lanes hold it, so it would never go by itself
        close_orphans()
        pool = _by_loop[loop] = LoopConnectionPool()
    return pool


def _forget() -> None:
    """Start anew in a forked child; closing the parent's connections would disturb the parent."""
    global _sync, _by_loop
    _inherited.append((_sync, _by_loop))
    _sync, _by_loop = ConnectionPool(), weakref.WeakKeyDictionary()
    failover.forget()
    sockets.forget()
    retry.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
