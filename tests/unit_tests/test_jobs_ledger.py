"""The ledger: the same call pays once."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from langchain_core.stores import InMemoryByteStore, InMemoryStore

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.files import stem_of
from langchain_tokenhub.jobs.ledger import (
    OTHER_WORKER,
    KnownCallError,
    Ledger,
    account_hash,
    entries_of,
    key_of,
)
from langchain_tokenhub.jobs.ledger_backends import backend_for
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaFile
from langchain_tokenhub.transport import SendState, run_sync
from tests.conftest import ScriptedRuntime

JOB = Job(kind="video", model="hy-video-1.5", id="143")
CALL = JobRequest(body={}, key="k")
AGAIN = replace(CALL, again=True)
REFUSED, LOST = errors.QuotaExhaustedError("no"), errors.SubmissionUnknownError("lost")


def end(call, error, request=CALL):
    """Claim, and end the submit with an error."""

    async def submit():
        async with call.hold_claim(request, SendState()):
            raise error

    with pytest.raises(type(error)):
        run_sync(submit())


def first(call):
    """Return the entry that a repeated call resumes."""
    return run_sync(call.record("k"))[0]


@pytest.fixture(params=["folder", "sqlite", "bytes", "anything"])
def ledger(request, tmp_path):
    places = {
        "folder": tmp_path / "ledger",
        "sqlite": f"sqlite:///{tmp_path}/ledger.db",
        "bytes": InMemoryByteStore(),
        "anything": InMemoryStore(),
    }
    runtime = ScriptedRuntime()
    return Ledger(backend_for(places[request.param]), runtime)


def test_a_call_is_claimed_once(ledger):
    run_sync(ledger.claim(CALL))
    with pytest.raises(KnownCallError) as caught:
        run_sync(Ledger(ledger._backend, ScriptedRuntime()).claim(CALL))
    assert caught.value.entry.job is None


def test_a_jobs_id_is_found_again(ledger):
    run_sync(ledger.keep(JOB, CALL))
    assert first(ledger).job == JOB
    assert [job for job, _ in run_sync(ledger.known_jobs())] == [JOB]
    with pytest.raises(KnownCallError) as caught:
        run_sync(ledger.claim(CALL))
    assert caught.value.entry.job == JOB


def test_a_refused_call_can_be_claimed_again(ledger):
    end(ledger, REFUSED)
    run_sync(ledger.claim(CALL))


def test_an_entry_without_a_job_may_have_been_charged(ledger):
    run_sync(ledger.claim(CALL))
    with pytest.raises(errors.SubmissionUnknownError, match="may have been charged") as caught:
        run_sync(ledger.await_other_worker("k", first(ledger), OTHER_WORKER))
    assert caught.value.ledger_key == "k"
    assert "again=True" in caught.value.hint


def test_another_worker_may_bring_the_id_meanwhile(ledger):
    run_sync(ledger.claim(CALL))
    entry = first(ledger)
    run_sync(ledger.keep(JOB, CALL))
    assert run_sync(ledger.await_other_worker("k", entry, OTHER_WORKER)) == JOB


def test_a_file_cut_in_writing_says_that_a_submit_began(tmp_path):
    (tmp_path / "k.json").write_text('{"schema": 1, "st')
    assert first(Ledger(backend_for(tmp_path), ScriptedRuntime())).job is None


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


def test_of_a_request_only_the_name_of_its_files_is_kept(ledger):
    request = JobRequest(
        body={"prompt": "雪\ud83d 里的猫", "x": "https://x.test/a?q-signature=s"},
        label="雪\ud83d 里的猫",
        key="k",
    )
    job = JOB.model_copy(update={"raw_revised_prompt": "雪 里的猫，细节清晰"})
    run_sync(ledger.claim(request))
    for act in (lambda: None, lambda: run_sync(ledger.keep(job, request))):
        act()
        text = ledger._backend.get("k")
        assert "雪_里的猫" in text
        assert not any(word in text for word in ("雪 里", "细节", "signature", "\\ud83d"))
    ((_, known),) = run_sync(ledger.known_jobs())
    assert stem_of(known.label, "1") == stem_of(request.label, "1")


def test_a_record_is_its_accounts_whoever_changes_it(tmp_path):
    mine = Ledger(backend_for(tmp_path), ScriptedRuntime(), "a")
    run_sync(mine.keep(JOB, CALL))
    run_sync(Ledger(backend_for(tmp_path), ScriptedRuntime(), "b").claim(AGAIN))
    assert [job for job, _ in run_sync(mine.known_jobs())] == [JOB]


def test_a_key_takes_whatever_json_takes():
    assert key_of("m", ["a"], {"x": {1: 2, "b": 3}}) == key_of("m", ["a"], {"x": {"1": 2, "b": 3}})


def test_links_count_without_their_signatures():
    same = [
        "https://x.test/a.png?v=1",
        "https://X.test/a.png?v=1&q-sign-time=1;2&q-signature=a",
        "http://x.test/a.png?X-Amz-Date=1&X-Amz-Signature=b&v=1",
        "https://x.test/a.png?v=1&se=2026&sp=r&sig=c",
        "https://x.test/a.png?Expires=1&OSSAccessKeyId=d&Signature=e&v=1#top",
    ]
    others = [
        "https://x.test/a.png",
        "https://x.test/a.png?v=2",
        "https://x.test/b.png?v=1",
        "https://y.test/a.png?v=1",
        "https://x.test/a.png?v=1&x-oss-process=image/resize",
        "https://x.test/a.png?v=1&se=2026",
    ]
    keys = [key_of("m", ["a"], {"images": [{"url": link}]}) for link in same + others]
    assert len(set(keys[: len(same)])) == 1
    assert len(set(keys)) == 1 + len(others)


def test_an_account_is_identified_by_a_hash_that_does_not_hold_its_key():
    assert account_hash("sk-a") == account_hash("sk-a") != account_hash("sk-b")
    assert "sk-a" not in account_hash("sk-a")
    assert account_hash("sk-a") != hashlib.sha256(b"sk-a").hexdigest()[:32]


def test_another_accounts_jobs_are_not_listed(tmp_path):
    mine, theirs = (Ledger(backend_for(tmp_path), ScriptedRuntime(), who) for who in "ab")
    run_sync(theirs.keep(JOB, CALL))
    assert run_sync(mine.known_jobs()) == []
    assert [job for job, _ in run_sync(theirs.known_jobs())] == [JOB]


def test_a_wait_for_another_worker_ends_with_the_callers_patience(ledger):
    run_sync(ledger.claim(CALL))
    with pytest.raises(errors.SubmissionUnknownError):
        run_sync(ledger.await_other_worker("k", first(ledger), 3.0))
    assert sum(ledger._runtime.slept) == pytest.approx(3.0)


# --- several calls of one key ---------------------------------------------------------------------


class Calls(RuleBasedStateMachine):
    """Calls of one key: what one does never takes another's entry away."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.backend = self.make_backend()
        self.calls = []
        self.states = {}

    def make_backend(self):
        return backend_for(self.folder.name)

    def teardown(self):
        left = [file.name for file in Path(self.folder.name).rglob("*") if file.is_file()]
        self.folder.cleanup()
        assert set(left) <= {"k.json", ".lock", "ledger.db"}

    def record(self):
        return entries_of(self.backend.get("k"))

    def act(self, call, work, *, may_replace=False):
        """Do something as `call`, and check that the other calls' entries are still there."""
        before = [entry for entry in self.record() if entry.token != call._token]
        with contextlib.suppress(errors.TokenHubError):
            run_sync(work)
        left = {entry.token: entry for entry in self.record()}
        for entry in before:
            assert entry.token in left or (may_replace and not entry.is_pending)
            assert left.get(entry.token, entry).job == entry.job

    def some(self, state, data):
        calls = [call for call in self.calls if self.states[call] == state]
        return data.draw(st.sampled_from(calls)) if calls else None

    @rule(again=st.booleans())
    def begin(self, again):
        call, before = Ledger(self.backend, ScriptedRuntime()), self.record()
        call.held = call.hold_claim(replace(CALL, again=again), SendState())
        is_known = bool(before and not again)
        with pytest.raises(KnownCallError) if is_known else contextlib.nullcontext():
            run_sync(call.held.__aenter__())
        if not is_known:
            self.calls.append(call)
            self.states[call] = "pending"
            call.again = again

    @rule(data=st.data())
    def accept(self, data):
        if call := self.some("pending", data):
            job = JOB.model_copy(update={"id": f"job-{len(self.calls)}-{call._token}"})
            self.states[call], call.job = "accepted", job
            self.act(call, call.keep(job, CALL), may_replace=call.again)
            run_sync(call.held.__aexit__(None, None, None))
            assert any(entry.job and entry.job.id == job.id for entry in self.record())

    @rule(data=st.data(), error=st.sampled_from([REFUSED, LOST]))
    def end(self, data, error):
        if call := self.some("pending", data):
            self.states[call] = "ended"
            self.act(call, call.held.__aexit__(type(error), error, None))

    @rule(data=st.data(), verb=st.sampled_from(["forget", "update"]))
    def look_at(self, data, verb):
        if call := self.some("accepted", data):
            self.act(call, getattr(call, verb)(call.job, CALL))
            if verb == "forget":
                self.states[call] = "ended"
                assert call._token not in {entry.token for entry in self.record()}

    @invariant()
    def a_pending_call_is_never_forgotten(self):
        tokens = {entry.token for entry in self.record()}
        assert {call._token for call in self.calls if self.states[call] == "pending"} <= tokens


class CallsInAStore(Calls):
    def make_backend(self):
        return backend_for(InMemoryByteStore())


class CallsInADatabase(Calls):
    def make_backend(self):
        return backend_for(f"sqlite:///{self.folder.name}/ledger.db")


CALLS = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCalls = Calls.TestCase
TestCalls.settings = CALLS
TestCallsInAStore = CallsInAStore.TestCase
TestCallsInAStore.settings = CALLS
TestCallsInADatabase = CallsInADatabase.TestCase
TestCallsInADatabase.settings = CALLS


def test_a_job_that_is_reported_after_a_later_call_was_accepted_is_known_by_its_key(ledger):
    later = Ledger(ledger._backend, ScriptedRuntime())
    run_sync(ledger.claim(CALL))
    run_sync(later.claim(AGAIN))
    newer = JOB.model_copy(update={"id": "144"})
    run_sync(later.keep(newer, AGAIN))
    run_sync(ledger.keep(JOB, CALL))
    assert first(ledger).job == newer
    known = run_sync(ledger.known_jobs())
    assert {(job.id, asked.key) for job, asked in known} == {("143", "k"), ("144", "k")}
    run_sync(later.forget(newer, AGAIN))
    assert first(ledger).job == JOB


@pytest.mark.parametrize("place", ["{}", "sqlite:///{}/ledger.db"])
def test_calls_that_change_a_record_at_once_lose_no_entry(tmp_path, place):
    backend = backend_for(place.format(tmp_path))
    run_sync(Ledger(backend, ScriptedRuntime()).keep(JOB, CALL))

    def work():
        for _ in range(10):
            end(Ledger(backend, ScriptedRuntime()), REFUSED, AGAIN)
        run_sync(Ledger(backend, ScriptedRuntime()).claim(AGAIN))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept, *others = entries_of(backend.get("k"))
    assert kept.job == JOB
    assert sum(entry.is_pending for entry in others) == len(others) == 6


def test_a_folder_keeps_nothing_but_records_and_a_lock(tmp_path):
    call = Ledger(backend_for(tmp_path), ScriptedRuntime())
    run_sync(call.claim(CALL))
    run_sync(call.keep(JOB, CALL))
    assert {file.name for file in tmp_path.iterdir()} == {"k.json", ".lock"}


def test_an_entry_that_is_overtaken_between_reading_and_writing_is_read_again(ledger):
    other = Ledger(ledger._backend, ScriptedRuntime())
    run_sync(other.keep(JOB, CALL))
    change = ledger._backend.replace
    overtaken = []

    def late(key, old, new, links):
        if not overtaken:
            overtaken.append(1)
            run_sync(other.forget(JOB, CALL))
            run_sync(Ledger(ledger._backend, ScriptedRuntime()).claim(CALL))
        return change(key, old, new, links)

    ledger._backend.replace = late
    run_sync(ledger.forget(JOB, CALL))
    assert first(other).is_pending


def test_the_links_of_a_job_are_recorded_although_its_claim_has_vanished(ledger):
    file = MediaFile(url="https://a.test/1.png", type="png")._of_job(JOB, 0)
    run_sync(ledger.keep(JOB.model_copy(update={"files": [file]}), CALL))
    assert run_sync(ledger.source_of("https://a.test/1.png")) == file.source
