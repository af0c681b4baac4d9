"""Daemon threads for blocking calls that cannot be cancelled. They are reused: a new one is slow.

A `ThreadPoolExecutor` would wait for its threads when the interpreter ends.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Tasks = SimpleQueue[Callable[[], None]]

MAX_IDLE_THREADS = 16

_idle: list[Tasks] = []


def start_thread(work: Callable[[], T], discard: Callable[[T], None] | None = None) -> Future[T]:
    """Run `work` in this context on a daemon thread; `discard` takes a result nobody waits for.

    Raises:
        RuntimeError: No thread can be started.
    """
    future = Future[T]()
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = SimpleQueue()
        threading.Thread(target=_run_all, args=(tasks,), daemon=True).start()
    tasks.put(partial(contextvars.copy_context().run, _run, work, future, discard))
    return future


def _run_all(tasks: Tasks) -> None:
    is_kept = True
    while is_kept:
        tasks.get()()
        is_kept = len(_idle) < MAX_IDLE_THREADS
        if is_kept:
            _idle.append(tasks)


def _run(work: Callable[[], T], future: Future[T], discard: Callable[[T], None] | None) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - raised again by `result`
        with suppress(InvalidStateError):
            future.set_exception(error)
        return
    try:
        future.set_result(result)
    except InvalidStateError:  # cancelled
        if discard is not None:
            discard(result)


def reset_after_fork() -> None:
    """Forget the threads of the parent, in a forked child."""
    _idle.clear()
