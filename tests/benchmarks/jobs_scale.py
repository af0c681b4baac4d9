"""Thousands of jobs in one process against the emulator, and what becomes of each.

python tests/benchmarks/jobs_scale.py [--jobs 5000] [--face async|sync] [--faults] [--speed 1]

The emulator runs here with its quotas lifted, the client in a process of its own that submits all
jobs and collects them with `aresults` or `results`. With `--faults`, of all API requests 5 % are
cut off, 5 % are answered with 5xx and 2 % never, and 1 % of the jobs fail. Printed as JSON: what
ended how, submits seen by the emulator against jobs known to the client and reported unknowns,
polls, threads, CPU and memory a job.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from langchain_tokenhub import Job, MediaResult, SubmissionUnknownError, TokenHubError
from langchain_tokenhub.testing import Emulator
from langchain_tokenhub.testing.errors import Fault, FaultKind, Faults
from langchain_tokenhub.tools import TokenHubVideoTool

SUBMITS_AT_ONCE = 32
SHARES: dict[FaultKind, float] = {"reset": 0.05, "status": 0.05, "hang": 0.02}


class Dice(Faults):
    """Strikes at random, and always the same way for one seed."""

    def __init__(self, seed: int = 7) -> None:
        super().__init__()
        self._dice = random.Random(seed)

    def take(self, method: str, path: str) -> Fault | None:
        """Roll for a request of the API; files are left alone."""
        if not path.startswith("/v1/"):
            return None
        with self._lock:
            roll = self._dice.random()
        for kind, share in SHARES.items():
            if (roll := roll - share) < 0:
                return self._fault(kind, path)
        return Fault("job") if path.endswith("/submit") and roll < 0.01 else None

    def _fault(self, kind: FaultKind, path: str) -> Fault:
        """Cut a submit half the time before the job is made, half the time after."""
        cut_after = kind == "reset" and path.endswith("/submit") and self._dice.random() < 0.5
        return Fault("lost-answer" if cut_after else kind)


# --- the client's process ------------------------------------------------------------------------


def tool(jobs: int, timeout: float) -> TokenHubVideoTool:
    """Return a tool without quotas and with little patience for silence."""
    return TokenHubVideoTool(max_in_flight=jobs, timeout=timeout, wait_timeout=600.0)


async def work_async(made: TokenHubVideoTool, jobs: int) -> tuple[list[Any], list[Any], int]:
    """Submit and collect in one task."""
    room = asyncio.Semaphore(SUBMITS_AT_ONCE)

    async def submit(number: int) -> Job | TokenHubError:
        async with room:
            try:
                return await made.asubmit(prompt=f"第{number}段")
            except TokenHubError as error:
                return error

    submitted = await asyncio.gather(*(submit(number) for number in range(jobs)))
    known, ended, threads = [one for one in submitted if isinstance(one, Job)], [], 0
    async for outcome in made.aresults(known):
        threads = max(threads, threading.active_count())
        ended.append(outcome)
    return submitted, ended, threads


def work_sync(made: TokenHubVideoTool, jobs: int) -> tuple[list[Any], list[Any], int]:
    """Submit on a few threads, and collect on this one."""

    def submit(number: int) -> Job | TokenHubError:
        try:
            return made.submit(prompt=f"第{number}段")
        except TokenHubError as error:
            return error

    with ThreadPoolExecutor(SUBMITS_AT_ONCE) as pool:
        submitted = list(pool.map(submit, range(jobs)))
    known, ended, threads = [one for one in submitted if isinstance(one, Job)], [], 0
    for outcome in made.results(known):
        threads = max(threads, threading.active_count())
        ended.append(outcome)
    return submitted, ended, threads


def client(jobs: int, face: str, timeout: float) -> dict[str, Any]:
    """Do the work, and count."""
    made, before, begun = tool(jobs, timeout), _recent_jobs(), time.monotonic()
    work = asyncio.run(work_async(made, jobs)) if face == "async" else work_sync(made, jobs)
    submitted, ended, threads = work
    used = resource.getrusage(resource.RUSAGE_SELF)
    lost = [one for one in submitted if isinstance(one, SubmissionUnknownError)]
    refused = [one for one in submitted if not isinstance(one, Job | SubmissionUnknownError)]
    return {
        "known": sum(isinstance(one, Job) for one in submitted),
        "unknown": len(lost),
        "refused": Counter(type(one).__name__ for one in refused),
        "ended": len(ended),
        "distinct": len({one.job.id for one in ended}),
        "outcomes": Counter(type(one).__name__ for one in ended),
        "errors_without_job": sum(one.job is None for one in ended),
        "completed": sum(isinstance(one, MediaResult) for one in ended),
        "threads": threads,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_ms_per_job": round(1000 * (used.ru_utime + used.ru_stime) / jobs, 1),
        "kB_per_job": round((_recent_jobs() - before) / jobs, 1),
    }


def _recent_jobs() -> float:
    """Return the most memory this process ever had, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- the emulator's process ----------------------------------------------------------------------


def run(
    jobs: int, face: str, *, faults: bool, speed: float, timeout: float = 3.0
) -> dict[str, Any]:
    """Run one client against one emulator, and return both sides' counts."""
    with Emulator(speed=speed, quotas=False) as hub:
        if faults:
            hub.faults = Dice()
        environment = os.environ | {"TOKENHUB_BASE_URL": hub.url, "TOKENHUB_API_KEY": "sk-scale"}
        options = ["--jobs", str(jobs), "--face", face, "--timeout", str(timeout)]
        done = subprocess.run(
            [sys.executable, __file__, "--client", *options],
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            check=True,
        )
        paths = Counter(r.path.rpartition("/")[2] for r in hub.requests)
        made = len(hub.jobs)
    found = json.loads(done.stdout)
    polls = round(paths["query"] / max(1, found["known"]), 2)
    return {**found, "submits": paths["submit"], "jobs_made": made, "polls_per_job": polls}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--face", choices=["async", "sync"], default="async")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds of silence")
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # unknown submits are counted below
    if asked.client:
        found = client(asked.jobs, asked.face, asked.timeout)
    else:
        rest = {name: getattr(asked, name) for name in ("faults", "speed", "timeout")}
        found = run(asked.jobs, asked.face, **rest)
    print(json.dumps(found, indent=None if asked.client else 1))


if __name__ == "__main__":
    main()
