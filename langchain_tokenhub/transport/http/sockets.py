"""Byte streams to a server: the only part of a connection that differs between sync and async.

A sync stream is a blocking socket. An async stream is an asyncio protocol that stores data when it
arrives, so that it can still be read after a write has failed. TLS is the same code over either of
them, and over itself where a proxy uses TLS.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Self, TypeVar, cast

import httpx

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport.http.connect import (
    LOCAL_ERRORS,
    Target,
    connect_async,
    connect_sync,
    loop_timeout,
)

T = TypeVar("T")

WRITE_SIZE = 256 * 1024
"""Bytes of a large request that are written at once; each has the whole write timeout."""
_READ_SIZE = 64 * 1024
_MAX_BUFFER = 1024 * 1024
"""Bytes that may be buffered before reading pauses."""


class SyncStream:
    """A stream that blocks its thread. Limits are in seconds; None waits without limit."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._timeout = sock.gettimeout()
        _open_streams.add(self)

    @classmethod
    async def open(cls, target: Target, limit: float | None) -> Stream:
        """Connect. `httpx.PoolTimeout` means that this machine can open no further connection."""
        with _map_errors():
            stream = cls(connect_sync(target, limit))
        if target.tls_name is None:
            return stream
        return await TLSStream.open(stream, target.tls_name, stream._timeout)

    @property
    def is_idle(self) -> bool:
        """Whether the stream is open and no data has arrived."""
        return not _is_readable(self._socket)

    async def write(self, data: bytes | memoryview, limit: float | None) -> None:
        """Write all of `data`; after an `httpx.WriteError` received data can still be read."""
        try:
            self._set_timeout(limit)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise httpx.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpx.WriteError(str(error)) from error

    async def read(self, limit: float | None) -> bytes:
        """Return received data, at least one byte, or nothing at the end."""
        try:
            self._set_timeout(limit)
            return self._socket.recv(_READ_SIZE)
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error

    def _set_timeout(self, timeout: float | None) -> None:
        if timeout != self._timeout:  # setting it is a system call
            self._socket.settimeout(timeout)
            self._timeout = timeout

    def close(self) -> None:
        """Close the stream at once."""
        _open_streams.discard(self)
        self._socket.close()


class AsyncStream(asyncio.Protocol):
    """A stream of an event loop, with the methods of `SyncStream`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._socket: socket.socket | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._is_write_paused = self._is_ended = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, target: Target, limit: float | None) -> Stream:  # noqa: D102
        stream = cls(asyncio.get_running_loop())
        with _map_errors():
            try:
                async with loop_timeout(limit):
                    stream._socket = sock = await connect_async(target)
                    await stream._loop.create_connection(lambda: stream, sock=sock)
                    if target.tls_name is None:
                        return stream
                    return await TLSStream.open(stream, target.tls_name, None)
            except BaseException:
                stream.close()
                raise

    # -- called by the event loop ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Store data, and pause reading if there is too much."""
        self._buffer += data
        if len(self._buffer) > _MAX_BUFFER and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Record the end; asyncio then closes the connection."""
        self._is_ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end and its cause."""
        if exc is not None:
            self._read_rest()
        self._is_ended, self._failure = True, exc
        self._wake()

    def _read_rest(self) -> None:
        """Read data that the server sent before it closed; asyncio drops it when a write fails."""
        with contextlib.suppress(OSError):
            self._buffer += self._socket.recv(_MAX_BUFFER) if self._socket is not None else b""

    def pause_writing(self) -> None:
        """Record that the server reads too slowly."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Record that the server has read enough."""
        self._is_write_paused = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    # -- called by the connection ----------------------------------------------------------

    @property
    def is_idle(self) -> bool:  # noqa: D102
        if self._is_ended or self._buffer or self._transport is None or self._socket is None:
            return False
        return not _is_readable(self._socket)  # the loop may not know it yet

    async def write(self, data: bytes | memoryview, limit: float | None) -> None:  # noqa: D102
        if len(data) > _READ_SIZE:
            await asyncio.sleep(0)  # store a response that came before all was written
        transport = self._transport
        if transport is None or self._is_ended or transport.is_closing():
            raise httpx.WriteError("the connection is closed") from self._failure
        transport.write(data)
        has_failed = transport.is_closing()  # the loop passes on the cause in its next iteration
        deadline = None if limit is None else self._loop.time() + limit
        while (self._is_write_paused or has_failed) and not self._is_ended:
            if not await self._wait_for_change(deadline):
                raise httpx.WriteTimeout("the server does not read the request")
        # if the connection was lost after all was written, `read` raises: the request was sent
        if self._is_write_paused or has_failed:
            raise httpx.WriteError(str(self._failure)) from self._failure

    async def read(self, limit: float | None) -> bytes:  # noqa: D102
        while not self._buffer:
            if self._failure is not None:
                raise httpx.ReadError(str(self._failure)) from self._failure
            if self._is_ended or self._transport is None:
                return b""
            deadline = None if limit is None else self._loop.time() + limit
            if not await self._wait_for_change(deadline):
                raise httpx.ReadTimeout("no data arrived in time")
        data = bytes(self._buffer)
        self._buffer.clear()
        if len(data) > _MAX_BUFFER and self._transport is not None:
            self._transport.resume_reading()
        return data

    def _wait_for_change(self, deadline: float | None) -> asyncio.Future[bool]:
        """Return a future that is True once the state changes, False at the deadline."""
        self._waiter, self._deadline = self._loop.create_future(), deadline
        if deadline is not None:
            self._set_timer(deadline)
        return self._waiter

    def _set_timer(self, deadline: float) -> None:
        """Set the timer, unless an earlier one is set, which will set the next.

        A timer for each read of a stream would cost more than the read.
        """
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
        else:
            self._waiter.set_result(False)

    def close(self) -> None:  # noqa: D102
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        if transport is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                transport.abort()
        if self._socket is not None and not self._loop.is_running():
            self._socket.close()


SocketStream = SyncStream | AsyncStream


class TLSStream:
    """TLS over another stream, which may use TLS itself: to a server through a proxy.

    asyncio's TLS drops a response that came before the request was sent, and raises a TypeError on
    CPython 3.11 if a handshake over TLS fails.
    """

    def __init__(self, outer: Stream, name: str) -> None:
        self._outer, self._received, self._to_send = outer, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls_context().wrap_bio(self._received, self._to_send, server_hostname=name)
        self._end: ssl.SSLError | None = None
        """How TLS ended, after the content that was returned."""

    @classmethod
    async def open(cls, outer: Stream, name: str, limit: float | None) -> Self:
        """Encrypt what follows; `outer` is closed if that fails."""
        try:
            stream = cls(outer, name)
            with _map_errors():
                await stream._run(stream._tls.do_handshake, limit)
                await outer.write(stream._to_send.read(), limit)
        except BaseException:
            outer.close()
            raise
        return stream

    @property
    def is_idle(self) -> bool:  # noqa: D102
        return self._end is None and self._outer.is_idle and not self._received.pending

    async def write(self, data: bytes | memoryview, limit: float | None) -> None:  # noqa: D102
        try:
            self._tls.write(data)
        except OSError as error:
            raise httpx.WriteError(str(error)) from error
        await self._outer.write(self._to_send.read(), limit)

    async def read(self, limit: float | None) -> bytes:  # noqa: D102
        try:
            return await self._run(self._decrypt, limit)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # with a close_notify, and without
            return b""
        except OSError as error:
            raise httpx.ReadError(str(error)) from error

    def _decrypt(self) -> bytes:
        """Return the content of the records received: OpenSSL reads one at a time."""
        if self._end is not None:
            raise self._end
        records = [self._tls.read(_READ_SIZE)]
        try:
            while records[-1] and self._received.pending:
                records.append(self._tls.read(_READ_SIZE))
        except ssl.SSLWantReadError:  # a part of a record
            pass
        except ssl.SSLError as error:  # OpenSSL raises it once; afterwards it reports an end
            self._end = error
        if not records[-1]:
            self._end = ssl.SSLZeroReturnError()
        return b"".join(records)

    async def _run(self, step: Callable[[], T], limit: float | None) -> T:
        """Call `step` again until it has received what it needs."""
        until: float | None = None
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                left = time_left(until, limit)
            if until is None and limit is not None:
                until = time.monotonic() + limit
            if data := self._to_send.read():
                await self._outer.write(data, left)
            if data := await self._outer.read(left):
                self._received.write(data)
            else:
                self._received.write_eof()

    def close(self) -> None:  # noqa: D102
        self._outer.close()


Stream = SocketStream | TLSStream


def time_left(deadline: float | None, limit: float | None = None) -> float | None:
    """Return the seconds for the next read or write: `limit`, or until the deadline if less.

    Raises:
        httpx.ReadTimeout: The deadline has passed.
    """
    if deadline is None:
        return limit
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpx.ReadTimeout("the answer was not complete in time")
    return left if limit is None or left < limit else limit


_open_streams: set[SyncStream] = set()
"""The garbage collector would close a socket before the generator that returns it to its pool."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_streams.clear)


@atexit.register
def _close_all() -> None:
    for stream in list(_open_streams):
        stream.close()


@contextlib.contextmanager
def _map_errors() -> Iterator[None]:
    """Raise errors while connecting as httpx's errors of connecting."""
    try:
        yield
    except TimeoutError as error:
        raise httpx.ConnectTimeout(str(error) or "timed out") from error  # asyncio's has no text
    except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise httpx.ConnectTimeout("the TLS handshake was not complete in time") from error
    except (httpx.ReadError, httpx.WriteError) as error:
        raise httpx.ConnectError(str(error)) from error
    except OSError as error:
        is_local = error.errno in LOCAL_ERRORS
        raise (httpx.PoolTimeout if is_local else httpx.ConnectError)(str(error)) from error


def _is_readable(sock: socket.socket) -> bool:
    """Return True if data, or the end, has arrived."""
    if hasattr(select, "poll"):  # `select` takes no descriptor above 1023
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context of this process; it respects `SSL_CERT_FILE` and `SSL_CERT_DIR`.

    Raises:
        InvalidRequestError: The certificates cannot be read.
    """
    try:
        context = httpx.create_ssl_context()
    except OSError as error:
        reason = type(error).__name__
    else:
        context.set_alpn_protocols(["http/1.1"])
        return context
    path = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    raise InvalidRequestError(
        f"the certificates in {path!r} cannot be read: {reason}",
        phase="not sent",
        hint="SSL_CERT_FILE is a file of certificates in PEM, SSL_CERT_DIR a folder of them",
    )
