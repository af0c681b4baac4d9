"""Where sync and async differ, and the only place that waits.

Everything above is written once, as `async def`, over one of these wires. The sync face runs the
same coroutine with a single `send(None)`: over a `SyncWire` nothing in it ever suspends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ipaddress
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar, cast

import httpx

from langchain_tokenhub.transport.lanes import async_lanes, sync_lanes

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

GRACE = 10.0
"""Seconds that an interrupted submit may take to learn its job's id."""


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on this thread, with no event loop."""
    try:
        work.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    else:
        raise RuntimeError(f"{work!r} waited for something that is not its wire")
    finally:
        work.close()


def drain(stream: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate `stream` on this thread, with no event loop, and close it when left."""
    try:
        while True:
            yield finish(stream.__anext__())
    except StopAsyncIteration:
        return
    finally:
        finish(stream.aclose())


class AbandonedError(Exception):
    """A submit was interrupted before its first byte, and must not be sent any more."""


class Progress:
    """How far a request has come, told by the HTTP library's trace."""

    __slots__ = ("abandoned", "answered", "body_sent", "started", "traced")

    def __init__(self) -> None:
        self.abandoned = False
        self.traced = False
        self.started = False
        self.body_sent = False
        self.answered = False

    def note(self, name: str, info: dict[str, Any]) -> None:
        """Take one event of the trace."""
        self.traced = True
        step = name.partition(".")[2]
        if not step.startswith(("send_request", "receive_response_headers")):
            return
        if getattr(info.get("request"), "method", None) == b"CONNECT":
            return  # a proxy's tunnel, not our request
        if step == "send_request_headers.started":
            self.started = True
            if self.abandoned:  # looked at after `started` is set: see `SyncWire.shielded`
                raise AbandonedError("interrupted before anything was sent")
        elif step == "send_request_body.complete":
            self.body_sent = True
        elif step == "receive_response_headers.complete":
            self.answered = True


class Wire(Protocol):
    """What the core needs of the world."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def plain(self) -> Wire:
        """Return a wire without the caller's client, whose headers may hold a key."""

    def trace(self, progress: Progress) -> Callable[..., Any]:
        """Return the callback that tells `progress`."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send, and return the answer with its body not yet read."""

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, still encoded."""

    async def close(self, response: httpx.Response) -> None:
        """Give the connection back, or close it if the body was not read to its end."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Return the addresses of `host`."""

    async def blocking(self, work: Callable[[], T]) -> T:
        """Run what blocks (files, a user's store) where it holds up nobody else."""

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:
        """Wait at most `seconds` until another thread or task ends `future`; say whether it did.

        An interrupted wait cancels `future`.
        """

    async def shielded(
        self, work: Coroutine[Any, Any, T], progress: Progress
    ) -> tuple[T, BaseException | None]:
        """Finish `work` although its caller is interrupted, once its first byte was sent.

        Returns the result, and the interruption that is to be raised when the result is safe.
        """


class SyncWire:
    """Waits by blocking this thread."""

    def __init__(self, client: httpx.Client | None = None) -> None:
        self._client = client

    def now(self) -> float:  # noqa: D102
        return time.monotonic()

    def plain(self) -> Wire:  # noqa: D102
        return SyncWire()

    def trace(self, progress: Progress) -> Callable[..., Any]:  # noqa: D102
        return progress.note

    async def send(self, request: httpx.Request) -> httpx.Response:  # noqa: D102
        if self._client is None:
            return sync_lanes().handle_request(request)
        return self._client.send(request, stream=True, follow_redirects=False)

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        for chunk in response.iter_raw():
            yield chunk

    async def close(self, response: httpx.Response) -> None:  # noqa: D102
        response.close()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        time.sleep(seconds)  # noqa: ASYNC251 - this wire is the sync one

    async def resolve(self, host: str) -> tuple[Address, ...]:  # noqa: D102
        return _addresses(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    async def blocking(self, work: Callable[[], T]) -> T:  # noqa: D102
        return work()

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        try:
            concurrent.futures.wait([future], seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], progress: Progress
    ) -> tuple[T, BaseException | None]:
        if threading.current_thread() is not threading.main_thread():
            return finish(work), None  # Ctrl-C comes to the main thread alone
        worker = _Worker(work)
        try:
            worker.join(None)
        except KeyboardInterrupt as interruption:
            # set before `started` is read, while the worker does it the other way round: one sees
            progress.abandoned = True
            if not progress.started:
                raise
            worker.join(GRACE)
            return worker.result(interruption), interruption
        return worker.result(None), None


class _Worker:
    """Runs a coroutine on a thread of its own and keeps what came of it."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._value: list[Any] = []
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(finish(self._work))
        except BaseException as error:  # noqa: BLE001 - raised again by `result` on the caller's thread
            self._error = error

    def join(self, seconds: float | None) -> None:
        self._thread.join(seconds)

    def result(self, interruption: BaseException | None) -> Any:
        if self._value:
            return self._value[0]
        error = self._error or interruption
        self._error = None
        if error is None or error is interruption or interruption is None:
            raise error or RuntimeError("the submit's thread ended with nothing")
        interruption.add_note(f"the submit that was under way: {error}")
        raise interruption


class AsyncWire:
    """Waits by giving the event loop its turn."""

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._client = client

    def now(self) -> float:  # noqa: D102
        return time.monotonic()

    def plain(self) -> Wire:  # noqa: D102
        return AsyncWire()

    def trace(self, progress: Progress) -> Callable[..., Any]:  # noqa: D102
        async def note(name: str, info: dict[str, Any]) -> None:
            progress.note(name, info)

        return note

    async def send(self, request: httpx.Request) -> httpx.Response:  # noqa: D102
        if self._client is None:
            return await async_lanes().handle_async_request(request)
        return await self._client.send(request, stream=True, follow_redirects=False)

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        async for chunk in response.aiter_raw():
            yield chunk

    async def close(self, response: httpx.Response) -> None:  # noqa: D102
        await response.aclose()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(seconds)

    async def resolve(self, host: str) -> tuple[Address, ...]:  # noqa: D102
        loop = asyncio.get_running_loop()
        return _addresses(await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    async def blocking(self, work: Callable[[], T]) -> T:  # noqa: D102
        return await asyncio.to_thread(work)

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        twin = asyncio.wrap_future(future)
        try:
            await asyncio.wait({twin}, timeout=seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], progress: Progress
    ) -> tuple[T, BaseException | None]:
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task), None
        except asyncio.CancelledError as interruption:
            if task.cancelled() or not progress.started:
                task.cancel()
                raise
            await asyncio.wait({task}, timeout=GRACE)
            return _settled(task, interruption), interruption


def _settled(task: asyncio.Future[T], interruption: BaseException) -> T:
    """Return what `task` brought, or raise `interruption` with a note of why it brought nothing."""
    if not task.done():
        task.cancel()
        interruption.add_note("a submit was under way and may have been charged")
        raise interruption
    if (error := task.exception()) is not None:
        interruption.add_note(f"the submit that was under way: {error}")
        raise interruption
    return task.result()


def _addresses(found: list[Any]) -> tuple[Address, ...]:
    names = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return tuple(ipaddress.ip_address(name) for name in names)


def hasten(response: httpx.Response, seconds: float) -> None:
    """Let the rest of an HTTP/1.1 answer come within `seconds`, then give up.

    The library fixes the read timeout when the body is begun; the network stream that it hands out
    is the one place where a shorter one can still be set.
    """
    stream = response.extensions.get("network_stream")
    if stream is None or response.http_version != "HTTP/1.1":
        return
    read = stream.read
    stream.read = lambda size, timeout=None: read(size, timeout=min(seconds, timeout or seconds))


def relax(response: httpx.Response) -> None:
    """Take back `hasten`, for the next request on the connection."""
    stream = response.extensions.get("network_stream")
    if stream is not None:
        vars(stream).pop("read", None)


def loopback(host: str) -> bool:
    """Say whether `host` names this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
