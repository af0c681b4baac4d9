"""What is left to chance: ids, times of jobs, latency."""

from __future__ import annotations

import hashlib
import random
import threading
import uuid
from collections import Counter


class Dice:
    """The chance of one request."""

    def __init__(self, seed: bytes) -> None:
        self._random = random.Random(seed)

    def roll(self, low: float, high: float) -> float:
        """Throw a number."""
        return self._random.uniform(low, high)

    def uuid(self) -> str:
        """Throw an id."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


class Chance:
    """Deals dice that depend on the seed and the request alone.

    The same request meets the same chance whatever was asked before it and beside it; asked again
    it meets another, the same in every run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._asked: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def dice(self, *request: bytes) -> Dice:
        """Return the dice of a request."""
        digest = hashlib.sha256(b"%d" % self._seed)
        for part in request:
            digest.update(b"%d:" % len(part) + part)
        mark = digest.digest()
        with self._lock:
            self._asked[mark] += 1
            again = self._asked[mark]
        return Dice(mark + b"%d" % again)
