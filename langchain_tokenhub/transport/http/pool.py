"""Connection pools: idle connections by origin, last in, first out, without locks.

A connection is taken from the pool, or opened, and returns once its response was read to the end;
after an error or a cancellation it is closed. The cost is independent of the requests in flight.

There is one pool for the threads of a process and one for each running event loop. After `fork`
the child starts with new pools and leaves its parent's connections open.
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
from typing import TYPE_CHECKING

import httpx

from langchain_tokenhub.transport import failover
from langchain_tokenhub.transport.http import sockets, threads
from langchain_tokenhub.transport.http.connection import MAX_IDLE, DirectConnection
from langchain_tokenhub.transport.http.proxy import proxy_of
from langchain_tokenhub.transport.http.sockets import AsyncStream, SyncStream

if TYPE_CHECKING:
    from langchain_tokenhub.transport.http.proxy_connection import ProxyConnection

    Connection = DirectConnection | ProxyConnection

MAX_IDLE_SUBMIT = 1.0
"""Seconds that a connection may have been idle to carry a submit. If a server closes an idle
connection while a request is under way, it is unknown whether the request was accepted; servers
close idle connections after 5 s and more."""
MAX_IDLE_CONNECTIONS = 128
"""Idle connections per origin; the oldest beyond it are closed."""

Origin = tuple[str, str, int | None, str]
"""Scheme, host, port, and the TLS name if it is not the host."""
IdleConnections = deque[tuple[float, "Connection"]]
"""Connections and since when they are idle, the oldest first."""


class ConnectionPool:
    """The connections of a process's threads. Each step on a deque is atomic in CPython."""

    _is_async = False

    def __init__(self) -> None:
        self._idle: dict[Origin, IdleConnections] = {}
        self._swept_at = time.monotonic()
        self._is_closed = False

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response's stream is an async one, for sync callers too."""
        url, tls_name = request.url, str(request.extensions.get("sni_hostname", ""))
        origin = url.scheme, url.host, url.port, tls_name
        connection = await self._take(origin, request) or self._open(request)
        try:
            response = await connection.send(request)
        except BaseException:
            await connection.close()
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(connection, partial(self._release, origin, connection)),
            extensions={"limit_reads": connection.limit_reads},
        )

    def _open(self, request: httpx.Request) -> Connection:
        if (proxy := proxy_of(request)) is None:
            return DirectConnection(AsyncStream if self._is_async else SyncStream)
        from langchain_tokenhub.transport.http import proxy_connection

        return proxy_connection.open_proxy(proxy, is_async=self._is_async)

    async def _take(self, origin: Origin, request: httpx.Request) -> Connection | None:
        """Return the connection that was used last, if it is fresh enough."""
        max_idle = MAX_IDLE_SUBMIT if request.extensions.get("fresh") else MAX_IDLE
        idle = self._idle.get(origin)
        while idle:
            try:
                since, connection = idle.pop()
            except IndexError:  # another thread took the last one
                return None
            if time.monotonic() - since >= max_idle:
                idle.append((since, connection))
                return None
            if not connection.is_stale:
                return connection
            await connection.close()
        return None

    async def _release(self, origin: Origin, connection: Connection) -> None:
        """Return a connection to the pool if it can carry another request; else close it."""
        is_pinned = bool(origin[3])  # downloads: many addresses, each used once
        if not await connection.release() or is_pinned or self._is_closed:
            await connection.close()
            return
        now = time.monotonic()
        idle = self._idle.setdefault(origin, deque())
        idle.append((now, connection))
        queues = [idle]
        if now - self._swept_at >= MAX_IDLE:  # origins that are no longer used
            self._swept_at, queues = now, list(self._idle.values())
        await self._close_expired(queues, now, MAX_IDLE_CONNECTIONS)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._close_expired(list(self._idle.values()), 0.0, 0)

    async def _close_expired(self, queues: list[IdleConnections], now: float, limit: int) -> None:
        """Close the connections that are too old, or beyond `limit`."""
        for idle in queues:
            with contextlib.suppress(IndexError):  # another thread took the last one
                while idle and (len(idle) > limit or now - idle[0][0] >= MAX_IDLE):
                    await idle.popleft()[1].close()


class LoopConnectionPool(ConnectionPool):
    """The connections of one event loop."""

    _is_async = True
    _finalizer: AsyncGenerator[None, None] | None = None

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        if self._finalizer is None:
            self._finalizer = self._close_with_loop()
            await anext(self._finalizer)
        return await super().send(request)

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        """Close the pool where `asyncio.run` closes async generators: before it closes its loop."""
        try:
            yield
        finally:
            self._is_closed = True
            await self.close()
            await asyncio.sleep(0)  # asyncio closes the sockets in its next iteration


class _Body(httpx.AsyncByteStream):
    """A response's body; closing it releases the connection."""

    def __init__(self, connection: Connection, release: Callable[[], Awaitable[None]]) -> None:
        self._connection, self._release = connection, release
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body()

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._release()
        except BaseException:
            await self._connection.close()
            raise


_sync = ConnectionPool()
_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopConnectionPool] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[object] = []


def sync_pool() -> ConnectionPool:
    """Return the pool of this process's threads."""
    return _sync


def async_pool() -> LoopConnectionPool:
    """Return the pool of the running event loop."""
    loop = asyncio.get_running_loop()
    pool = _by_loop.get(loop)
    if pool is None:
        for ref in _by_loop.keyrefs():  # a copy: other threads add loops
            if (other := ref()) is not None and other.is_closed():
                _by_loop.pop(other, None)  # its connections refer to it
        pool = _by_loop[loop] = LoopConnectionPool()
    return pool


def _reset_after_fork() -> None:
    """Start anew in a forked child; closing the parent's connections would disturb the parent."""
    global _sync, _by_loop
    _inherited.append((_sync, _by_loop))
    _sync, _by_loop = ConnectionPool(), weakref.WeakKeyDictionary()
    failover.reset_after_fork()
    sockets.reset_after_fork()
    threads.idle_threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
