"""Connections, and pools of the idle ones by origin, last in, first out, without locks.

A connection is taken from the pool, or opened, and returned once its response was read to the end;
after an error or a cancellation it is closed. The cost is independent of the requests in flight.

There is one pool for the threads of a process and one for each running event loop. After `fork`
the child starts with new pools and leaves its parent's connections open.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any

import httpx

from langchain_tokenhub.transport.calls import HTTPRequest, HTTPResponse, earliest
from langchain_tokenhub.transport.decoding import ResponseParser, decode_headers
from langchain_tokenhub.transport.http import sockets
from langchain_tokenhub.transport.http.connect import MAX_IDLE, Target
from langchain_tokenhub.transport.http.proxy import open_tunnel, proxy_of
from langchain_tokenhub.transport.http.sockets import (
    WRITE_SIZE,
    AsyncStream,
    SocketStream,
    Stream,
    SyncStream,
    time_left,
)

EARLY_RESPONSE_TIMEOUT = 0.1
"""Seconds to wait for a response to a request that the server does not read to its end."""
MAX_IDLE_SUBMIT = 1.0
"""Seconds that a connection may have been idle to carry a submit. If a server closes an idle
connection while a request is under way, it is unknown whether the request was accepted; servers
close idle connections after 5 s and more."""
MAX_IDLE_CONNECTIONS = 128
"""Idle connections per origin; the oldest beyond it are closed."""

SWEEP_INTERVAL = 1.0
"""Seconds between two searches for idle connections that are too old."""

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = r"(?:[!-~](?:[\t -~]*[!-~])?)?"
_REQUEST_HEAD = re.compile(rf"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:{_NAME}: {_VALUE}\r\n)+")


class Connection:
    """A connection to a server, perhaps through a proxy, and the body of its latest response."""

    def __init__(self, pool: ConnectionPool, target: Target, stream: Stream) -> None:
        self.target = target
        self._pool, self._stream = pool, stream
        self._parser: ResponseParser | None = None
        self._first_bytes = b""
        self._read_timeout: float | None = None
        self._deadline: float | None = None
        self._is_reusable = True

    @property
    def is_stale(self) -> bool:
        """Whether an idle connection is closed, by either side, or has unexpected data."""
        return not self._stream.is_idle

    async def send(self, request: HTTPRequest, head: bytes) -> HTTPResponse:
        """Send a request with this `head`."""
        send_state = request.send_state
        send_state.mark_started()
        failure = await _write(self._stream, head, request)
        send_state.is_body_sent = failure is None
        closes = b"\r\nconnection: close\r\n" in head.lower()  # a default header of the user
        # connections to given addresses (downloads) are used once
        self._is_reusable = failure is None and not (closes or self.target.addresses)
        is_stuck = isinstance(failure, httpx.WriteTimeout)
        self._read_timeout = EARLY_RESPONSE_TIMEOUT if is_stuck else request.timeouts["read"]
        limit = None if request.head_timeout is None else time.monotonic() + request.head_timeout
        self._deadline = earliest(request.deadline, limit)
        try:
            parser = await self._read_head()
        except httpx.TransportError as error:
            raise failure or error from None
        send_state.has_response = True
        self._deadline = request.deadline  # the time for the body is limited by its reader
        return HTTPResponse(parser.status, decode_headers(parser.headers), self)

    async def _read_head(self) -> ResponseParser:
        data = await self._read()
        parser = self._parser = ResponseParser()  # not earlier: requests in flight stay small
        self._first_bytes = parser.feed(data)
        while not parser.status:
            self._first_bytes = parser.feed(await self._read())
        return parser

    def _read(self) -> Coroutine[Any, Any, bytes]:
        return self._stream.read(time_left(self._deadline, self._read_timeout))

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield the response's body as it arrives."""
        parser = self._parser
        if self._first_bytes:
            yield self._first_bytes
        while parser is not None and not parser.is_complete:
            if body := parser.feed(await self._read()):
                yield body

    def limit(self, seconds: float) -> bool:
        """Limit the time for the rest of this response's body, in place of an earlier limit."""
        self._deadline = time.monotonic() + seconds
        return True

    @property
    def is_reusable(self) -> bool:
        """Whether the response was read to its end and another request may follow."""
        return self._is_reusable and self._parser is not None and self._parser.is_reusable

    async def aclose(self) -> None:
        """Return the connection to the pool if it can carry another request; else close it."""
        if self.is_reusable:
            self._parser = None  # a second `aclose` must not return it again
            self._pool.add(self)
        elif self._parser is not None:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._parser is not None:
            self._parser.close()
        self._stream.close()


def encode_head(request: HTTPRequest) -> bytes:
    """Return the request line and headers as bytes.

    Raises:
        httpx.LocalProtocolError: They are not valid HTTP. The message quotes nothing of them.
    """
    lines = [f"{request.method} {request.url.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.all_headers().items()]
    head = "\r\n".join(lines) + "\r\n"
    # a value that contains a whole further header line would match
    if head.count("\n") != len(lines) or _REQUEST_HEAD.fullmatch(head) is None:
        raise httpx.LocalProtocolError("the request is not valid HTTP")
    return head.encode("ascii") + b"\r\n"


def _target(request: HTTPRequest) -> Target:
    url = request.url
    if url.scheme == "http":
        return Target(url.host, url.port, None, request.addresses)
    return Target(url.host, url.port, url.host, request.addresses, proxy_of(request))


async def _write(
    stream: Stream, head: bytes, request: HTTPRequest
) -> httpx.WriteError | httpx.WriteTimeout | None:
    """Write a request in pieces; return the failure if not all of it was written.

    A server may answer, and close, before it has read a large request. No piece is begun after the
    deadline: opening the connection may have taken longer.
    """
    content, send_state = request.content, request.send_state
    first, rest = max(0, WRITE_SIZE - len(head)), memoryview(content)
    pieces = (rest[i : i + WRITE_SIZE] for i in range(first, len(content), WRITE_SIZE))
    parts: Sequence[bytes | memoryview] = [head + content[:first], *pieces]
    for number, part in enumerate(parts, 1):
        try:
            await stream.write(part, time_left(request.deadline, request.timeouts["write"]))
        except httpx.ReadTimeout:  # of `time_left`
            send_state.is_body_truncated = True
            return httpx.WriteTimeout("the request was not sent in time")
        except (httpx.WriteError, httpx.WriteTimeout) as failure:
            if number < len(parts):
                send_state.is_body_truncated = True
            return failure
    return None


class ConnectionPool:
    """The connections of a process's threads. Each step on a deque is atomic in CPython."""

    stream_type: type[SocketStream] = SyncStream

    def __init__(self) -> None:
        self._idle: dict[Target, deque[tuple[float, Connection]]] = {}
        """Connections and since when they are idle, the oldest first."""
        self._swept_at = 0.0
        self._is_closed = False

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request."""
        max_idle = MAX_IDLE_SUBMIT if request.is_submit else MAX_IDLE
        head, target = encode_head(request), _target(request)
        connection = self._take(target, max_idle) or await self._open(target, request)
        try:
            return await connection.send(request, head)
        except BaseException:
            connection.close()
            raise

    async def _open(self, target: Target, request: HTTPRequest) -> Connection:
        limit = request.timeouts["connect"]
        if target.tls_name is not None:
            sockets.tls_context()  # fails before it connects
        if target.proxy is None:
            return Connection(self, target, await self.stream_type.open(target, limit))
        request.send_state.is_by_proxy = request.send_state.is_traced = True
        tunnel = await open_tunnel(self.stream_type, target.proxy, target, limit, request.deadline)
        return Connection(self, target, tunnel)

    def _take(self, target: Target, max_idle: float) -> Connection | None:
        """Return the connection that was used last, if it is fresh enough."""
        idle = self._idle.get(target)
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
            connection.close()
        return None

    def add(self, connection: Connection) -> None:
        """Add an idle connection."""
        if self._is_closed:
            connection.close()
            return
        now, idle = time.monotonic(), self._idle.setdefault(connection.target, deque())
        idle.append((now, connection))
        if now - self._swept_at >= SWEEP_INTERVAL or len(idle) > MAX_IDLE_CONNECTIONS:
            self._swept_at = now
            self._close_expired(now, MAX_IDLE_CONNECTIONS)

    def close(self) -> None:
        """Close the idle connections."""
        self._close_expired(math.inf, 0)

    def _close_expired(self, now: float, limit: int) -> None:
        """Close the connections that are too old, or of a target beyond `limit`."""
        for idle in list(self._idle.values()):
            with contextlib.suppress(IndexError):  # another thread took the last one
                while idle and (len(idle) > limit or now - idle[0][0] >= MAX_IDLE):
                    idle.popleft()[1].close()


class LoopConnectionPool(ConnectionPool):
    """The connections of one event loop."""

    stream_type = AsyncStream
    _finalizer: AsyncGenerator[None, None] | None = None

    async def send(self, request: HTTPRequest) -> HTTPResponse:
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
            self.close()
            await asyncio.sleep(0)  # asyncio closes the sockets in its next iteration


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
