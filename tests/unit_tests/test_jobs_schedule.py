"""When a job is polled: often enough, seldom enough; and how many are in flight, in order."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import subprocess
import sys
import threading

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.runner import JobLimiter
from langchain_tokenhub.jobs.service import (
    MAX_POLL_DELAY,
    MIN_POLL_DELAY,
    DurationStats,
    PollRate,
    Prior,
    poll_delay,
)
from langchain_tokenhub.transport import AsyncRuntime, SyncRuntime, run_sync
from tests.conftest import ScriptedRuntime


def simulate(seconds, prior):
    """Return requests and lateness of one job that takes so many seconds."""
    age = requests = 0
    while age < seconds:
        age += poll_delay(prior, age)
        requests += 1
    return requests, (age - seconds) / seconds


def test_a_90_s_video_needs_at_most_20_requests_and_5_percent_lateness():
    dice = random.Random(7)
    prior, requests, late = Prior.from_estimate(90), [], []
    for number in range(150):
        seconds = dice.lognormvariate(math.log(90), 0.3)
        asked, lateness = simulate(seconds, prior)
        prior = prior.learn(seconds)
        if number >= 5:
            requests.append(asked)
            late.append(lateness)
    assert statistics.mean(requests) <= 20
    assert statistics.median(late) <= 0.05


@pytest.mark.parametrize("typical", [0.1, 12, 90, 180, 2000])
@pytest.mark.parametrize("age", [0, 0.5, 10, 90, 1000, 100000])
def test_a_pause_stays_within_its_limits(typical, age):
    assert MIN_POLL_DELAY <= poll_delay(Prior.from_estimate(typical), age) <= MAX_POLL_DELAY


def test_early_failures_are_seen_early():
    assert poll_delay(Prior.from_estimate(180), 0) < 3


def test_it_learns_how_long_a_model_takes():
    prior = Prior.from_estimate(90)
    for _ in range(40):
        prior = prior.learn(10)
    assert math.exp(prior.mean) == pytest.approx(10, rel=0.15)


def test_a_busy_process_polls_each_job_less_often():
    prior = Prior.from_estimate(90)
    assert poll_delay(prior, 60, load=5) > 2 * poll_delay(prior, 60)


def test_polls_are_counted_by_site_until_their_job_ends():
    load = DurationStats()
    jobs = [PollRate("a") for _ in range(80)]
    for job in jobs:
        load.record_rate(job, 0.5)
    assert load.relative_load("a") == pytest.approx(10)
    assert load.relative_load("b") == 1
    for job in jobs:
        load.record_rate(job, math.inf)
    assert load.relative_load("a") == 1


def test_a_poll_that_returns_after_its_job_was_left_is_not_counted():
    load = DurationStats()
    for _ in range(80):
        job = PollRate("a")
        for seconds in (0.5, math.inf, 0.5):
            load.record_rate(job, seconds)
    assert load.relative_load("a") == 1


# --- jobs in flight -------------------------------------------------------------------------------


def test_tasks_and_threads_share_one_gate():
    limiter, inside, most = JobLimiter(), [], []
    lock = threading.Lock()

    async def work(runtime):
        async with limiter.slot(runtime, 3, 10):
            with lock:
                inside.append(1)
                most.append(len(inside))
            await runtime.sleep(0.005)
            with lock:
                inside.pop()

    async def tasks():
        await asyncio.gather(*(work(AsyncRuntime()) for _ in range(20)))

    threads = [threading.Thread(target=run_sync, args=(work(SyncRuntime()),)) for _ in range(10)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()
    assert len(most) == 30
    assert max(most) == 3


async def test_places_are_given_in_order():
    limiter, request = JobLimiter(), []

    async def work(number):
        async with limiter.slot(AsyncRuntime(), 1, 10):
            request.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert request == list(range(10))


async def test_who_is_cancelled_leaves_the_queue():
    limiter, runtime = JobLimiter(), AsyncRuntime()
    async with limiter.slot(runtime, 1, 10):
        waiting = [asyncio.create_task(_enter(limiter, runtime)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(_enter(limiter, runtime), 5)


async def _enter(limiter, runtime):
    async with limiter.slot(runtime, 1, 10):
        pass


def test_a_queue_that_does_not_move_is_left_with_an_error(scripted_wire):
    limiter = JobLimiter()

    async def both():
        async with limiter.slot(scripted_wire, 1, 5), limiter.slot(scripted_wire, 1, 5):
            pass

    with pytest.raises(errors.RateLimitError, match="none was submitted"):
        run_sync(both())
    assert scripted_wire.slept == [5]
    run_sync(_enter(limiter, scripted_wire))


def test_an_error_inside_gives_the_place_back():
    limiter = JobLimiter()

    async def fails():
        async with limiter.slot(SyncRuntime(), 1, 5):
            raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):  # noqa: PT011 - it is the test's own
            run_sync(fails())


@pytest.fixture
def scripted_wire():
    return ScriptedRuntime()


FORK = """
import itertools, os, threading
from langchain_tokenhub.jobs import service
from langchain_tokenhub.jobs.history import shared_recent_jobs
from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.jobs.runner import shared_limiter
from langchain_tokenhub.transport import SyncRuntime, run_sync


async def enter(work):
    async with shared_limiter("account").slot(SyncRuntime(), 1, 1):
        work()


def keep_jobs():
    for number in itertools.count():
        shared_recent_jobs("account").keep(Job(kind="image", model="m", id=str(number % 9)))
        held.set()


def hold():
    with service.stats._lock:
        keep_jobs()


held = threading.Event()
service.stats.record_rate(service.PollRate("site"), 0.01)
threading.Thread(target=run_sync, args=(enter(hold),), daemon=True).start()
held.wait()
for _ in range(20):
    if os.fork() == 0:
        run_sync(enter(lambda: None))
        known = len(shared_recent_jobs("account").jobs()) > 0
        os._exit(0 if known and service.stats.relative_load("site") == 1 else 1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
os._exit(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_child_waits_for_none_of_its_parents_jobs():
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


FORK_IN_HANDLER = """
import os, signal
from langchain_tokenhub.jobs import history

signal.signal(signal.SIGUSR1, lambda *_: os.fork() or os._exit(0))
with history._lock:
    signal.raise_signal(signal.SIGUSR1)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_signals_handler_may_fork_while_a_job_is_recorded():
    command = [sys.executable, "-c", FORK_IN_HANDLER]
    assert subprocess.run(command, check=False, timeout=30).returncode == 0
