"""When to look at a job again. Pure: the time is an argument.

A poll costs a request, and not polling costs lateness. With the chance that a job of this age ends
within the next seconds, the best pause follows; a schedule that knows how long jobs of a model
take needs half the requests of a geometric one at equal lateness (research, transport 5, P1).
"""

from __future__ import annotations

import math
import os
import random
import threading
from dataclasses import dataclass

SOONEST = 0.5
"""Seconds between two polls of a job, at least."""
LATEST = 10.0
"""Seconds between two polls of a job, at most, while the process is not busy."""
PRICE = 0.004
"""What a poll costs against relative lateness."""
ODD = 0.15
"""Share of jobs that follow no experience: early failures, stuck queues."""
LONGEST = 1200.0
"""Seconds within which odd jobs end, spread evenly over the logarithm."""
MOST_SEEN = 40
"""Jobs after which new experience replaces old."""
MOST_POLLS = 16.0
"""Polls a second that one process sends to one site; upstream takes 20."""


@dataclass(frozen=True)
class Prior:
    """How long jobs of a model take: a normal distribution of the logarithm of seconds.

    Args:
        mean: Of ln(seconds).
        variance: Of ln(seconds).
        seen: Jobs it rests on; the catalogue's guess counts as two.
    """

    mean: float
    variance: float = 0.8**2
    seen: int = 2

    @classmethod
    def around(cls, seconds: float) -> Prior:
        """Return what is known before the first job."""
        return cls(math.log(max(0.1, seconds)))

    def learn(self, seconds: float) -> Prior:
        """Return what is known after a job that took `seconds`."""
        seen = min(self.seen + 1, MOST_SEEN)
        share = 1 / seen
        off = math.log(max(0.05, seconds)) - self.mean
        return Prior(
            self.mean + share * off, (1 - share) * (self.variance + share * off * off), seen
        )

    def ended_by(self, seconds: float) -> float:
        """Return the chance that a job has ended at this age."""
        if seconds <= 0:
            return 0.0
        spread = max(0.15, math.sqrt(self.variance * (1 + 1 / self.seen))) * (1 + 1 / self.seen)
        usual = 0.5 * (1 + math.erf((math.log(seconds) - self.mean) / spread / math.sqrt(2)))
        odd = min(1.0, max(0.0, math.log(seconds) / math.log(LONGEST)))
        return (1 - ODD) * usual + ODD * odd


def pause(prior: Prior, age: float, *, crowd: float = 1.0) -> float:
    """Return the seconds until the next poll of a job.

    Args:
        prior: How long such jobs take.
        age: Seconds since its submit.
        crowd: How many times over its share of polls the process is; 1 when it is not.
    """
    price = PRICE * crowd**2
    least, most = SOONEST * crowd, LATEST * crowd
    done = prior.ended_by(age)

    def worth(seconds: float) -> bool:
        chance = (prior.ended_by(age + seconds) - done) / max(1e-9, 1 - done)
        return chance * seconds / (2 * age + seconds) >= price

    low, high = least, most
    if worth(low):
        return low
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if worth(middle) else (middle, high)
    return high


def jittered(seconds: float) -> float:
    """Return `seconds` off by up to 5 %: jobs submitted together must not be polled together."""
    return seconds * random.uniform(0.95, 1.05)  # noqa: S311 - jitter, not a secret


class Experience:
    """What this process has learnt of each model, and how much it polls."""

    def __init__(self) -> None:
        self._priors: dict[str, Prior] = {}
        self.stand_alone()

    def stand_alone(self) -> None:
        """Keep what was learnt, and forget who polls: in a forked child nobody does yet."""
        self._rates: dict[str, float] = {}
        self._lock = threading.Lock()

    def of(self, model: str, typical: float) -> Prior:
        """Return how long jobs of `model` take, `typical` seconds until there was one."""
        return self._priors.get(model) or Prior.around(typical)

    def learn(self, model: str, typical: float, seconds: float) -> None:
        """Take note of a job that ended well."""
        with self._lock:
            self._priors[model] = self.of(model, typical).learn(seconds)

    def crowd(self, site: str) -> float:
        """Return how many times over its share this process polls `site`; 1 when it does not."""
        return max(1.0, self._rates.get(site, 0.0) / MOST_POLLS)

    def polling(self, site: str, before: float, seconds: float) -> float:
        """Note that one job's polls of `site` go from a rate of `before` to one in `seconds`.

        Returns:
            The new rate; give it as `before` next time, with infinite `seconds` at the end.
        """
        rate = 1 / seconds
        with self._lock:
            self._rates[site] = max(0.0, self._rates.get(site, 0.0) + rate - before)
        return rate


shared = Experience()
"""The experience of this process."""


def _begin_anew() -> None:
    """Count, in a forked child, none of its parent's polls."""
    shared.stand_alone()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
