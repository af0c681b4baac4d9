"""Daemon threads for blocking calls that cannot be cancelled; threads are reused.

A `ThreadPoolExecutor` would wait for its threads when the interpreter ends.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Tasks = SimpleQueue[Callable[[], None]]

MAX_IDLE_THREADS = 16

idle_threads: list[Tasks] = []


def start_thread(
    work: Callable[[], T], ended: Future[T], discard: Callable[[T], object] = lambda _: None
) -> None:
    """Run `work` in this context on a daemon thread, and set `ended`.

    `discard` is called with the result if `ended` was cancelled meanwhile.

    Raises:
        RuntimeError: No thread can be started.
    """
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            with suppress(InvalidStateError):
                ended.set_exception(error)
            return
        try:
            ended.set_result(result)
        except InvalidStateError:  # cancelled
            context.run(discard, result)

    try:
        idle_threads.pop().put(run)
    except IndexError:
        threading.Thread(target=_run_all, args=(run,), daemon=True).start()


def _run_all(run: Callable[[], None]) -> None:
    tasks: Tasks = SimpleQueue()
    run()
    while len(idle_threads) < MAX_IDLE_THREADS:
        idle_threads.append(tasks)
        tasks.get()()
