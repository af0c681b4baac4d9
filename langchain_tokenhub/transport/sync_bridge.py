"""Run coroutines without an event loop, and blocking calls on threads.

The coroutines never suspend, since they wait with a `SyncRuntime`.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, cast

T = TypeVar("T")
TaskQueue = SimpleQueue[Callable[[], None]]

MAX_IDLE_THREADS = 16

idle_threads: list[TaskQueue] = []


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
            with suppress(InvalidStateError):
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
