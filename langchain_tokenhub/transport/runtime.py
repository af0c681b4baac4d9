"""How to wait: by blocking the thread, or by suspending the task.

Callers are written once, as `async def`. With a `SyncRuntime` they never suspend, and `run_sync`
runs them without an event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future, InvalidStateError
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar, cast

from langchain_tokenhub.transport.calls import HTTPRequest, HTTPResponse, SendState

if TYPE_CHECKING:
    import httpx

P = ParamSpec("P")
T = TypeVar("T")
TaskQueue = SimpleQueue[Callable[[], None]]

MAX_WORKERS = 16
"""Maximum threads of a process that poll and download for sync callers."""
INTERRUPT_GRACE = 10.0
"""Seconds that an interrupted submit may take to receive its job id."""
MAX_IDLE_THREADS = 16
"""Threads that are kept for further blocking calls."""

idle_threads: list[TaskQueue] = []


class Client(Protocol):
    """A caller's own client; see `transport/http/client.py`."""

    @property
    def timeout(self) -> httpx.Timeout | None:
        """The client's timeout; None if the caller did not set one."""
        ...

    def send(self, request: HTTPRequest) -> Coroutine[Any, Any, HTTPResponse]:
        """Send a request."""
        ...


class _Runtime:
    """What the runtimes share: the caller's own client, if there is one, and the clock."""

    def __init__(self, client: Client | None = None) -> None:
        self._client = client

    @property
    def timeout(self) -> httpx.Timeout | None:
        """The timeout of the caller's own client, if the caller set one."""
        return None if self._client is None else self._client.timeout

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def plain(self) -> Self:
        """Return a runtime without the caller's client, whose headers may hold a key."""
        return type(self)()


class SyncRuntime(_Runtime):
    """Waits by blocking the thread."""

    def send(self, request: HTTPRequest) -> Coroutine[Any, Any, HTTPResponse]:
        """Send a request, and return the response; its body is not yet read."""
        from langchain_tokenhub.transport.http.pool import sync_pool  # loads httpx

        return (self._client or sync_pool()).send(request)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - this is the sync runtime

    async def blocking(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function, in async code on a thread."""
        return work(*args, **kwargs)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` in the background, in sync on one of `MAX_WORKERS` threads."""
        context = contextvars.copy_context()
        future = _executor(os.getpid()).submit(context.run, run_sync, work)
        future.add_done_callback(lambda ended: work.close() if ended.cancelled() else None)
        return future

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:
        """Return True if `future` is done within `seconds`; an interruption cancels it."""
        try:
            concurrent.futures.wait([future], seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def run_shielded(
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        """Run `work`; once its first byte was sent, an interruption waits for its result.

        It waits at most `INTERRUPT_GRACE`; in async code further interruptions do not shorten that.

        Returns:
            The result, and the interruption, which the caller raises once the result is recorded.
        """
        if threading.current_thread() is not threading.main_thread():
            return run_sync(work), None  # Ctrl-C is raised in the main thread only
        future = Future[T]()
        try:
            # inside the block: it may have sent everything before this thread runs again
            run_on_thread(functools.partial(run_sync, work), future)
            concurrent.futures.wait([future])
        except BaseException as interruption:  # Ctrl-C, or what the caller's signal handler raises
            send_state.is_cancelled = True  # before `is_under_way` is read: see `SendState`
            if not send_state.is_under_way:
                # Python warns about work that never starts; a ValueError: it is running
                with contextlib.suppress(ValueError):
                    work.close()
                raise
            concurrent.futures.wait([future], INTERRUPT_GRACE)
            return _outcome(future, interruption), interruption
        return future.result(), None


@functools.cache
def _executor(_process: int) -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads of this process that poll and fetch for sync callers."""
    return concurrent.futures.ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="tokenhub")


class AsyncRuntime(_Runtime):
    """Waits by suspending the task."""

    def send(self, request: HTTPRequest) -> Coroutine[Any, Any, HTTPResponse]:  # noqa: D102
        from langchain_tokenhub.transport.http.pool import async_pool

        return (self._client or async_pool()).send(request)

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(seconds)

    async def blocking(  # noqa: D102
        self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        thread = asyncio.to_thread(work, *args, **kwargs)
        return await asyncio.shield(thread)  # a running thread cannot be cancelled

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:  # noqa: D102
        return asyncio.run_coroutine_threadsafe(work, asyncio.get_running_loop())

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        wrapped = asyncio.wrap_future(future)
        try:
            await asyncio.wait({wrapped}, timeout=seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def run_shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        task = _SubmitTask(work, send_state)
        try:
            return await asyncio.shield(task), None
        except asyncio.CancelledError as interruption:
            send_state.is_cancelled = True
            task.add_done_callback(_consume_exception)
            if task.cancelled() or not send_state.is_under_way:
                task.cancel()
                raise
            try:
                await _wait_uncancelled(task, INTERRUPT_GRACE)
            finally:
                task.release()
            return _outcome(task, interruption), interruption


Runtime = SyncRuntime | AsyncRuntime
"""Provides the transport with time, connections and threads."""


async def _wait_uncancelled(task: asyncio.Task[Any], seconds: float) -> None:
    """Wait at most `seconds` for `task`, in spite of cancellations.

    anyio cancels again in every iteration of the loop, except in a shielded scope. A second
    cancellation in asyncio comes from another timeout or task group, and is ignored.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    anyio = sys.modules.get("anyio")  # its scopes can exist only if it is loaded
    with contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True):
        while not task.done() and (left := until - loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=left)


class _SubmitTask(asyncio.Task[T]):
    """A task that others cannot cancel while its submit is under way.

    A loop cancels all tasks when it ends, and so do programs that shut down. Timeouts inside the
    task can cancel it: they run in the task itself, or in a callback of the loop. A loop that ends
    while an interruption already waits (a second Ctrl-C) can cancel it too.
    """

    def __init__(self, work: Coroutine[Any, Any, T], send_state: SendState) -> None:
        self._send_state = send_state
        self._is_held = True
        self._is_cancel_due = False
        super().__init__(work, loop=asyncio.get_running_loop())

    def cancel(self, msg: Any | None = None) -> bool:
        if self._is_held and self._send_state.is_under_way and self._is_cancelled_by_others():
            self._is_cancel_due = True
            return False
        return super().cancel(msg)

    def _is_cancelled_by_others(self) -> bool:
        loop = self.get_loop()
        if not loop.is_running():
            return not self._send_state.is_cancelled
        return asyncio.current_task(loop) not in (None, self)

    def release(self) -> None:
        """Allow cancellation, and cancel if that was requested meanwhile."""
        self._is_held = False
        if self._is_cancel_due:
            self.cancel()


def _outcome(task: asyncio.Future[T] | Future[T], interruption: BaseException) -> T:
    """Return the result of `task`, or raise `interruption` with a note on why there is none."""
    if not task.done():
        interruption.add_note(
            f"the submit under way had no answer after {INTERRUPT_GRACE:g} s; "
            "it may have been charged"
        )
        raise interruption
    if (error := task.exception()) is not None:
        interruption.add_note(f"the submit under way failed: {error}")
        raise interruption
    return task.result()


def _consume_exception(task: asyncio.Future[Any] | Future[Any]) -> None:
    """Retrieve an error that nothing awaits: asyncio logs those that are never retrieved."""
    if not task.cancelled():
        task.exception()


# -- coroutines without an event loop, and blocking calls on threads ---------------------------


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on this thread, without an event loop."""
    try:
        return _run(lambda: work)
    finally:
        work.close()


def iterate_sync(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Iterate over `stream` on this thread, without an event loop, and close it at the end."""
    try:
        while True:
            yield _run(stream.__anext__)
    except StopAsyncIteration:
        return
    finally:
        run_sync(stream.aclose())


def _run(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that `start` returns to its end.

    A loop may be running on this thread (a notebook, or a coroutine that calls a sync method). Its
    hooks are removed meanwhile: at its end it would close these generators while they are in use.
    """
    hooks = sys.get_asyncgen_hooks()
    if hooks.firstiter is not None:
        sys.set_asyncgen_hooks(None, None)
    try:
        work = start()
        work.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    finally:
        if hooks.firstiter is not None:
            sys.set_asyncgen_hooks(*hooks)
    raise RuntimeError(f"{work!r} awaited something other than its SyncRuntime")


def run_on_thread(
    work: Callable[[], T], future: Future[T], discard: Callable[[Any], object] = lambda _: None
) -> None:
    """Run `work` in this context on a daemon thread, and set `future`.

    Unlike those of a `ThreadPoolExecutor`, the threads do not hold up the end of the interpreter.
    `discard` is called with the result if `future` was cancelled meanwhile.

    Raises:
        RuntimeError: No thread can be started.
    """
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            with contextlib.suppress(InvalidStateError):
                future.set_exception(error)
            return
        try:
            future.set_result(result)
        except InvalidStateError:  # cancelled
            context.run(discard, result)

    try:
        idle_threads.pop().put(run)
    except IndexError:
        threading.Thread(target=_run_all, args=(run,), daemon=True).start()


def _run_all(run: Callable[[], None]) -> None:
    tasks: TaskQueue = SimpleQueue()
    run()
    while len(idle_threads) < MAX_IDLE_THREADS:
        idle_threads.append(tasks)
        tasks.get()()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=idle_threads.clear)
