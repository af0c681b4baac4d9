"""Coroutines without an event loop: over a `SyncWire` nothing in them ever suspends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, TypeVar, cast

T = TypeVar("T")


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


def drain(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Iterate `stream` on this thread, with no event loop, and close it when left."""
    try:
        while True:
            try:
                stream.__anext__().send(None)
            except StopIteration as stop:
                value = stop.value
            else:
                raise RuntimeError(f"{stream!r} waited for something that is not its wire")
            yield value
    except StopAsyncIteration:
        return
    finally:
        finish(stream.aclose())
