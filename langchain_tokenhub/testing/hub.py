"""The emulator's state: what it was asked, its clock, its dice, its orders to fail."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from langchain_tokenhub.testing.errors import Era
from langchain_tokenhub.testing.faults import Fault, FaultDetails, FaultKind, Faults
from langchain_tokenhub.testing.usage import Cache

_WRONG = ("wrong", "sk-wrong")


@dataclass(frozen=True)
class Received:
    """A request as it arrived.

    Args:
        headers: Names in lower case.
        body: Parsed JSON; `None` where there was none.
        at: Seconds since the hub was made.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Any
    at: float


class Hub:
    """Everything the emulator knows; safe to use from any thread.

    Attributes:
        requests: What it received, in order.
        streams: How many chat streams are open now.
    """

    def __init__(
        self, *, speed: float, seed: int, api_key: str | Sequence[str] | None, era: Era
    ) -> None:
        self.requests: list[Received] = []
        self.streams = 0
        self.speed = speed
        self.seed = seed
        self.era: Era = era
        self.faults = Faults()
        self.cache = Cache()
        self._keys = {api_key} if isinstance(api_key, str) else set(api_key or ())
        self._dice = random.Random(seed)
        self._lock = threading.RLock()
        self._born = time.monotonic()
        self._advanced = 0.0

    def fail(self, kind: FaultKind = "status", **details: Unpack[FaultDetails]) -> None:
        """Make the next requests fail in a chosen way.

        Kinds: `status` (an HTTP error), `reset` (the connection is reset without an answer),
        `hang` (never answered), `garbage` (200 with HTML), `error-in-200`; in a chat stream `cut`
        (closed after some events), `stall` (silence), `keep-alive` (comments only), `bad-sse` (a
        frame that is no JSON); for media `job` (the next job fails), `refuse` (the submit is
        refused inside HTTP 200), `lost-answer` (the job is made, the answer never comes).
        """
        self.faults.order(Fault(kind, **details))

    def advance(self, seconds: float) -> None:
        """Move the clock of jobs and links forward."""
        with self._lock:
            self._advanced += seconds

    def now(self) -> float:
        """Return the hub's wall clock: seconds since 1970."""
        return time.time() + self._advanced

    def clock(self) -> float:
        """Return the job clock: seconds of work since the hub was made."""
        return self.uptime() * self.speed + self._advanced

    def uptime(self) -> float:
        """Return real seconds since the hub was made."""
        return time.monotonic() - self._born

    def accepts(self, key: str) -> bool:
        """Tell whether an API key is good."""
        if self._keys:
            return key in self._keys
        return bool(key) and not key.startswith(_WRONG)

    def roll(self, low: float, high: float) -> float:
        """Throw the seeded dice."""
        with self._lock:
            return self._dice.uniform(low, high)

    def uuid(self) -> str:
        """Make an id that depends on the seed alone."""
        with self._lock:
            return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    async def sleep(self, seconds: float) -> None:
        """Wait, divided by the speed; below a millisecond only give others their turn.

        That turn is how a stream learns that its client has left.
        """
        real = seconds / self.speed if self.speed else 0
        await asyncio.sleep(real if real >= 0.001 else 0)
