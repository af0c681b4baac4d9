"""What a wait reports: the service's words, durations by one clock, and the id of every job."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.jobs import service as module
from langchain_tokenhub.jobs.models import Job, decode_query, decode_submit
from langchain_tokenhub.jobs.service import Service, poll_until_ended
from langchain_tokenhub.transport import Answer, run_sync
from tests.conftest import answer, scripted

FACTS = media_model("hy-video-1.5")
JOB = Job(kind="video", model="hy-video-1.5", id="143", host="a.test")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DATA = {"url": "https://vc.test/a.mp4"}


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch):
    monkeypatch.setattr(module, "stats", module.DurationStats())


def service(*script):
    return Service(transport=scripted(*script), model="hy-video-1.5", facts=FACTS)


def wait_for(where, job=JOB, wait=20.0):
    async def all_of_it():
        async with aclosing(poll_until_ended(where, job, wait=wait)) as states:
            return [state async for state in states]

    return run_sync(all_of_it())


@pytest.mark.parametrize("word", ["排队中", "processing", "RUN", "queued"])
def test_a_timeout_names_the_services_own_word(word):
    where = service(*[answer({"status": word}) for _ in range(99)])
    with pytest.raises(errors.JobTimeoutError, match=f"'{word}' after a wait of 20 s") as caught:
        wait_for(where)
    assert caught.value.job.service_status == word


@pytest.mark.parametrize("code", ["FailedOperation.JobNotExist", "FailedOperation.JobNotFound"])
@pytest.mark.parametrize("status", [200, 400, 404])
def test_a_job_that_is_not_known_any_more_is_no_failed_job(code, status):
    body = {"status": "failed", "error": {"code": code, "message": "gone"}}
    for ask in (lambda where: run_sync(where.query(JOB)), wait_for):
        with pytest.raises(errors.JobNotFoundError) as caught:
            ask(service(answer(body, status=status)))
        assert caught.value.job.id == "143"


def whole(data):
    ids = {"request_id": "r", "client_request_id": "c"}
    return Answer(data=data, status=200, host="h", attempts=1, **ids)


def ended(*, created=None, completed=None, seen=60.0, submitted=NOW):
    """Return a job by its submit's answer and its last query's; times in seconds after NOW."""

    def stamp(seconds):
        return None if seconds is None else (NOW + timedelta(seconds=seconds)).timestamp()

    first = whole({"id": "1430000", "created_at": stamp(created)})
    job = decode_submit(first, FACTS, "hy-video-1.5", submitted_at=submitted, now=submitted)
    job = Job.model_validate_json(job.model_dump_json())  # resumed by another process
    last = whole({"status": "completed", "data": DATA, "completed_at": stamp(completed)})
    return decode_query(job, last, FACTS, now=submitted + timedelta(seconds=seen))


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ({"created": 0, "completed": 50}, 50),
        ({"created": 7200, "completed": 7250}, 50),  # the service's clock is ahead
        ({"created": -7200, "completed": -7150}, 50),  # or behind
        ({"completed": 7250}, 60),  # and the submit's time is unknown
        ({"completed": -7150}, 60),
        ({"created": 50, "completed": 0}, 60),  # its hosts' clocks differ
        ({"created": 0, "completed": 7250}, 60),
        ({"created": 0, "completed": 50, "seen": -7140}, 50),  # this machine's clock was set back
        ({"created": 0, "completed": 50, "seen": 7260}, 50),  # or forward
        ({"seen": -7140}, None),
        ({}, 60),
    ],
)
def test_seconds_do_not_depend_on_clocks_that_differ(times, seconds):
    assert ended(**times).seconds == seconds


def test_a_job_queried_again_for_its_links_keeps_its_end():
    job = ended(created=0, completed=50)
    last = whole({"status": "completed", "data": DATA, "completed_at": NOW.timestamp() + 9999})
    later = NOW + timedelta(seconds=9999)
    assert decode_query(job, last, FACTS, now=later).seconds == 50


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
def test_an_interrupted_wait_names_its_job_in_note_and_log(interruption, caplog):
    where = service()

    async def interrupted(seconds):
        raise interruption

    where.transport.runtime.sleep = interrupted
    with pytest.raises(interruption) as caught:
        wait_for(where)
    assert "143" in caught.value.__notes__[0]
    assert caplog.text.count("hy-video-1.5/143 continues and is paid for") == 1
