"""Connect to a host: the first of its addresses that answers, the others let go of (RFC 8305).

An address that nobody can reach (of IPv6, often) costs a quarter of a second, and not the whole
patience. The races are our own: Python's sync one waits for each address in turn, and asyncio's
loses sockets when it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import math
import os
import selectors
import socket
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

HEAD_START = 0.25
"""Seconds after which the next address is tried beside those before it."""
_LEAST = 0.001
"""Seconds that TLS has at least where the connection came at the last moment."""
_SLICES = 8
"""Parts of a patience that begin when the loop comes to them."""
_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""A line of `getaddrinfo`."""


@dataclass(frozen=True)
class Target:
    """Where a line leads.

    Args:
        host: Name or address that is connected to.
        port: Of that host.
        tls_name: Name that the certificate must have; None for plain text, on loopback alone.
    """

    host: str
    port: int
    tls_name: str | None


def connect_sync(goal: Target, limit: float | None) -> socket.socket:
    """Return a socket that is connected; its timeout is what is left of `limit` seconds.

    They begin when the host's addresses are known: nothing bounds a resolver that blocks.

    Raises:
        TimeoutError: No address took the connection in time.
        OSError: None takes it, or there is none.
    """
    addresses = _literal(goal) or socket.getaddrinfo(goal.host, goal.port, type=socket.SOCK_STREAM)
    until = math.inf if limit is None else time.monotonic() + limit
    plug = _winner(addresses, until)
    plug.settimeout(None if limit is None else max(_LEAST, until - time.monotonic()))
    return plug


async def connect_async(goal: Target) -> socket.socket:
    """Return a socket that is connected, and does not block.

    Raises:
        OSError: No address takes the connection, or there is none.
    """
    loop = asyncio.get_running_loop()
    addresses = _literal(goal) or await loop.getaddrinfo(
        goal.host, goal.port, type=socket.SOCK_STREAM
    )
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    return await _first_connected(loop, addresses)


def _literal(goal: Target) -> Sequence[Address]:
    """Return the address that `goal` is, if it is one: that needs no resolver, and no thread."""
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(
            goal.host, goal.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    return ()


def _socket(address: Address) -> socket.socket:
    family, kind, protocol, _, _ = address
    plug = socket.socket(family, kind, protocol)
    plug.settimeout(0)
    for option in socket_options():
        plug.setsockopt(*option)
    return plug


def _weightier(known: OSError, other: OSError) -> OSError:
    """Return what says more of the host: this machine may have no way to one of its addresses."""
    wayless = other.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return known if wayless and known.errno is not None else other


@functools.cache
def socket_options() -> list[tuple[int, int, int]]:
    """Return options that find a dead peer in a minute or two, where the system knows them."""
    wanted = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    known = [(getattr(socket, name, None), value) for name, value in wanted]
    known.append((getattr(socket, "TCP_USER_TIMEOUT", None), 120_000))
    tcp = [(socket.IPPROTO_TCP, name, value) for name, value in known if name is not None]
    nodelay = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return [nodelay, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *tcp]


# -- the race of a thread ------------------------------------------------------------------------


def _winner(addresses: Sequence[Address], until: float) -> socket.socket:
    queue, failure = list(addresses), OSError("the host has no address")
    with selectors.DefaultSelector() as racing:
        try:
            while queue or racing.get_map():
                problem = _started(racing, queue.pop(0)) if queue else 0
                if problem:
                    failure = _weightier(failure, OSError(problem, os.strerror(problem)))
                    continue
                for plug in _ended(racing, until, HEAD_START if queue else math.inf):
                    racing.unregister(plug)
                    if (problem := plug.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                        return plug
                    failure = _weightier(failure, OSError(problem, os.strerror(problem)))
                    plug.close()
        finally:
            for plug in _sockets(list(racing.get_map().values())):
                plug.close()
    raise failure


def _started(racing: selectors.BaseSelector, address: Address) -> int:
    """Begin to connect; return the system's number of why that cannot be."""
    try:
        plug = _socket(address)
    except OSError as lacking:  # of an address family, or of descriptors
        return lacking.errno or errno.EINVAL
    problem = plug.connect_ex(address[4])
    if problem in _UNDER_WAY:
        racing.register(plug, selectors.EVENT_WRITE)
        return 0
    plug.close()
    return problem


def _ended(racing: selectors.BaseSelector, until: float, most: float) -> list[socket.socket]:
    """Wait until an attempt has ended, well or badly, but not longer than `most` seconds."""
    wait = max(0.0, min(until - time.monotonic(), most))
    ready = racing.select(None if wait == math.inf else wait)
    if not ready and time.monotonic() >= until:
        raise TimeoutError("timed out")
    return _sockets(key for key, _ in ready)


def _sockets(keys: Iterable[selectors.SelectorKey]) -> list[socket.socket]:
    return [cast("socket.socket", key.fileobj) for key in keys]


# -- the race of a loop --------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def patient(limit: float | None) -> AsyncIterator[None]:
    """Give up after `limit` seconds of a loop that runs: what holds the loop up is no host's fault.

    `asyncio.timeout` counts what other callbacks took, and gives up on an answer that is there but
    not yet read: when thousands of calls begin at once, or a notebook works between two `await`s.
    Here time that the loop is held up counts as one slice of the limit at most.
    """
    if limit is None:
        yield
        return
    loop, part = asyncio.get_running_loop(), limit / _SLICES
    timer: asyncio.TimerHandle

    def wait(slices: int) -> None:
        nonlocal timer
        if slices:
            timer = loop.call_later(part, wait, slices - 1)
        else:
            clock.reschedule(loop.time())

    async with asyncio.timeout(None) as clock:
        timer = loop.call_later(part, wait, _SLICES - 1)
        try:
            yield
        finally:
            timer.cancel()


async def _first_connected(
    loop: asyncio.AbstractEventLoop, addresses: Sequence[Address]
) -> socket.socket:
    queue, started = list(addresses), set[asyncio.Task[socket.socket]]()
    racing, failure = set[asyncio.Task[socket.socket]](), OSError("the host has no address")
    try:
        while queue or racing:
            if queue:
                task = loop.create_task(_connected(loop, queue.pop(0)))
                started.add(task)
                racing.add(task)
            done, racing = await asyncio.wait(
                racing,
                timeout=HEAD_START if queue else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if (problem := task.exception()) is None:
                    started.remove(task)
                    return task.result()
                if isinstance(problem, OSError):
                    failure = _weightier(failure, problem)
    finally:
        for task in started:
            task.cancel()
            task.add_done_callback(_discard)
    raise failure


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connected(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    plug = _socket(address)
    try:
        await loop.sock_connect(plug, address[4])
    except BaseException:
        with contextlib.suppress(NotImplementedError):
            loop.remove_writer(plug)  # else a loop that was cancelled may keep it for another's
        plug.close()
        raise
    return plug
