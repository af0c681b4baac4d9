"""Coroutines without an event loop: over a `SyncWire` nothing in them ever suspends."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

T = TypeVar("T")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on this thread, with no event loop."""
    try:
        return _run(lambda: work)
    finally:
        work.close()


def drain(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Iterate `stream` on this thread, with no event loop, and close it when left."""
    try:
        while True:
            yield _run(stream.__anext__)
    except StopAsyncIteration:
        return
    finally:
        finish(stream.aclose())


def _run(begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run what `begin` returns to its end.

    A loop that runs on this thread, where a notebook or a coroutine calls the sync face, would take
    our generators for its own, and close them at its end while they are still read.
    """
    hooks = sys.get_asyncgen_hooks()
    if hooks.firstiter is not None:
        sys.set_asyncgen_hooks(None, None)
    try:
        work = begin()
        work.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    finally:
        if hooks.firstiter is not None:
            sys.set_asyncgen_hooks(*hooks)
    raise RuntimeError(f"{work!r} waited for something that is not its wire")
