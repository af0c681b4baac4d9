"""Faults that a test has injected with `Emulator.fail`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal, get_args

from langchain_tokenhub.testing.errors import RefusedError

FaultKind = Literal[
    "status", "reset", "hang", "garbage", "error-in-200", "drip", "black-hole",
    "cut", "stall", "keep-alive", "bad-sse", "duplicate", "job", "refuse", "lost-answer",
]  # fmt: skip
_CHAT = "/v1/chat/completions"
_PATHS: dict[FaultKind, str] = {
    **dict.fromkeys(("cut", "stall", "keep-alive", "bad-sse", "duplicate"), _CHAT),
    **dict.fromkeys(("job", "refuse", "lost-answer"), "submit"),
}


@dataclass
class Fault:
    """One order; `times` counts down."""

    kind: FaultKind
    status: int | None = None
    code: str = ""
    message: str = "made by the emulator on request"
    retry_after: float | str | None = None
    body: str | None = None
    after: int = 0
    seconds: float = 1.0
    times: int = 1
    path: str | None = None

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist: it would have no effect."""
        if self.kind not in get_args(FaultKind):
            kinds = ", ".join(get_args(FaultKind))
            raise ValueError(f"There is no fault {self.kind!r}; there are {kinds}.")

    def error(self) -> RefusedError:
        """Return the error that the order describes."""
        code = self.code or f"{self.status or 500}001"
        return RefusedError(code, self.message, retry_after=self.retry_after, status=self.status)

    def matches(self, method: str, path: str) -> bool:
        """Return True if the order is for such a request."""
        prefix = self.path or _PATHS.get(self.kind, "")
        if prefix == "submit":
            return method == "POST" and path.endswith(("/submit", "/lite"))
        return path.startswith(prefix)


class Faults:
    """The injected faults, the oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def inject(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._faults += [fault] if fault.times > 0 else []

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request, if one is injected."""
        with self._lock:
            fault = next((fault for fault in self._faults if fault.matches(method, path)), None)
            if fault:
                fault.times -= 1
                self._faults = [fault for fault in self._faults if fault.times > 0]
            return fault

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()
