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

from langchain_tokenhub.transport import hosts, line, retry
from langchain_tokenhub.transport.lane import IDLE, DirectLane, Lane
from langchain_tokenhub.transport.line import AsyncLine, SyncLine, close_orphans
from langchain_tokenhub.transport.proxies import proxy_of

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
        self._idle: dict[Origin, deque[tuple[float, Lane]]] = {}
        self._swept = time.monotonic()

    def take(self, origin: Origin, youth: float) -> Lane | None:
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

    def put(self, origin: Origin, lane: Lane) -> list[Lane]:
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

    def clear(self) -> list[Lane]:
        """Return all lanes, and keep none."""
        return [lane for stack in list(self._idle.values()) for lane in _old(stack, 0.0, 0)]


_NOTHING: tuple[float, None] = (0.0, None)


def _old(stack: deque[tuple[float, Lane]], now: float, most: int) -> list[Lane]:
    """Take the lanes that are too old or too many from `stack`."""
    swept: list[Lane] = []
    with contextlib.suppress(IndexError):  # another thread took the last one meanwhile
        while stack and (len(stack) > most or now - stack[0][0] >= IDLE):
            swept.append(stack.popleft()[1])
    return swept


def _sync_lane(request: httpx.Request) -> Lane:
    proxy = proxy_of(request)
    return DirectLane(SyncLine) if proxy is None else _proxied().SyncProxied(proxy)


def _async_lane(request: httpx.Request) -> Lane:
    proxy = proxy_of(request)
    return DirectLane(AsyncLine) if proxy is None else _proxied().AsyncProxied(proxy)


def _proxied() -> ModuleType:
    """Return what needs an engine of its own, which nobody loads who has no proxy."""
    from langchain_tokenhub.transport import proxied

    return proxied


class Lanes:
    """The lanes of a process, for its threads."""

    def __init__(self, opened: Callable[[httpx.Request], Lane] = _sync_lane) -> None:
        self._opened = opened
        self._stacks = _Stacks()
        self._begun, self._over = True, False

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send on a free lane; sync or async, the answer's stream is an async one."""
        if not self._begun:
            await self._begin()
        origin = _origin(request)
        lane = await self._free(origin, request) or self._opened(request)
        try:
            answer = await lane.ask(request)
        except BaseException:
            await lane.close()
            raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(lane, partial(self._back, origin, lane)),
            extensions=dict(answer.extensions),
        )

    async def _free(self, origin: Origin, request: httpx.Request) -> Lane | None:
        youth = FRESH if request.extensions.get("fresh") else IDLE
        while (lane := self._stacks.take(origin, youth)) is not None:
            if not lane.over:
                return lane
            await lane.close()
        return None

    async def _back(self, origin: Origin, lane: Lane, again: bool) -> None:  # noqa: FBT001
        """Keep `lane` for the next request, if it may carry one."""
        pinned = origin[3]  # these are many addresses, each asked once
        keep = again and not (pinned or self._over)
        for swept in self._stacks.put(origin, lane) if keep else [lane]:
            await swept.close()

    async def _begin(self) -> None:
        """Begin to look at when lanes are to be kept no more: for a process, `atexit` does."""

    async def close(self) -> None:
        """Close the idle lanes; those in use come back to empty stacks."""
        for lane in self._stacks.clear():
            await lane.close()


class LoopLanes(Lanes):
    """The lanes of one event loop, for its tasks."""

    def __init__(self) -> None:
        super().__init__(_async_lane)
        self._begun = False
        self._keeper = self._until_the_loop_ends()

    async def _begin(self) -> None:
        self._begun = True
        await anext(self._keeper)

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

    def __init__(self, lane: Lane, back: Callable[[bool], Awaitable[None]]) -> None:
        self._lane, self._back = lane, back
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


_sync = Lanes()
_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLanes] = (
    weakref.WeakKeyDictionary()
)
_inherited: list[object] = []


def sync_lanes() -> Lanes:
    """Return the lanes of this process."""
    return _sync


def async_lanes() -> LoopLanes:
    """Return the lanes of the running event loop."""
    loop = asyncio.get_running_loop()
    lanes = _by_loop.get(loop)
    if lanes is None:
        for known in _by_loop.keyrefs():  # a copy: other threads begin loops too
            if (ended := known()) is not None and ended.is_closed():
                _by_loop.pop(ended, None)  # its lanes hold it, so it would never go by itself
        close_orphans()
        lanes = _by_loop[loop] = LoopLanes()
    return lanes


def _forget() -> None:
    """Start anew in a forked child; closing the parent's connections would disturb the parent."""
    global _sync, _by_loop
    _inherited.append((_sync, _by_loop))
    _sync, _by_loop = Lanes(), weakref.WeakKeyDictionary()
    hosts.forget()
    line.forget()
    retry.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
