"""The ledger: the same call pays once."""

from __future__ import annotations

import pytest
from langchain_core.stores import InMemoryByteStore, InMemoryStore

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.ledger import Ledger, LedgerHooks, TakenError, backend_for, key_of
from langchain_tokenhub.jobs.models import Job, JobRequest
from langchain_tokenhub.transport import finish
from tests.conftest import ScriptedRuntime

JOB = Job(kind="video", model="hy-video-1.5", id="143")


@pytest.fixture(params=["folder", "bytes", "anything"])
def ledger(request, tmp_path):
    places = {
        "folder": tmp_path / "ledger",
        "bytes": InMemoryByteStore(),
        "anything": InMemoryStore(),
    }
    runtime = ScriptedRuntime()
    return Ledger(backend_for(places[request.param]), runtime)


def test_a_call_is_claimed_once(ledger):
    assert finish(ledger.claim("k")) is None
    assert finish(ledger.claim("k")).job is None


def test_a_jobs_id_is_found_again(ledger):
    finish(ledger.keep("k", JOB))
    assert finish(ledger.look("k")).job == JOB
    assert [job for job, _ in finish(ledger.known())] == [JOB]


def test_a_dropped_call_can_be_claimed_again(ledger):
    finish(ledger.claim("k"))
    finish(ledger.refuse("k"))
    assert finish(ledger.claim("k")) is None


def test_a_log_refuses_to_begin_what_is_there(ledger):
    finish(ledger.keep("k", JOB))
    with pytest.raises(TakenError) as caught:
        finish(LedgerHooks(ledger, JobRequest(body={}, key="k")).begin())
    assert caught.value.entry.job == JOB


def test_an_entry_without_a_job_may_have_been_charged(ledger):
    finish(ledger.claim("k"))
    with pytest.raises(errors.SubmissionUnknownError, match="may have been charged") as caught:
        finish(ledger.await_other_worker("k", finish(ledger.look("k"))))
    assert caught.value.ledger_key == "k"
    assert "again=True" in caught.value.hint


def test_another_worker_may_bring_the_id_meanwhile(ledger):
    finish(ledger.claim("k"))
    entry = finish(ledger.look("k"))
    finish(ledger.keep("k", JOB))
    assert finish(ledger.await_other_worker("k", entry)) == JOB


def test_a_file_cut_in_writing_says_that_a_submit_began(tmp_path):
    (tmp_path / "k.json").write_text('{"schema": 1, "st')
    runtime = ScriptedRuntime()
    assert finish(Ledger(backend_for(tmp_path), runtime).look("k")).job is None


def test_keys_tell_calls_apart():
    body = {"prompt": "雪"}
    keys = {
        key_of("m", ["a"], body),
        key_of("n", ["a"], body),
        key_of("m", ["b"], body),
        key_of("m", ["a"], {"prompt": "雨"}),
        key_of("m", ["a"], body, "thread", "call"),
        key_of("m", ["a"], body, "thread", "call2"),
    }
    assert len(keys) == 6
    assert key_of("m", ["a"], dict(reversed({"a": 1, "b": 2}.items()))) == key_of(
        "m", ["a"], {"a": 1, "b": 2}
    )


def test_a_key_is_a_file_name():
    assert "/" not in key_of("ep-../../x", ["a"], {})


def test_what_was_asked_for_is_kept_without_its_files(ledger):
    request = JobRequest(
        body={"prompt": "雪\ud83d", "image": {"base64": "A" * 5000}}, title="雪", key="k"
    )
    finish(ledger.keep("k", JOB, request))
    ((_, known),) = finish(ledger.known())
    assert (known.title, known.body["prompt"][0]) == ("雪", "雪")
    assert known.body["image"] == {"base64": "(5000 characters of base64)"}


def test_anew_takes_the_place_of_an_entry_once(ledger):
    finish(ledger.keep("k", JOB))
    log = LedgerHooks(ledger, JobRequest(body={}, key="k"), again=True)
    finish(log.begin())
    assert finish(ledger.look("k")).pending
    with pytest.raises(TakenError):
        finish(log.begin())
