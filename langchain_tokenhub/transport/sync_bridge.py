"""Run coroutines without an event loop: with a `SyncRuntime` they never suspend."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

T = TypeVar("T")


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
