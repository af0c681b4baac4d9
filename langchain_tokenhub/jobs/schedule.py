"""When to submit a job, and when to poll it.

Jobs in flight are limited to what the account may run, first in, first out. There is one limiter
for each account, site and model, shared by all threads and tasks of the process. It counts the jobs
that this process waits for; the service refuses what other processes submit beyond the limit
(`JobNumExceed`).

A poll costs a request; a longer pause detects the end later. The pause follows from the probability
that a job of this age ends within the next seconds. A schedule that knows the usual duration needs
half the requests of a geometric one at equal lateness.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass

from langchain_tokenhub.errors import RateLimitError
from langchain_tokenhub.transport import Runtime

MIN_POLL_DELAY = 0.5
"""Minimum seconds between two polls of a job."""
MAX_POLL_DELAY = 10.0
"""Maximum seconds between two polls of a job at normal load, and between two tries to submit."""
POLL_COST = 0.004
"""Cost of a poll, relative to lateness."""
OUTLIERS = 0.15
"""Share of jobs with unusual durations: early failures, stuck queues."""
MAX_OUTLIER_SECONDS = 1200.0
"""Seconds within which outliers end, spread evenly over the logarithm."""
MAX_SEEN = 40
"""Number of jobs after which each further duration is averaged in with a weight of 1/40."""
MAX_POLLS = 16.0
"""Polls per second from one process to one site; the service accepts 20."""


@dataclass(frozen=True)
class Prior:
    """Distribution of a model's job durations: ln(seconds) is normal.

    Args:
        mean: Of ln(seconds).
        variance: Of ln(seconds).
        seen: Number of jobs that it is based on; the catalogue's value counts as two.
    """

    mean: float
    variance: float = 0.8**2
    seen: int = 2

    @classmethod
    def from_estimate(cls, seconds: float) -> Prior:
        """Return the distribution before the first job."""
        return cls(math.log(max(0.1, seconds)))

    def learn(self, seconds: float) -> Prior:
        """Return the distribution after a job that took `seconds`."""
        seen = min(self.seen + 1, MAX_SEEN)
        share = 1 / seen
        off = math.log(max(0.05, seconds)) - self.mean
        return Prior(
            self.mean + share * off, (1 - share) * (self.variance + share * off * off), seen
        )

    def probability_ended(self, seconds: float) -> float:
        """Return the probability that a job has ended at this age."""
        if seconds <= 0:
            return 0.0
        spread = max(0.15, math.sqrt(self.variance * (1 + 1 / self.seen))) * (1 + 1 / self.seen)
        usual = 0.5 * (1 + math.erf((math.log(seconds) - self.mean) / spread / math.sqrt(2)))
        unusual = min(1.0, max(0.0, math.log(seconds) / math.log(MAX_OUTLIER_SECONDS)))
        return (1 - OUTLIERS) * usual + OUTLIERS * unusual


def poll_delay(prior: Prior, age: float, *, load: float = 1.0) -> float:
    """Return the seconds until the next poll of a job.

    Args:
        prior: Distribution of durations.
        age: Seconds since the submit.
        load: Polls of this process relative to `MAX_POLLS`, at least 1.
    """
    cost = POLL_COST * load**2
    shortest, longest = MIN_POLL_DELAY * load, MAX_POLL_DELAY * load
    done = prior.probability_ended(age)

    def is_worth_it(seconds: float) -> bool:
        chance = (prior.probability_ended(age + seconds) - done) / max(1e-9, 1 - done)
        return chance * seconds / (2 * age + seconds) >= cost

    low, high = shortest, longest
    if is_worth_it(low):
        return low
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if is_worth_it(middle) else (middle, high)
    return high


def add_jitter(seconds: float) -> float:
    """Return `seconds` changed by up to 5 %, so that jobs submitted together are polled apart."""
    return seconds * random.uniform(0.95, 1.05)  # noqa: S311 - jitter, not a secret


@dataclass
class PollRate:
    """The rate at which one job is polled.

    Args:
        site: The site that is polled.
        per_second: Polls per second; None after the last.
    """

    site: str
    per_second: float | None = 0.0


class DurationStats:
    """The job durations of each model in this process, and the process's poll rates."""

    def __init__(self) -> None:
        self._priors: dict[str, Prior] = {}
        self.reset_rates()

    def reset_rates(self) -> None:
        """Reset the polls, as in a forked child; the durations are kept."""
        self._rates: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, model: str, typical: float) -> Prior:
        """Return the distribution for `model`; `typical` is in seconds, before the first job."""
        return self._priors.get(model) or Prior.from_estimate(typical)

    def learn(self, model: str, typical: float, seconds: float) -> None:
        """Record the duration of a completed job."""
        with self._lock:
            self._priors[model] = self.get(model, typical).learn(seconds)

    def relative_load(self, site: str) -> float:
        """Return this process's polls of `site` relative to `MAX_POLLS`, at least 1."""
        return max(1.0, self._rates.get(site, 0.0) / MAX_POLLS)

    def record_rate(self, rate: PollRate, seconds: float) -> None:
        """Record that a job is polled once in `seconds`; infinity ends its polls.

        Later calls are ignored: a poll on another thread may still return.
        """
        with self._lock:
            if rate.per_second is None:
                return
            total = self._rates.get(rate.site, 0.0) + 1 / seconds - rate.per_second
            self._rates[rate.site] = max(0.0, total)
            rate.per_second = 1 / seconds or None


shared = DurationStats()
"""The durations and rates of this process."""


def _reset_rates() -> None:
    shared.reset_rates()  # not the bound method: tests replace `shared`


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_rates)


# --- jobs in flight -------------------------------------------------------------------------------


class JobLimiter:
    """A semaphore whose waiters are served in order."""

    def __init__(self) -> None:
        self.releases = 0
        """Number of releases; a waiter times out if it does not change."""
        self._held = 0
        self._queue: deque[tuple[Future[None], int]] = deque()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def slot(self, runtime: Runtime, limit: int, wait: float) -> AsyncGenerator[None, None]:
        """Hold one place of the limit.

        Args:
            runtime: Waits.
            limit: Number of holders at which this one waits.
            wait: Seconds to wait in a queue that does not move.

        Raises:
            RateLimitError: The queue did not move for `wait` seconds.
        """
        waiter: Future[None] = Future()
        with self._lock:
            self._queue.append((waiter, limit))
            self._admit()
        try:
            releases = self.releases
            while not waiter.done() and not await runtime.wait(waiter, wait):
                if self.releases == releases:
                    raise _queue_error(wait)
                releases = self.releases
            yield
        finally:
            with self._lock:
                if not waiter.cancel():
                    self._held -= 1
                    self.releases += 1
                self._admit()

    def _admit(self) -> None:
        """Admit the first waiters while there is a place for them."""
        while self._queue and (self._queue[0][0].cancelled() or self._held < self._queue[0][1]):
            waiter, _ = self._queue.popleft()
            if waiter.set_running_or_notify_cancel():
                self._held += 1
                waiter.set_result(None)


def _queue_error(wait: float) -> RateLimitError:
    return RateLimitError(
        f"no job of this account ended for {wait:g} s, so none was submitted",
        phase="not sent",
        hint="raise wait_timeout or max_in_flight; nothing was charged",
    )


_limiters: dict[tuple[object, ...], JobLimiter] = {}


def shared_limiter(*owner: object) -> JobLimiter:
    """Return the process's limiter of `owner` (hash of the key, hosts, model)."""
    return _limiters.get(owner) or _limiters.setdefault(owner, JobLimiter())


if hasattr(os, "register_at_fork"):
    # a forked child does not wait for its parent's jobs, and would never release their places
    os.register_at_fork(after_in_child=_limiters.clear)
