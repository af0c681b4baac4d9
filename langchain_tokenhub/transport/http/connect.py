"""Connect a TCP socket to one of a host's addresses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohappyeyeballs

if TYPE_CHECKING:
    import httpx

CONNECTION_ATTEMPT_DELAY = 0.25
"""Seconds until an async connection tries the next address as well (RFC 8305)."""
MAX_IDLE = 30.0
"""Seconds that an idle connection is kept."""
_MIN_TIMEOUT = 0.001
_TICKS = 8

LOCAL_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""System errors that mean that this machine can open no further connection."""
_UNINFORMATIVE = LOCAL_ERRORS | {errno.EAFNOSUPPORT}

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""An item of what `getaddrinfo` returns."""


class Target(NamedTuple):
    """What to connect to.

    Args:
        host: Name or address of the host.
        port: Its port.
        tls_name: Name that the certificate must have; None for plain text, on loopback only.
        addresses: The addresses to connect to, if `host` must not be resolved.
        proxy: The proxy to connect through, always with TLS.
    """

    host: str
    port: int
    tls_name: str | None
    addresses: tuple[str, ...] = ()
    proxy: httpx.Proxy | None = None


# fmt: off
_OPTIONS = (
    ("SOL_SOCKET", "SO_KEEPALIVE", 1), ("IPPROTO_TCP", "TCP_NODELAY", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 60), ("IPPROTO_TCP", "TCP_KEEPINTVL", 10),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3), ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 120_000),
)
# fmt: on
"""Options that detect a lost peer in a minute or two; not every system has all of them."""


def connect_sync(target: Target, timeout: float | None) -> socket.socket:
    """Return a connected socket, whose timeout is the rest of `timeout`.

    The addresses are tried in turn, each for an equal part of the time that is left. The time
    starts once they are known, because a blocking resolver cannot be interrupted.

    Raises:
        TimeoutError: The last address did not accept the connection in time.
        OSError: No address accepted the connection, or the host has none.
    """
    addresses = _known_addresses(target) or socket.getaddrinfo(
        target.host, target.port, type=socket.SOCK_STREAM
    )
    deadline = None if timeout is None else time.monotonic() + timeout
    failure: OSError | None = None
    for number, address in enumerate(addresses):
        try:
            sock = _connect(address, _part(deadline, len(addresses) - number))
        except OSError as error:
            # an error of this machine, such as no IPv6, is the least informative
            failure = failure if failure and error.errno in _UNINFORMATIVE else error
        else:
            sock.settimeout(_part(deadline, 1))
            return sock
    raise failure or OSError("the host has no address")


def _part(deadline: float | None, parts: int) -> float | None:
    left = None if deadline is None else (deadline - time.monotonic()) / parts
    return None if left is None else max(_MIN_TIMEOUT, left)


def _connect(address: AddressInfo, timeout: float | None) -> socket.socket:
    sock = open_socket(address)
    try:
        sock.settimeout(timeout)
        sock.connect(address[4])
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_async(target: Target) -> socket.socket:
    """Return a connected, non-blocking socket to the address that accepts first.

    Raises:
        OSError: No address accepted the connection, or the host has none.
    """
    addresses = _known_addresses(target) or await asyncio.get_running_loop().getaddrinfo(
        target.host, target.port, type=socket.SOCK_STREAM
    )
    if not addresses:
        raise OSError("the host has no address")
    return await aiohappyeyeballs.start_connection(
        addresses,
        happy_eyeballs_delay=CONNECTION_ATTEMPT_DELAY,
        socket_factory=open_socket,
    )


def _known_addresses(target: Target) -> Sequence[AddressInfo]:
    """Return the given addresses, or the host if it is one, without a resolver and a thread."""
    parse = functools.partial(
        socket.getaddrinfo, port=target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    if target.addresses:
        return [found for address in target.addresses for found in parse(address)]
    with contextlib.suppress(socket.gaierror):
        return parse(target.host)
    return ()


def open_socket(address: AddressInfo) -> socket.socket:
    """Return a new socket for `address`, not yet connected."""
    sock = socket.socket(*address[:3])
    for level, name, value in _OPTIONS:
        if hasattr(socket, name):
            sock.setsockopt(getattr(socket, level), getattr(socket, name), value)
    return sock


@contextlib.asynccontextmanager
async def loop_timeout(seconds: float | None) -> AsyncIterator[None]:
    """Raise TimeoutError after `seconds` in which the event loop runs.

    `asyncio.timeout` expires in spite of an open connection if other callbacks block the loop, as
    when thousands of calls start at once. With this timeout a blocked loop costs at most one tick.
    """
    if seconds is None:
        yield
        return
    loop, tick = asyncio.get_running_loop(), seconds / _TICKS
    timer: asyncio.TimerHandle

    def count(left: int) -> None:
        nonlocal timer
        if left:
            timer = loop.call_later(tick, count, left - 1)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        timer = loop.call_later(tick, count, _TICKS - 1)
        try:
            yield
        finally:
            timer.cancel()
