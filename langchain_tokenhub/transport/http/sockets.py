"""A line: bytes to and from one server. Here alone sync and async connections differ.

The sync line is a socket. The async line is a protocol of asyncio: what comes is put down at once
by the event loop, so that a reader who is late finds it there, also when a write has failed since.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import functools
import os
import select
import socket
import ssl
import weakref
from collections.abc import Iterator
from typing import Protocol, Self, cast

import httpx

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport.calls import LONGEST_WAIT
from langchain_tokenhub.transport.http.connect import Target, connect_async, connect_sync, patient

PIECE = 256 * 1024
"""Bytes of a large request that are written at once; each piece has the whole write timeout."""
_READ = 64 * 1024
_ENOUGH = 1024 * 1024
"""Bytes that may wait for their reader; a server that says more has to wait."""


class Stream(Protocol):
    """Bytes to and from one server; each wait has a limit in seconds."""

    @classmethod
    async def open(cls, goal: Target, limit: float | None) -> Self:
        """Connect.

        Raises:
            httpx.ConnectError: It is not reachable, or not who it should be.
            httpx.ConnectTimeout: It is not reachable in time.
        """
        ...

    @property
    def quiet(self) -> bool:
        """Whether the line is open and nothing was said on it, as when it is idle."""
        ...

    @property
    def orphaned(self) -> bool:
        """Whether its loop has ended without closing it."""
        ...

    @property
    def served(self) -> bool:
        """Whether it has a loop that runs."""
        ...

    async def write(self, data: bytes | memoryview, limit: float | None) -> None:
        """Send `data`, all of it.

        Raises:
            httpx.WriteError: The connection is cut; what was said on it can still be read.
            httpx.WriteTimeout: The server takes no more.
        """
        ...

    async def read(self, limit: float | None) -> bytes:
        """Return what came, at least a byte; nothing at the end.

        Raises:
            httpx.ReadError: The connection is cut.
            httpx.ReadTimeout: The server says nothing.
        """
        ...

    def close(self) -> None:
        """End the connection, at once."""
        ...


class SyncStream:
    """A line that blocks its thread."""

    orphaned = served = False

    def __init__(self, plug: socket.socket) -> None:
        self._socket = plug
        self._limit = plug.gettimeout()
        _known[id(self)] = self

    @classmethod
    async def open(cls, goal: Target, limit: float | None) -> Self:  # noqa: D102
        secure = None if goal.tls_name is None else tls()
        with _connecting():
            plug = connect_sync(goal, limit)
            if secure is not None:
                plug = _secured(secure, plug, goal)
        return cls(plug)

    @property
    def quiet(self) -> bool:  # noqa: D102
        return not _readable(self._socket)

    async def write(self, data: bytes | memoryview, limit: float | None) -> None:  # noqa: D102
        try:
            self._wait_for(limit)
            self._socket.sendall(data)
        except TimeoutError as late:
            raise httpx.WriteTimeout(str(late)) from late
        except OSError as cut:
            raise httpx.WriteError(str(cut)) from cut

    async def read(self, limit: float | None) -> bytes:  # noqa: D102
        try:
            self._wait_for(limit)
            return self._socket.recv(_READ)
        except TimeoutError as late:
            raise httpx.ReadTimeout(str(late)) from late
        except OSError as cut:
            raise httpx.ReadError(str(cut)) from cut

    def _wait_for(self, limit: float | None) -> None:
        if limit != self._limit:  # saying it again would be a system call
            self._socket.settimeout(limit)
            self._limit = limit

    def close(self) -> None:  # noqa: D102
        self._socket.close()


class AsyncStream(asyncio.Protocol):
    """A line of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._came: list[bytes] = []
        self._size = 0
        self._full = self._ended = self._stopped = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, goal: Target, limit: float | None) -> Self:  # noqa: D102
        loop = asyncio.get_running_loop()
        line, name = cls(loop), goal.tls_name
        secure = None if name is None else tls()
        with _connecting():
            try:
                async with patient(limit):
                    plug = await connect_async(goal)
                    await loop.create_connection(
                        lambda: line,
                        sock=plug,
                        ssl=secure,
                        server_hostname=name,
                        ssl_handshake_timeout=None if secure is None else LONGEST_WAIT,
                    )
            except BaseException:
                line.close()  # asyncio would wait up to 30 s for the server's farewell
                raise
        return line

    # -- what the loop says ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)
        _known[id(self)] = self

    def data_received(self, data: bytes) -> None:
        """Put down what came."""
        self._came.append(data)
        self._size += len(data)
        if self._size > _ENOUGH and not self._full and self._transport is not None:
            self._full = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Take note of the end; the connection is then closed."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end, and of why."""
        if exc is not None:
            self._rescue()
        self._ended, self._failure = True, exc
        self._wake()

    def _rescue(self) -> None:
        """Take what the server said before it hung up; asyncio forgets it when a write fails."""
        transport = self._transport
        plug = transport.get_extra_info("socket") if transport is not None else None
        if transport is None or plug is None or transport.get_extra_info("ssl_object"):
            return
        if os.name != "posix":  # elsewhere a socket's number is no file's
            return
        with contextlib.suppress(OSError):
            came = os.read(plug.fileno(), _ENOUGH)
            self._came += [came] if came else []

    def pause_writing(self) -> None:
        """Take note that the server is slow to take what is sent."""
        self._stopped = True

    def resume_writing(self) -> None:
        """Take note that it has caught up."""
        self._stopped = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    # -- what the lane asks ----------------------------------------------------------------

    @property
    def quiet(self) -> bool:  # noqa: D102
        transport = self._transport
        if self._ended or self._came or transport is None:
            return False
        return not _readable(transport.get_extra_info("socket"))  # the loop may not know it yet

    async def write(self, data: bytes | memoryview, limit: float | None) -> None:  # noqa: D102
        if len(data) > _READ:
            await asyncio.sleep(0)  # hear what the server has to say before it takes no more
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            raise httpx.WriteError("the connection is closed") from self._failure
        transport.write(data)
        failed = transport.is_closing()  # of a write: asyncio tells why in the loop's next turn
        until = None if limit is None else self._loop.time() + limit
        while (self._stopped or failed) and not self._ended:
            if not await self._news(until):
                raise httpx.WriteTimeout("the server takes no more")
        # a connection that is lost once all has left is for `read` to tell: it was sent
        if self._stopped or failed:
            raise httpx.WriteError(str(self._failure)) from self._failure

    async def read(self, limit: float | None) -> bytes:  # noqa: D102
        while not self._came:
            if self._failure is not None:
                raise httpx.ReadError(str(self._failure)) from self._failure
            if self._ended or self._transport is None:
                return b""
            if not await self._news(None if limit is None else self._loop.time() + limit):
                raise httpx.ReadTimeout("the server says nothing")
        data = self._came[0] if len(self._came) == 1 else b"".join(self._came)
        self._came.clear()
        self._size = 0
        if self._full and self._transport is not None:
            self._full = False
            self._transport.resume_reading()
        return data

    def _news(self, until: float | None) -> asyncio.Future[bool]:
        """Return what becomes true when something happens, and false when nothing did `until`."""
        self._waiter, self._until = self._loop.create_future(), until
        if until is not None:
            self._watch(until)
        return self._waiter

    def _watch(self, until: float) -> None:
        """Look at `until`; a timer that is set for earlier will do, and then sets the next.

        One for each wait would be made and cancelled with every piece of a stream.
        """
        if self._timer is not None:
            if self._timer.when() <= until:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._until is None:
            return
        if self._loop.time() < self._until:
            self._watch(self._until)
        else:
            self._waiter.set_result(False)

    @property
    def orphaned(self) -> bool:
        """Whether its loop has ended without closing it."""
        return self._transport is not None and self._loop.is_closed()

    @property
    def served(self) -> bool:
        """Whether it has a loop that runs."""
        return self._loop.is_running()

    def close(self) -> None:  # noqa: D102
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        if transport is None:
            return
        with contextlib.suppress(RuntimeError):  # of a loop that is closed
            transport.abort()
        if not self.served:
            _bury(transport)


_known: weakref.WeakValueDictionary[int, SyncStream | AsyncStream] = weakref.WeakValueDictionary()
"""The lines of this process."""


def _lines() -> list[SyncStream | AsyncStream]:
    """Return the lines that are alive; other threads may open some meanwhile."""
    return [line for ref in _known.valuerefs() if (line := ref()) is not None]


def close_orphans() -> None:
    """Close the lines whose loop has ended without closing them."""
    for line in _lines():
        if line.orphaned:
            line.close()


@atexit.register
def _close_all() -> None:
    """Close what is open when the process ends, unless its loop runs still, on another thread."""
    for line in _lines():
        if not line.served:
            line.close()


def forget() -> None:
    """Let the parent of a forked child have its lines; their loop's selector is one for both."""
    _known.clear()


def _bury(transport: asyncio.Transport) -> None:
    """Close the socket of a loop that does not run: `abort` leaves that to its next turn.

    Python would close it too, and complain that nobody did. asyncio has no public way, so where the
    names are others than these, Python complains.
    """
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    lose = getattr(inner, "_call_connection_lost", None)
    if lose is not None and getattr(inner, "_sock", None) is not None:
        with contextlib.suppress(RuntimeError):
            lose(None)


def _secured(context: ssl.SSLContext, plug: socket.socket, goal: Target) -> ssl.SSLSocket:
    with contextlib.closing(plug):  # wrapped, it is another's: closing it then does nothing
        secure = context.wrap_socket(
            plug, server_hostname=goal.tls_name, do_handshake_on_connect=False
        )
    try:
        secure.do_handshake()
    except BaseException:
        secure.close()
        raise
    return secure


_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL}
"""What says that this machine, and not the server, can open no further connection."""


@contextlib.contextmanager
def _connecting() -> Iterator[None]:
    """Raise the system's errors as httpx's; those of this machine blame no host."""
    try:
        yield
    except TimeoutError as late:
        raise httpx.ConnectTimeout(str(late)) from late
    except OSError as problem:
        ours = problem.errno in _EXHAUSTED
        kind = httpx.PoolTimeout if ours else httpx.ConnectError
        raise kind(str(problem)) from problem


def _readable(plug: socket.socket) -> bool:
    """Say whether something came on an idle socket: a word that nobody asked for, or its end."""
    if hasattr(select, "poll"):  # `select` takes no descriptor above 1023
        poll = select.poll()
        poll.register(plug, select.POLLIN)
        return bool(poll.poll(0))
    return select.select([plug], [], [], 0)[0] != []


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the one TLS context of this process; `SSL_CERT_FILE` is honoured.

    Raises:
        InvalidRequestError: What it names cannot be read.
    """
    try:
        context = httpx.create_ssl_context()
    except OSError as unreadable:
        reason = type(unreadable).__name__
    else:
        context.set_alpn_protocols(["http/1.1"])
        return context
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    raise InvalidRequestError(
        f"the certificates in {named!r} cannot be read: {reason}",
        phase="not sent",
        hint="SSL_CERT_FILE names a file of certificates in PEM, SSL_CERT_DIR a folder of them",
    )
