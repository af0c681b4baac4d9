"""Connections without a proxy, and pools: idle connections by origin, last in, first out, no locks.

A connection is taken from the pool, or opened, and returned once its response was read to the end;
after an error or a cancellation it is closed. The cost is independent of the requests in flight.

There is one pool for the threads of a process and one for each running event loop. After `fork`
the child starts with new pools and leaves its parent's connections open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import httpx

from langchain_tokenhub.transport import failover
from langchain_tokenhub.transport.calls import SendState, earliest
from langchain_tokenhub.transport.http import sockets, threads
from langchain_tokenhub.transport.http.connect import MAX_IDLE, Target
from langchain_tokenhub.transport.http.parser import ResponseHead, ResponseParser
from langchain_tokenhub.transport.http.proxy import proxy_of
from langchain_tokenhub.transport.http.sockets import WRITE_SIZE, AsyncStream, Stream, SyncStream

if TYPE_CHECKING:
    from langchain_tokenhub.transport.http.proxy_connection import ProxyConnection

EARLY_RESPONSE_TIMEOUT = 0.1
"""Seconds to wait for a response to a request that the server does not read to its end."""
MAX_IDLE_SUBMIT = 1.0
"""Seconds that a connection may have been idle to carry a submit. If a server closes an idle
connection while a request is under way, it is unknown whether the request was accepted; servers
close idle connections after 5 s and more."""
MAX_IDLE_CONNECTIONS = 128
"""Idle connections per origin; the oldest beyond it are closed."""

Connection: TypeAlias = "DirectConnection | ProxyConnection"
Origin = tuple[str, str, int | None, str]
"""Scheme, host, port, and the TLS name if it is not the host."""
IdleConnections = deque[tuple[float, Connection]]
"""Connections and since when they are idle, the oldest first."""

_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?"
_REQUEST_HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:%s: %s\r\n)+" % (_NAME, _VALUE))


class DirectConnection:
    """A connection without a proxy; those through one have the same public methods."""

    def __init__(self, stream_type: type[Stream]) -> None:
        self._stream_type = stream_type
        self._stream: Stream | None = None
        self._parser: ResponseParser | None = None
        self._first_bytes = b""
        self._read_timeout: float | None = None
        self._deadline: float | None = None
        self._is_reusable = True

    @property
    def is_stale(self) -> bool:
        """Whether an idle connection is closed, by either side, or has unexpected data."""
        return self._stream is None or not self._stream.is_idle

    async def send(self, request: httpx.Request) -> ResponseHead:
        """Send a request, and return its response's status and headers."""
        timeouts, send_state = request.extensions["timeout"], request.extensions["send_state"]
        head = encode_head(request)
        if self._stream is None:
            self._stream = await self._stream_type.open(_target(request), timeouts["connect"])
        send_state.mark_started()
        failure = await _write(self._stream, head, request.content, timeouts["write"], send_state)
        send_state.body_sent = failure is None
        closes = b"\r\nconnection: close\r\n" in head.lower()  # a default header of the user
        self._is_reusable = failure is None and not closes
        is_stuck = isinstance(failure, httpx.WriteTimeout)
        self._read_timeout = EARLY_RESPONSE_TIMEOUT if is_stuck else timeouts["read"]
        deadline, in_time = (request.extensions.get(n) for n in ("deadline", "head_timeout"))
        self._deadline = earliest(deadline, None if in_time is None else time.monotonic() + in_time)
        try:
            response = await self._read_head(self._stream)
        except httpx.TransportError as error:
            raise failure or error from None
        send_state.answered = True
        self._deadline = deadline  # the time for the body is limited by its reader
        return response

    async def _read_head(self, stream: Stream) -> ResponseHead:
        self._parser = None
        data = await stream.read(self._time_left())
        parser = self._parser = ResponseParser()  # not earlier: requests in flight stay small
        while True:
            if not data:
                parser.end()
            self._first_bytes = parser.feed(data)
            if parser.head is not None:
                return parser.head
            data = await stream.read(self._time_left())

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yield the response's body as it arrives."""
        parser, stream = self._parser, self._stream
        if self._first_bytes:
            yield self._first_bytes
        while stream is not None and parser is not None and not parser.is_complete:
            data = await stream.read(self._time_left())
            if not data:
                parser.end()
            elif body := parser.feed(data):
                yield body

    def _time_left(self) -> float | None:
        """Return the timeout of the next read, which ends at the deadline of the call."""
        if self._deadline is None:
            return self._read_timeout
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("the response was not complete before the deadline")
        limit = self._read_timeout
        return left if limit is None or left < limit else limit

    def limit_body(self, seconds: float) -> None:
        """Limit the time for the rest of this response's body, in place of an earlier limit."""
        self._deadline = time.monotonic() + seconds

    async def release(self) -> bool:
        """End the response, read or not; return True if another request may follow."""
        return self._is_reusable and self._parser is not None and self._parser.is_reusable

    async def close(self) -> None:
        """Close the connection."""
        if self._parser is not None:
            self._parser.close()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def encode_head(request: httpx.Request) -> bytes:
    """Return the request line and headers as bytes.

    Raises:
        httpx.LocalProtocolError: They are not valid HTTP. The message quotes nothing of them.
    """
    line = b"%s %s HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)
    headers = request.headers.raw
    head = line + b"".join([b"%s: %s\r\n" % header for header in headers])
    # a value that contains a whole further header line would match
    if head.count(b"\n") != len(headers) + 1 or _REQUEST_HEAD.fullmatch(head) is None:
        raise httpx.LocalProtocolError("the request is not valid HTTP")
    return head + b"\r\n"


def _target(request: httpx.Request) -> Target:
    url = request.url
    host = url.raw_host.decode("ascii")
    is_tls = url.scheme == "https"
    tls_name = str(request.extensions.get("sni_hostname") or host) if is_tls else None
    return Target(host, url.port or (443 if is_tls else 80), tls_name)


async def _write(
    stream: Stream, head: bytes, content: bytes, limit: float | None, send_state: SendState
) -> httpx.WriteError | httpx.WriteTimeout | None:
    """Write a request, a small one at once; return the failure if not all of it was written.

    A server may answer, and close, before it has read a large request.
    """
    is_small = len(content) <= WRITE_SIZE
    pieces = (memoryview(content)[i : i + WRITE_SIZE] for i in range(0, len(content), WRITE_SIZE))
    parts: Sequence[bytes | memoryview] = [head + content] if is_small else [head, *pieces]
    for number, part in enumerate(parts, 1):
        try:
            await stream.write(part, limit)
        except (httpx.WriteError, httpx.WriteTimeout) as failure:
            if number < len(parts):
                send_state.held_back = True
            return failure
    return None


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
            stream=_Body(self, origin, connection),
            extensions={"limit_body": connection.limit_body},
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

    async def release(self, origin: Origin, connection: Connection) -> None:
        """Return a connection to the pool if it can carry another request; else close it."""
        is_kept = False
        try:
            is_pinned = bool(origin[3])  # downloads: many addresses, each used once
            is_kept = await connection.release() and not is_pinned and not self._is_closed
        finally:
            if not is_kept:
                await connection.close()
        if not is_kept:
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

    def __init__(self, pool: ConnectionPool, origin: Origin, connection: Connection) -> None:
        self._pool, self._origin, self._connection = pool, origin, connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body()

    async def aclose(self) -> None:
        await self._pool.release(self._origin, self._connection)


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
    """Use new pools in a forked child; closing the parent's connections would disturb it."""
    global _sync, _by_loop
    _inherited.append((_sync, _by_loop))
    _sync, _by_loop = ConnectionPool(), weakref.WeakKeyDictionary()
    failover.reset_after_fork()
    sockets.reset_after_fork()
    threads.idle_threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
