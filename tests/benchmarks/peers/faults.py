"""What a fault is, and what several of them need."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models import Subject
from server import Connection, Request

Seen = tuple[bool, str]
"""Whether the claim holds, and what was seen."""
Provoke = Callable[[type[Subject]], Seen]


@dataclass(frozen=True)
class Fault:
    """A claim, the test of ours that makes it, and how to put a subject to it."""

    claim: str
    test: str
    subjects: tuple[type[Subject], ...]
    provoke: Provoke


FAULTS: dict[str, Fault] = {}


def fault(claim: str, test: str, *subjects: type[Subject]) -> Callable[[Provoke], Provoke]:
    """Put the decorated function on the list, by its name."""

    def take(provoke: Provoke) -> Provoke:
        FAULTS[provoke.__name__] = Fault(claim, test, subjects, provoke)
        return provoke

    return take


@dataclass
class Outcome:
    """How a piece of work ended: with a value, with an error, or not yet."""

    value: Any = None
    error: Exception | None = None
    ended: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.ended:
            return "no end"
        if self.error is None:
            return f"no error, {self.value!r}"[:70]
        return f"{type(self.error).__name__}: {self.error}".partition("\n")[0][:70]


def outcome(work: Callable[[], Any], patience: float = 30.0) -> Outcome:
    """Let `work` run for so many seconds; what has no end by then is left running."""
    found = Outcome()

    def run() -> None:
        begun = time.monotonic()
        try:
            found.value = work()
        except Exception as error:  # noqa: BLE001 - what it is, is the finding
            found.error = error
        found.seconds = time.monotonic() - begun
        found.ended = True

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience)
    return found


async def hang(connection: Connection, request: Request) -> None:
    await connection.until_gone()


class Lines(logging.Handler):
    """All that anyone logs, as an application sees it that logs everything."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__()
        self.text = ""
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "asyncio":
            self.text += f"{record.name}: {record.getMessage()}\n"
