"""When a job is looked at: often enough, seldom enough."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from langchain_tokenhub.jobs.schedule import (
    LATEST,
    SOONEST,
    DurationStats,
    PollRate,
    Prior,
    poll_delay,
)


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
    assert SOONEST <= poll_delay(Prior.from_estimate(typical), age) <= LATEST


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
    assert load.load("a") == pytest.approx(10)
    assert load.load("b") == 1
    for job in jobs:
        load.record_rate(job, math.inf)
    assert load.load("a") == 1


def test_a_poll_that_returns_after_its_job_was_left_is_not_counted():
    load = DurationStats()
    for _ in range(80):
        job = PollRate("a")
        for seconds in (0.5, math.inf, 0.5):
            load.record_rate(job, seconds)
    assert load.load("a") == 1
