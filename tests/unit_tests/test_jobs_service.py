"""Paid jobs, sentence by sentence (contract, section 5), over a wire whose clock only counts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from contextlib import aclosing

import httpx
import pytest
from langchain_core.stores import InMemoryByteStore

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.jobs import service as module
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.ledger_backends import backend_for
from langchain_tokenhub.jobs.models import Job, JobRequest
from langchain_tokenhub.jobs.runner import raise_if_failed
from langchain_tokenhub.jobs.service import Service, poll_until_ended
from langchain_tokenhub.transport import run_sync
from tests.conftest import ScriptedRuntime, answer, scripted

SUBMITTED = {
    "id": "1430000000000000128",
    "request_id": "r-1",
    "object": "video",
    "status": "queued",
}
RUNNING = {"request_id": "r-2", "status": "in_progress", "progress": 30}
DONE = {
    "request_id": "r-3",
    "status": "completed",
    "completed_at": 1774807628,
    "progress": 100,
    "data": {"url": "https://vc.test/a.mp4?q-signature=secret"},
}
FULL = {
    "id": "",
    "status": "failed",
    "error": {"code": "RequestLimitExceeded.JobNumExceed", "message": "too many jobs"},
    "request_id": "r-9",
}


@pytest.fixture(autouse=True)
def nothing_learnt(monkeypatch):
    monkeypatch.setattr(module, "stats", module.DurationStats())


def service(*script, **kwargs):
    """A line that is called makes its answer anew: an answer is read once."""
    model = media_model("hy-video-1.5")
    lines = [line() if callable(line) else line for line in script]
    return Service(transport=scripted(*lines, **kwargs), model="hy-video-1.5", facts=model)


def again(*args, **kwargs):
    return functools.partial(answer, *args, **kwargs)


def request(where, *, wait=60.0, ledger=None):
    deadline = where.transport.runtime.now() + wait
    asked = JobRequest(body={"prompt": "雪"}, key="k-1")
    return run_sync(where.submit(asked, deadline=deadline, ledger=ledger))


@pytest.fixture
def ledger():
    return Ledger(backend_for(InMemoryByteStore()), ScriptedRuntime())


def recorded(ledger):
    return run_sync(ledger.record("k-1"))


def wait_for(where, job, wait=1800.0):
    async def all_of_it():
        async with aclosing(poll_until_ended(where, job, wait=wait)) as states:
            return [state async for state in states]

    return run_sync(all_of_it())


JOB = Job(kind="video", model="hy-video-1.5", id="143", host="a.test")


def test_a_submit_brings_a_job_with_id_host_and_time():
    job = request(service(answer(SUBMITTED)))
    assert (job.id, job.status, job.host, job.request_id) == (
        "1430000000000000128",
        "queued",
        "a.test",
        "r-1",
    )
    assert job.submitted_at.tzinfo


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        answer({}, status=500),
        answer({}, status=502),
        answer({}, status=503),
        answer({}, status=504),
        answer([1, 2]),
        answer({"request_id": "r"}),
        answer("<html>"),
    ],
    ids=["timeout", "cut", "500", "502", "503", "504", "a list", "no id", "a text"],
)
def test_a_submit_that_may_have_arrived_is_not_sent_again(trouble):
    where = service(trouble, answer(SUBMITTED))
    with pytest.raises(errors.SubmissionUnknownError) as caught:
        request(where)
    assert len(where.transport.runtime.sent) == 1
    assert caught.value.job is None
    assert caught.value.host == "a.test"
    assert caught.value.is_retryable is False


def test_a_submit_that_never_left_is_sent_again():
    where = service(httpx.ConnectError("no"), answer(SUBMITTED))
    assert request(where).host == "b.test"


def test_a_503_with_retry_after_is_sent_again():
    assert request(service(answer({}, status=503, retry_after="1"), answer(SUBMITTED))).id


def test_a_refusal_inside_a_200_raises_its_own_class_and_is_not_repeated():
    error = {"code": "InvalidParameter.InvalidParameter", "message": "no"}
    where = service(answer({"id": "", "status": "failed", "error": error, "request_id": "r-7"}))
    with pytest.raises(errors.InvalidRequestError) as caught:
        request(where)
    assert caught.value.request_id == "r-7"
    assert len(where.transport.runtime.sent) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"error": {"code": "", "message": ""}},
        {"error": {"code": 0, "message": "ok"}},
        {"error": {}},
        {"Error": {}},
        {"error_code": "0"},
        {"error": "deprecated parameter"},
        {"error": {"code": "InvalidParameter.InvalidParameter", "message": "no"}},
        {"error_code": 5, "status": "odd"},
        {"Response": {"Error": {"Code": "X.Y", "Message": "no"}}},
        {"ErrorMsg": {"Code": "1", "Msg": "no"}},
    ],
    ids=str,
)
def test_an_answer_with_an_id_is_an_accepted_job_whatever_else_it_says(more):
    for job_id in ("1430000000000000128", 1430000000000000128):
        where = service(answer({**SUBMITTED, "id": job_id, **more}))
        assert request(where).id == "1430000000000000128"


@pytest.mark.parametrize("status", [400, 408, 409, 429, 499, 500, 502, 503])
def test_an_answer_with_an_id_is_an_accepted_job_whatever_its_status_is(status):
    for more in ({}, {"error": {"code": "429005", "message": "busy"}}):
        where = service(answer({**SUBMITTED, **more}, status=status))
        job = request(where)
        assert (job.id, job.status, job.request_id) == (SUBMITTED["id"], "queued", "r-1")


def test_an_id_that_says_nothing_of_a_job_does_not_hide_a_refusal():
    for status in ({}, {"status": "failed"}, {"status": "error"}, {"status": 400}):
        body = {"id": "err-1", **status, "error": {"code": "400002", "message": "bad"}}
        with pytest.raises(errors.InvalidRequestError, match="bad"):
            request(service(answer(body, status=400)))


def test_a_submit_whose_job_failed_at_once_keeps_its_id_and_reason():
    error = {"code": "FailedOperation.InnerError", "message": "no"}
    job = request(service(answer({**SUBMITTED, "status": "failed", "error": error})))
    assert (job.status, job.id, job.error) == ("failed", SUBMITTED["id"], error)


@pytest.mark.parametrize(
    "more", [{}, {"error": {}}, {"error": {"code": 0, "message": "ok"}}, {"error_code": "0"}]
)
def test_an_answer_without_id_and_reason_may_have_been_charged(more):
    for job_id in ({}, {"id": None}, {"id": True}, {"id": {}}):
        with pytest.raises(errors.SubmissionUnknownError):
            request(service(answer({"request_id": "r", **job_id, **more})))


def test_a_picture_that_comes_at_once_is_not_lost_to_a_warning_or_a_missing_id():
    model = media_model("hy-image-lite")
    for more in ({"error": "deprecated"}, {"error": {"code": 0}}, {"error_code": "5"}):
        body = {"data": [{"url": "https://x.test/a.png"}], **more}
        where = Service(transport=scripted(answer(body)), model="hy-image-lite", facts=model)
        job = request(where)
        assert job.files[0].source == f"{job.id}#0"


def test_a_refusal_without_an_error_body_tells_its_reason_and_not_the_key():
    where = service(answer({"id": "", "message": "no such key: sk-test-canary"}))
    with pytest.raises(errors.JobFailedError, match="no such key") as caught:
        request(where)
    assert "sk-test-canary" not in str(caught.value)


@pytest.mark.parametrize("job_id", ["", " ", "0", 0, "00000000-0000-0000"])
def test_an_empty_or_zero_id_is_a_refusal(job_id):
    with pytest.raises(errors.JobFailedError, match="refused"):
        request(service(answer({"id": job_id, "status": "queued"})))


def test_a_full_account_is_waited_out_apart_from_max_retries():
    where = service(*[again(FULL)] * 4, answer(SUBMITTED), max_retries=0)
    assert request(where).id
    assert len(where.transport.runtime.slept) == 4


def test_a_full_account_is_not_waited_for_beyond_the_deadline():
    where = service(*[again(FULL)] * 50)
    with pytest.raises(errors.RateLimitError, match="too many jobs"):
        request(where, wait=10)
    assert sum(where.transport.runtime.slept) <= 10


def test_an_interrupted_submit_keeps_its_id(ledger, caplog):
    where = service(answer(SUBMITTED))

    async def interrupted(work, progress):
        progress.is_under_way = progress.is_cancelled = True
        return await work, KeyboardInterrupt()

    where.transport.runtime.run_shielded = interrupted
    with pytest.raises(KeyboardInterrupt) as caught:
        request(where, ledger=ledger)
    assert recorded(ledger)[0].job.id == "1430000000000000128"
    assert "1430000000000000128" in caught.value.__notes__[0]
    assert "1430000000000000128" in caplog.text


def test_an_interrupted_submit_that_is_refused_leaves_no_claim(ledger):
    where = service(answer({"error": {"code": "401001"}}, status=401))

    async def interrupted(work, progress):
        progress.is_under_way = progress.is_cancelled = True
        with contextlib.suppress(errors.AuthenticationError):
            await work
        raise KeyboardInterrupt

    where.transport.runtime.run_shielded = interrupted
    with pytest.raises(KeyboardInterrupt) as caught:
        request(where, ledger=ledger)
    assert recorded(ledger) == ()
    assert "charged" not in str(getattr(caught.value, "__notes__", ""))


@pytest.mark.parametrize("is_under_way", [False, True])
def test_an_interruption_before_the_first_byte_leaves_no_claim(ledger, is_under_way):
    where = service(answer(SUBMITTED))

    async def interrupted(work, progress):
        work.close()
        progress.is_under_way = is_under_way
        raise asyncio.CancelledError

    where.transport.runtime.run_shielded = interrupted
    with pytest.raises(asyncio.CancelledError) as caught:
        request(where, ledger=ledger)
    assert [entry.is_pending for entry in recorded(ledger)] == [True] * is_under_way
    assert ("charged" in str(getattr(caught.value, "__notes__", ""))) == is_under_way


def test_a_refused_submit_is_not_in_the_ledger(ledger):
    with pytest.raises(errors.QuotaExhaustedError):
        request(service(answer({"error": {"code": "401008"}}, status=402)), ledger=ledger)
    assert recorded(ledger) == ()


def test_an_unknown_submit_stays_in_the_ledger_under_its_key(ledger):
    with pytest.raises(errors.SubmissionUnknownError) as caught:
        request(service(httpx.ReadTimeout("slow")), ledger=ledger)
    assert recorded(ledger)[0].lost
    assert caught.value.ledger_key == "k-1"


def test_a_query_is_one_request_with_model_and_id():
    where = service(answer(RUNNING))
    job = run_sync(where.query(JOB))
    assert (job.status, job.progress) == ("in_progress", 30)
    assert where.transport.runtime.sent[0].content == b'{"model":"hy-video-1.5","id":"143"}'


def test_a_query_of_a_completed_job_with_files_asks_nobody():
    where = service(answer(DONE))
    done = run_sync(where.query(JOB))
    assert run_sync(where.query(done)) is done
    assert len(where.transport.runtime.sent) == 1


def test_a_query_of_a_failed_job_returns_it():
    failed = {"status": "failed", "error": {"code": "FailedOperation.InnerError", "message": "x"}}
    job = run_sync(service(answer(failed)).query(JOB))
    assert job.error == {"code": "FailedOperation.InnerError", "message": "x"}


def test_polls_go_first_to_the_host_that_took_the_job():
    where = service(answer(DONE))
    run_sync(where.query(JOB.model_copy(update={"host": "b.test"})))
    assert where.transport.runtime.sent[0].url.host == "b.test"


def test_the_job_is_reported_before_the_first_poll():
    where = service(answer(SUBMITTED))
    job = request(where)
    sent = len(where.transport.runtime.sent)

    async def first():
        async with aclosing(poll_until_ended(where, job, wait=10)) as states:
            return await anext(states)

    assert run_sync(first()) == job
    assert len(where.transport.runtime.sent) == sent


def test_a_wait_ends_with_the_files():
    where = service(answer(SUBMITTED), answer(RUNNING), answer(RUNNING), answer(DONE))
    states = wait_for(where, request(where))
    assert [state.status for state in states] == [
        "queued",
        "in_progress",
        "in_progress",
        "completed",
    ]
    assert states[-1].files[0].url.endswith("q-signature=secret")


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("no"),
        httpx.ReadTimeout("slow"),
        again({}, status=500),
        again({}, status=502),
        again({}, status=408),
        again({}, status=429),
        again("nonsense"),
        again({"error": {"code": "FailedOperation.RpcFail", "message": "again"}}),
        again({"error": {"code": "RequestLimitExceeded", "message": "slow down"}}),
    ],
    ids=["connect", "timeout", "500", "502", "408", "429", "nonsense", "inner", "busy"],
)
def test_a_poll_that_fails_for_a_passing_reason_does_not_end_the_wait(trouble):
    # twice: a host that cannot be connected to is followed by its backup at once
    where = service(trouble, trouble, answer(DONE), max_retries=0)
    assert wait_for(where, JOB)[-1].status == "completed"


def test_polls_that_fail_for_two_minutes_end_the_wait_with_the_job():
    where = service(*[again({}, status=500)] * 500, max_retries=0)
    with pytest.raises(errors.JobTimeoutError, match="could not be queried") as caught:
        wait_for(where, JOB)
    assert caught.value.job.id == "143"
    assert isinstance(caught.value.__cause__, errors.ServerError)
    assert 120 <= sum(where.transport.runtime.slept) < 140


@pytest.mark.parametrize("status", [401, 403])
def test_a_poll_that_may_not_ends_the_wait_at_once(status):
    where = service(answer({}, status=status))
    with pytest.raises(errors.TokenHubError) as caught:
        wait_for(where, JOB)
    assert caught.value.job.id == "143"
    assert len(where.transport.runtime.sent) == 1


def test_a_young_job_may_be_unknown_for_a_while():
    gone = {"error": {"code": "FailedOperation.JobNotFound", "message": "?"}}
    where = service(answer(SUBMITTED), answer(gone), answer(gone), answer(DONE))
    assert wait_for(where, request(where))[-1].status == "completed"


def test_a_host_that_did_not_take_the_job_has_no_say_in_whether_it_is_known():
    gone = {"error": {"code": "FailedOperation.JobNotFound", "message": "?"}}
    where = service(httpx.ConnectError("no"), answer(gone), answer(DONE), max_retries=0)
    assert wait_for(where, JOB)[-1].status == "completed"
    hosts = [request.url.host for request in where.transport.runtime.sent]
    assert hosts[:2] == ["a.test", "b.test"]


def test_an_old_job_may_not():
    gone = {"error": {"code": "FailedOperation.JobNotFound", "message": "?"}}
    with pytest.raises(errors.JobNotFoundError):
        wait_for(service(answer(gone)), JOB)


def test_a_wait_polls_once_more_at_its_deadline_and_never_sleeps_past_it():
    """openai 3.54.0 and replicate 1.0.7 take no deadline; runwayml 5.24.0 ends 1.8 s late."""
    where = service(answer(SUBMITTED), *[again(RUNNING)] * 100)
    job = request(where)
    with pytest.raises(errors.JobTimeoutError) as caught:
        wait_for(where, job, wait=30)
    assert sum(where.transport.runtime.slept) == pytest.approx(30)
    assert caught.value.job.status == "in_progress"
    assert "nothing is charged again" in caught.value.hint


def test_the_poll_at_the_deadline_may_bring_the_result():
    where = service(answer(SUBMITTED), answer(DONE))
    job = request(where)
    assert wait_for(where, job, wait=0.25)[-1].status == "completed"
    assert where.transport.runtime.slept == [0.25]


def test_a_hint_of_the_service_decides_when_to_look_again():
    """openai 3.54.0 keeps the first hint; fal_client 1.0.3 and replicate 1.0.7 read none."""
    where = service(answer(SUBMITTED), answer(RUNNING, retry_after="7"), answer(DONE))
    wait_for(where, request(where))
    assert where.transport.runtime.slept[-1] == pytest.approx(7, rel=0.06)


def test_an_unknown_word_is_waited_for_with_one_warning(caplog):
    """openai 3.54.0 returns it as done; fal_client 1.0.3 and replicate 1.0.7 raise."""
    odd = {"status": "MARINATING"}
    where = service(answer(odd), answer(odd), answer(DONE))
    states = wait_for(where, JOB)
    assert [state.status for state in states] == ["queued", "unknown", "unknown", "completed"]
    assert caplog.text.count("MARINATING") == 1


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("FailedOperation.ModerationFailed", errors.JobBlockedError),
        ("OperationDenied.TextIllegalDetected", errors.JobBlockedError),
        ("FailedOperation.InnerError", errors.JobFailedError),
        (None, errors.JobFailedError),
    ],
)
def test_a_failed_job_raises_its_class_with_the_services_words(code, cls):
    failed = JOB.model_copy(
        update={"status": "failed", "error": {"code": code, "message": "因故失败"}}
    )
    with pytest.raises(cls, match="因故失败") as caught:
        raise_if_failed(failed)
    assert type(caught.value) is cls
    assert caught.value.job is failed
    assert caught.value.is_retryable is False


def test_moderation_without_a_state_ends_the_job_too():
    body = {"error": {"code": "FailedOperation.ModerationFailed", "message": "no"}}
    assert wait_for(service(answer(body)), JOB)[-1].status == "failed"
