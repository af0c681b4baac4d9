"""Where sync and async differ, and the only place that waits.

Everything above is written once, as `async def`, over one of these wires. The sync face runs the
same coroutine with a single `send(None)`: over a `SyncWire` nothing in it ever suspends.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import ipaddress
import os
import socket
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
)
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import httpx

from langchain_tokenhub.transport.http.client import AsyncCallerClient, SyncCallerClient
from langchain_tokenhub.transport.http.pool import async_pool, sync_pool
from langchain_tokenhub.transport.send_state import SendState
from langchain_tokenhub.transport.sync_bridge import finish

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_WORKERS = 16
"""Threads of a process that work beside sync callers, however many jobs they wait for."""
INTERRUPT_GRACE = 10.0
"""Seconds that an interrupted submit may take to learn its job's id."""


class Runtime(Protocol):
    """What the core needs of the world."""

    @property
    def timeout(self) -> httpx.Timeout | None:
        """What the caller's own client says of patience, if it says anything."""
        ...

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def plain(self) -> Runtime:
        """Return a wire without the caller's client, whose headers may hold a key."""
        ...

    def send(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:
        """Send, and return the answer with its body not yet read."""
        ...

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, still encoded."""
        ...

    async def close(self, response: httpx.Response) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Return the addresses of `host`."""
        ...

    async def blocking(self, work: Callable[[], T]) -> T:
        """Run what blocks (files, a user's store) where it holds up nobody else."""
        ...

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin `work` beside what this wire does; at most `CREW` of a sync process run at once.

        Cancelling the future stops the work where it can be stopped.
        """
        ...

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:
        """Wait at most `seconds` until another thread or task ends `future`; say whether it did.

        An interrupted wait cancels `future`.
        """
        ...

    async def shielded(
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        """Finish `work` although its caller is interrupted, once its first byte was sent.

        Returns the result, and the interruption that is to be raised when the result is safe.
        """
        ...


class SyncRuntime:
    """Waits by blocking this thread."""

    def __init__(self, client: httpx.Client | httpx2.Client | None = None) -> None:
        self._client = None if client is None else SyncCallerClient(client)

    @property
    def timeout(self) -> httpx.Timeout | None:  # noqa: D102
        return None if self._client is None else self._client.timeout

    def now(self) -> float:  # noqa: D102
        return time.monotonic()

    def plain(self) -> Runtime:  # noqa: D102
        return SyncRuntime()

    def send(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:  # noqa: D102
        return (self._client or sync_pool()).send(request)

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        return _iterated(response)

    async def close(self, response: httpx.Response) -> None:  # noqa: D102
        await response.aclose()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        time.sleep(seconds)  # noqa: ASYNC251 - this wire is the sync one

    async def resolve(self, host: str) -> tuple[Address, ...]:  # noqa: D102
        return _addresses(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    async def blocking(self, work: Callable[[], T]) -> T:  # noqa: D102
        return work()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:  # noqa: D102
        context = contextvars.copy_context()
        future = _executor(os.getpid()).submit(context.run, finish, work)
        future.add_done_callback(lambda ended: work.close() if ended.cancelled() else None)
        return future

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        try:
            concurrent.futures.wait([future], seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        if threading.current_thread() is not threading.main_thread():
            return finish(work), None  # Ctrl-C comes to the main thread alone
        worker = _Worker(work)
        try:
            worker.start()  # in here: it may have sent all before this thread has its turn again
            worker.join(None)
        except BaseException as interruption:  # Ctrl-C, or what the caller's signal handler raises
            # set before it is read, while the worker does it the other way round: one sees
            send_state.abandoned = True
            if not send_state.under_way:
                worker.drop()
                raise
            worker.join(INTERRUPT_GRACE)
            return worker.result(interruption), interruption
        return worker.result(None), None


@functools.cache
def _executor(_process: int) -> concurrent.futures.ThreadPoolExecutor:
    """Return the few threads of this process that poll and fetch for sync callers."""
    return concurrent.futures.ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="tokenhub")


class _Worker:
    """Runs a coroutine on a thread of its own and keeps what came of it."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._ended: Future[Any] = Future()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drop(self) -> None:
        """Let Python not complain of work that never began."""
        if self._thread.ident is None:
            with contextlib.suppress(ValueError):  # it begins just now, and will be abandoned
                self._work.close()

    def _run(self) -> None:
        try:
            self._ended.set_result(finish(self._work))
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._ended.set_exception(error)

    def join(self, seconds: float | None) -> None:
        # not the thread's own join: before Python 3.13 a Ctrl-C in it marks the thread as ended
        concurrent.futures.wait([self._ended], seconds)

    def result(self, interruption: BaseException | None) -> Any:
        return self._ended.result() if interruption is None else _settled(self._ended, interruption)


class AsyncRuntime:
    """Waits by giving the event loop its turn."""

    def __init__(self, client: httpx.AsyncClient | httpx2.AsyncClient | None = None) -> None:
        self._client = None if client is None else AsyncCallerClient(client)

    @property
    def timeout(self) -> httpx.Timeout | None:  # noqa: D102
        return None if self._client is None else self._client.timeout

    def now(self) -> float:  # noqa: D102
        return time.monotonic()

    def plain(self) -> Runtime:  # noqa: D102
        return AsyncRuntime()

    def send(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:  # noqa: D102
        return (self._client or async_pool()).send(request)

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        return _iterated(response)

    async def close(self, response: httpx.Response) -> None:  # noqa: D102
        await response.aclose()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(seconds)

    async def resolve(self, host: str) -> tuple[Address, ...]:  # noqa: D102
        loop = asyncio.get_running_loop()
        return _addresses(await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    async def blocking(self, work: Callable[[], T]) -> T:  # noqa: D102
        return await asyncio.to_thread(work)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:  # noqa: D102
        return asyncio.run_coroutine_threadsafe(work, asyncio.get_running_loop())

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        twin = asyncio.wrap_future(future)
        try:
            await asyncio.wait({twin}, timeout=seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        task = _UncancellableTask(work, send_state)
        try:
            return await asyncio.shield(task), None
        except asyncio.CancelledError as interruption:
            task.add_done_callback(_consume_exception)
            if task.cancelled() or not send_state.under_way:
                task.cancel()
                raise
            try:
                await asyncio.wait({task}, timeout=INTERRUPT_GRACE)
            finally:
                task.release()
            return _settled(task, interruption), interruption


class _UncancellableTask(asyncio.Task[T]):
    """A task that nobody cancels while its submit is under way, a loop that ends neither."""

    def __init__(self, work: Coroutine[Any, Any, T], send_state: SendState) -> None:
        super().__init__(work, loop=asyncio.get_running_loop())
        self._progress = send_state
        self._held = True
        self._unwanted = False

    def cancel(self, msg: Any | None = None) -> bool:
        if self._held and self._progress.under_way:
            self._unwanted = True
            return False
        return super().cancel(msg)

    def release(self) -> None:
        """Let it be cancelled, as somebody may have asked meanwhile."""
        self._held = False
        if self._unwanted:
            self.cancel()


def _iterated(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    body = aiter(cast("AsyncIterable[bytes]", response.stream))
    return body if isinstance(body, AsyncGenerator) else _generated(body)


async def _generated(body: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    async for chunk in body:
        yield chunk


def _settled(task: asyncio.Future[T] | Future[T], interruption: BaseException) -> T:
    """Return what `task` brought, or raise `interruption` with a note of why it brought nothing."""
    if not task.done():
        interruption.add_note(
            f"the submit that was under way has no answer after {INTERRUPT_GRACE:g} s"
        )
        raise interruption
    if (error := task.exception()) is not None:
        interruption.add_note(f"the submit that was under way: {error}")
        raise interruption
    return task.result()


def _consume_exception(task: asyncio.Future[Any] | Future[Any]) -> None:
    """Look at an error that nobody waits for: asyncio complains of those never looked at."""
    if not task.cancelled():
        task.exception()


def _addresses(found: list[Any]) -> tuple[Address, ...]:
    names = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return tuple(ipaddress.ip_address(name) for name in names)


def hasten(response: httpx.Response, seconds: float) -> bool:
    """Set a timeout for each further read of the response; return True if that is possible."""
    if (limit_reads := response.extensions.get("limit_reads")) is None:
        return False
    limit_reads(seconds)
    return True


atexit.register(lambda: finish(sync_pool().close()))  # those through a proxy too
