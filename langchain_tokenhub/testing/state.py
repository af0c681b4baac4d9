"""The emulator's state: what it was asked, its clock, its orders to fail."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from langchain_tokenhub.testing.dice import Chance
from langchain_tokenhub.testing.errors import ERAS, Era
from langchain_tokenhub.testing.faults import Fault, FaultDetails, FaultKind, Faults
from langchain_tokenhub.testing.rates import Rates
from langchain_tokenhub.testing.usage import Cache

_WRONG = ("wrong", "sk-wrong")
Latency = float | tuple[float, float]


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


@dataclass(frozen=True)
class Settings:
    """What `Emulator` is made with, and explains."""

    speed: float
    seed: int
    keys: frozenset[str]
    quotas: bool
    rpm: int | None
    tpm: int | None
    latency: Latency
    era: Era

    def __post_init__(self) -> None:
        """Refuse what would show only later, and elsewhere."""
        if self.era not in ERAS:
            raise ValueError(f"There is no era {self.era!r}; there are {' and '.join(ERAS)}.")
        if self.speed < 0:
            raise ValueError("speed must not be negative; at 0 the clock of jobs stands still.")


class Hub:
    """Everything the emulator knows; safe to use from any thread.

    Attributes:
        requests: What it received, in order.
        streams: How many chat streams are open now.
    """

    def __init__(self, settings: Settings) -> None:
        self.requests: list[Received] = []
        self.streams = 0
        self.speed = settings.speed
        self.seed = settings.seed
        self.era: Era = settings.era
        self.latency = settings.latency
        self.faults = Faults()
        self.unreachable = False
        self.cache = Cache()
        self.chance = Chance(settings.seed)
        self.rates = Rates(settings.rpm, settings.tpm)
        self._keys = settings.keys
        self._lock = threading.RLock()
        self._born = time.monotonic()
        self._advanced = 0.0

    def fail(self, kind: FaultKind = "status", **details: Unpack[FaultDetails]) -> None:
        """Make the next requests fail in a chosen way.

        Kinds: `status` (an HTTP error), `reset` (the connection is reset without an answer),
        `hang` (never answered), `drip` (the answer comes in tiny pieces), `garbage` (200 with
        HTML), `error-in-200`; in a chat stream `cut` (closed after some events), `stall`
        (silence), `keep-alive` (comments only), `bad-sse` (a frame that is no JSON), `duplicate`
        (a frame comes twice); for media `job` (the next job fails), `refuse` (the submit is
        refused inside HTTP 200), `lost-answer` (the job is made, the answer never comes).
        `black-hole` is no matter of single requests: until `recover` nothing gets through to the
        host, and connecting to it takes for ever.
        """
        fault = Fault(kind, **details)
        if fault.kind == "black-hole":
            self._vanish()
        else:
            self.faults.order(fault)

    def recover(self) -> None:
        """Forget all orders to fail, and be reachable again."""
        self.faults.clear()
        self.unreachable = False

    def _vanish(self) -> None:
        self.unreachable = True

    def advance(self, seconds: float) -> None:
        """Move the clock of jobs, links and rate limits forward."""
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

    async def sleep(self, seconds: float) -> None:
        """Wait, divided by the speed; below a millisecond only give others their turn.

        That turn is how a stream learns that its client has left.
        """
        real = seconds / self.speed if self.speed else 0
        await asyncio.sleep(real if real >= 0.001 else 0)
