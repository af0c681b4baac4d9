"""How many requests a job costs, and how late its end is seen: our schedule against the usual ones.

python tests/benchmarks/polling.py [JOBS]

A simulation on a clock of its own: jobs take a log-normal time around the median, the first five of
a process are its apprenticeship and are not counted. Lag is lateness as a share of the job's time.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from langchain_tokenhub.jobs.service import Prior, add_jitter, poll_delay

Gaps = Callable[["Prior"], Iterator[float]]
APPRENTICES = 5
SPREAD = 0.3
KINDS = {"image 8 s": (8.0, 12.0), "video 90 s": (90.0, 90.0), "3D 180 s": (180.0, 180.0)}
"""Median seconds of the jobs, and what the catalogue supposes."""


def fixed(seconds: float) -> Gaps:
    """Poll every so many seconds."""
    return lambda _: itertools.repeat(seconds)


def exponential(_: Prior) -> Iterator[float]:
    """Double from 1 s to 10 s."""
    return (min(2.0**n, 10.0) for n in itertools.count())


def geometric(_: Prior) -> Iterator[float]:
    """Poll when the age has grown by 15 %, every 0.5 to 15 s."""
    age = 0.0
    while True:
        gap = min(max(0.15 * age, 0.5), 15.0)
        yield gap
        age += gap


def ours(prior: Prior) -> Iterator[float]:
    """Poll as the package does."""
    age = 0.0
    while True:
        gap = add_jitter(poll_delay(prior, age))
        yield gap
        age += gap


POLICIES: dict[str, Gaps] = {
    "fixed 0.1 s": fixed(0.1),
    "fixed 1 s": fixed(1.0),
    "fixed 5 s": fixed(5.0),
    "exponential 1-10 s": exponential,
    "geometric 15 %": geometric,
    "prior-aware (ours)": ours,
}


@dataclass(frozen=True)
class Score:
    """What a policy cost and brought: requests a job, lag as median and 95th percentile."""

    requests: float
    lag: float
    lag95: float


def simulate(gaps: Gaps, median: float, typical: float, jobs: int, seed: int = 7) -> Score:
    """Let `jobs` jobs run one after the other in one process."""
    dice, prior = random.Random(seed), Prior.from_estimate(typical)
    requests, lags = [], []
    for number in range(jobs + APPRENTICES):
        seconds = dice.lognormvariate(math.log(median), SPREAD)
        age, asked, last = 0.0, 0, 0.0
        for last in gaps(prior):
            age += last
            asked += 1
            if age >= seconds:
                break
        prior = prior.learn(age - last / 2)
        if number >= APPRENTICES:
            requests.append(asked)
            lags.append((age - seconds) / seconds)
    lags.sort()
    return Score(statistics.mean(requests), statistics.median(lags), lags[int(0.95 * len(lags))])


def table(jobs: int) -> str:
    """Return all policies against all kinds, as Markdown."""
    lines = [
        f"| requests, lag p50/p95 | {' | '.join(KINDS)} |",
        f"| --- |{' --- |' * len(KINDS)}",
    ]
    for name, gaps in POLICIES.items():
        scores = [simulate(gaps, *kind, jobs) for kind in KINDS.values()]
        cells = [f"{s.requests:.1f}, {s.lag:.1%}/{s.lag95:.1%}" for s in scores]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(int(sys.argv[1]) if sys.argv[1:] else 500))
