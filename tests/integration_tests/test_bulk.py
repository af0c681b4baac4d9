"""Many jobs over the emulator: files, money, quotas, keys, and what goes on after an end."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from langchain_tokenhub import (
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
    RateLimitError,
)
from langchain_tokenhub.bulk import arun, driver, run
from langchain_tokenhub.bulk.budget import Budget, RowBackend
from langchain_tokenhub.bulk.report import Counts
from langchain_tokenhub.jobs import ledger, runner, service
from langchain_tokenhub.jobs.ledger import KnownCallError, Ledger
from langchain_tokenhub.jobs.ledger_sql import CALLS, SqlBackend
from langchain_tokenhub.jobs.models import Job, JobRequest
from langchain_tokenhub.testing import Emulator
from langchain_tokenhub.transport import SyncRuntime, run_sync
from tests.bulk_jobs import CountingEmulator, film, still, submits

CALL = JobRequest(body={}, key="key")
KEYS = ["sk-canary-one", "sk-canary-two"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(driver, "PAUSES", (0.01, 0.01, 0.01))


def by_run(rows, out, **options):
    shots = run(rows, out=out, **options)
    return {one.id: one for one in shots}, shots


def by_arun(rows, out, **options):
    async def collect():
        shots = arun(rows, out=out, **options)
        return {one.id: one async for one in shots}, shots

    return asyncio.run(collect())


@pytest.fixture(params=[by_run, by_arun])
def do(request):
    """Run rows in both faces; returns outcomes by id, and the run."""
    return request.param


def lite(name):
    return {"id": name, "model": "hy-image-lite", "prompt": f"canary {name}"}


def states(found):
    return {name: one.state for name, one in found.items()}


def report(out):
    return [json.loads(line) for line in (out / "report.jsonl").read_text("utf-8").splitlines()]


def test_rows_become_files_a_report_and_a_page(hub, tmp_path, do):
    found, shots = do([film("动", "镜头/一"), still("镜头/一"), lite("轻")], tmp_path)
    assert set(states(found).values()) == {"done"}
    (file,) = found["镜头/一"].result.files
    assert file.path.name.startswith("镜头_一-")
    assert file.path.parent == tmp_path
    video = next(r.body for r in submits(hub) if r.body["model"] == "yt-video-2.0")
    assert "/files/" in video["image"]["url"]
    lines = {line["row"]: line for line in report(tmp_path)}
    assert lines["动"]["files"] == [found["动"].result.files[0].path.name]
    assert lines["动"]["job"] == found["动"].result.job.id
    assert lines["轻"]["cny"] == found["轻"].cny == 1.2
    assert "镜头_一-" in (tmp_path / "index.html").read_text("utf-8")
    assert (shots.done, shots.rows, shots.running, shots.waiting) == (3, 3, 0, 0)
    assert (round(shots.spent, 2), shots.left) == (8.4, None)


def test_a_second_run_sends_nothing_and_returns_the_same(hub, tmp_path, do):
    rows = [film("b", "a"), still("a"), lite("c")]
    first, _ = do(rows, tmp_path)
    asked = sum(r.method == "POST" for r in hub.requests)
    second, shots = do(rows, tmp_path)
    assert sum(r.method == "POST" for r in hub.requests) == asked
    assert {n: one.result.job.id for n, one in second.items()} == {
        n: one.result.job.id for n, one in first.items()
    }
    assert len(report(tmp_path)) == 3
    assert round(shots.spent, 2) == 8.4


def test_an_edited_row_is_new_and_the_others_are_not(hub, tmp_path, do):
    do([still("a"), still("b"), film("c", "b")], tmp_path)
    do([still("a"), still("b", seed=2), film("c", "b"), still("d")], tmp_path)
    assert Counter(r.body["prompt"] for r in submits(hub) if "prompt" in r.body) == {
        "canary a": 1,
        "canary b": 2,
        "canary d": 1,
    }
    assert sum(r.body["model"] == "yt-video-2.0" for r in submits(hub)) == 2  # of another picture


def test_files_are_relative_to_the_manifest(hub, tmp_path, do, monkeypatch):
    picture = by_run([still("a")], tmp_path / "first")[0]["a"].result.files[0].path
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "a.png").write_bytes(picture.read_bytes())
    manifest = tmp_path / "shots.csv"
    manifest.write_text("模型,图片\nyt-video-2.0,refs/a.png\n", "utf-8")
    monkeypatch.chdir("/")
    found, _ = do(str(manifest), tmp_path / "out")
    assert set(states(found).values()) == {"done"}


def test_a_wrong_file_is_reported_before_anything_is_sent(hub, tmp_path, do):
    (tmp_path / "a.png").write_bytes(b"no picture")
    rows = [lite("a"), {"id": "b", "model": "yt-video-2.0", "image": str(tmp_path / "a.png")}]
    with pytest.raises(InvalidRequestError, match=r"row 2: image: .*no known type"):
        do(rows, tmp_path / "out")
    assert not hub.requests


def test_rows_that_need_a_failed_row_are_not_submitted(hub, tmp_path, do):
    hub.fail("job")
    found, shots = do([still("a"), still("b", images=["@a"]), film("c", "b")], tmp_path)
    assert states(found) == {"a": "failed", "b": "skipped", "c": "skipped"}
    assert "needs row 'a'" in str(found["b"].error)
    assert "needs row 'b'" in str(found["c"].error)
    assert len(submits(hub)) == 1
    assert shots.spent == 0


def test_rows_that_need_a_failed_row_are_reported_at_once(hub, tmp_path, do):
    hub.fail("refuse")
    chain = [still(str(n), images=[f"@{n - 1}"]) for n in range(1, 1500)]
    found, _ = do([still("0"), *chain, still("last")], tmp_path, in_flight=1)
    assert Counter(states(found).values()) == {"failed": 1, "skipped": 1499, "done": 1}
    assert list(found)[-1] == "last"


def test_a_failed_row_is_repeated_only_when_asked(hub, tmp_path, do):
    hub.fail("job")
    found, _ = do([still("a"), still("b")], tmp_path)
    (bad,) = [name for name, one in found.items() if one.state == "failed"]
    assert type(found[bad].error).__name__ == "JobBlockedError"
    again, _ = do([still("a"), still("b")], tmp_path)
    assert again[bad].state == "failed"
    assert "--retry-failed" in str(again[bad].error)
    assert type(again[bad].error).__name__ == "JobBlockedError"
    assert len(submits(hub)) == 2
    assert len(report(tmp_path)) == 2
    last, _ = do([still("a"), still("b")], tmp_path, retry_failed=True)
    assert set(states(last).values()) == {"done"}


def test_a_refused_row_costs_nothing_and_the_others_go_on(hub, tmp_path, do):
    hub.fail("refuse")
    found, shots = do([still("a"), still("b")], tmp_path, budget_cny=1.2)
    assert Counter(states(found).values()) == {"failed": 1, "done": 1}
    assert shots.spent == 1.2


def test_passing_trouble_is_repeated(hub, tmp_path, do):
    hub.fail("status", status=429, code="429002", times=3)
    assert states(do([still("a")], tmp_path, max_retries=0)[0]) == {"a": "done"}
    hub.fail("status", status=429, code="429002", times=4)
    found, shots = do([still("b")], tmp_path, max_retries=0)
    assert isinstance(found["b"].error, RateLimitError)
    assert shots.spent == 1.2
    assert states(do([still("b")], tmp_path)[0]) == {"b": "done"}  # nothing was refused for good
    assert len(hub.jobs) == 2


def test_what_may_have_been_charged_is_repeated_only_when_asked(hub, tmp_path, do):
    hub.fail("lost-answer")
    rows = [still("a"), still("b")]
    found, shots = do(rows, tmp_path)
    (lost,) = [name for name, one in found.items() if one.state == "unknown"]
    assert shots.unknown == 1
    assert shots.spent == 2.4
    for _ in range(2):
        assert "--again unknown" in str(found[lost].error)
        found, _ = do(rows, tmp_path)
        assert found[lost].state == "unknown"
    assert len(hub.jobs) == 2
    last, shots = do(rows, tmp_path, again="unknown")
    assert set(states(last).values()) == {"done"}
    assert len(hub.jobs) == 3
    assert round(shots.spent, 2) == 3.6
    assert set(states(do(rows, tmp_path, again="unknown")[0]).values()) == {"done"}
    assert len(hub.jobs) == 3


def test_the_budget_is_never_passed(hub, tmp_path, do):
    rows = [still(str(n)) for n in range(10)]
    found, shots = do(rows, tmp_path, budget_cny=5.0, in_flight=10)
    assert Counter(states(found).values()) == {"done": 4, "skipped": 6}
    assert (shots.spent, round(shots.left, 2)) == (4.8, 0.2)
    error = next(one.error for one in found.values() if one.error)
    assert isinstance(error, BudgetExceededError)
    assert "the budget of 5 CNY does not allow 1.2 CNY more" in str(error)
    more, shots = do(rows, tmp_path, budget_cny=7.2)
    assert Counter(states(more).values()) == {"done": 6, "skipped": 4}
    assert len(hub.jobs) == 6


def test_a_commit_whose_answer_is_lost_spends_once(hub, tmp_path, do, lossy):
    found, shots = do([still("a"), still("b"), lite("c")], tmp_path, budget_cny=5.0)
    assert {one.state for one in found.values()} == {"done"}
    assert len(submits(hub)) == 3
    assert shots.spent == pytest.approx(sum(one.cny for one in found.values()))
    assert lossy


def test_a_paid_row_is_collected_although_nothing_could_be_submitted(
    hub, tmp_path, do, monkeypatch
):
    hub.speed = 0
    found, _ = do([still("a")], tmp_path, wait_timeout=0.2)
    assert (states(found), len(hub.jobs)) == ({"a": "failed"}, 1)
    hub.speed = 1000
    hub.advance(1000)

    def refuse(_):
        raise InvalidRequestError("read-only", phase="not sent")

    monkeypatch.setattr(runner, "check_folder", refuse)
    found, _ = do([still("a")], tmp_path)
    assert (states(found), len(hub.jobs)) == ({"a": "done"}, 1)


def test_money_of_a_failed_row_goes_to_another(hub, tmp_path, do):
    hub.fail("job")
    found, _ = do([still("a"), still("b"), still("c")], tmp_path, budget_cny=2.4)
    assert Counter(states(found).values()) == {"done": 2, "failed": 1}


def test_money_that_is_given_back_before_a_row_is_put_aside_goes_to_it(
    hub, tmp_path, do, monkeypatch
):
    record_end, failure = Budget.record_end, asyncio.Event()

    async def late(self, key, token, error):
        if error is None and not token:  # the row over the budget
            await failure.wait()
        return await record_end(self, key, token, error)

    handle = driver.Driver._handle_failure

    def handle_first(*args):
        handle(*args)
        failure.set()

    monkeypatch.setattr(Budget, "record_end", late)
    monkeypatch.setattr(driver.Driver, "_handle_failure", handle_first)
    hub.fail("job")
    found, _ = do([still("a"), still("b")], tmp_path, budget_cny=1.2, in_flight=2)
    assert Counter(states(found).values()) == {"failed": 1, "done": 1}


def test_a_ledger_that_is_away_for_a_moment_does_not_stop_the_other_rows(
    hub, tmp_path, do, monkeypatch
):
    records, calls = Ledger.records, []

    async def fail_once(self, keys):
        calls.append(keys)
        if len(calls) == 2:
            raise InvalidRequestError("the ledger cannot be used", phase="not sent")
        return await records(self, keys)

    monkeypatch.setattr(Ledger, "records", fail_once)
    rows = [still("a"), film("b", "a"), still("c"), film("d", "c")]
    found, _ = do(rows, tmp_path, in_flight=1)
    assert states(found) == {"a": "done", "b": "failed", "c": "done", "d": "done"}
    assert states(do(rows, tmp_path)[0])["b"] == "done"


def test_jobs_in_flight_stay_within_the_quota(hub, tmp_path, do):
    rows = [{"id": str(n), "model": "hy-video-1.5", "prompt": f"{n}"} for n in range(24)]
    found, _ = do(rows, tmp_path, api_keys=KEYS)
    assert set(states(found).values()) == {"done"}
    assert len(submits(hub)) == 24  # none was refused by a full account
    keys = Counter(r.headers["authorization"] for r in submits(hub))
    assert set(keys) == {f"Bearer {key}" for key in KEYS}
    assert max(keys.values()) < 24


def test_a_key_that_is_refused_leaves_its_rows_to_the_others(hub, tmp_path, do):
    rows = [still(str(n)) for n in range(6)]
    found, _ = do(rows, tmp_path, api_keys=["wrong-key", KEYS[0]])
    assert set(states(found).values()) == {"done"}
    found, _ = do([still("x"), still("y")], tmp_path, api_keys=["wrong-key"])
    assert {type(one.error) for one in found.values()} == {AuthenticationError}
    found, shots = do([still("x"), still("y")], tmp_path, api_keys=[KEYS[1]])
    assert set(states(found).values()) == {"done"}
    assert round(shots.spent, 2) == round(8 * 1.2, 2)


def test_a_row_is_collected_with_the_key_that_submitted_it(hub, tmp_path, do):
    first, _ = do([still("a")], tmp_path, api_keys=[KEYS[0]])
    first["a"].result.files[0].path.unlink()
    found, _ = do([still("a")], tmp_path, api_keys=[KEYS[1]])
    assert isinstance(found["a"].error, AuthenticationError)
    assert found["a"].error.job.id == first["a"].result.job.id
    found, _ = do([still("a")], tmp_path, api_keys=KEYS[::-1])
    assert found["a"].result.files[0].path.is_file()
    assert len(submits(hub)) == 1
    polls = {r.headers["authorization"] for r in hub.requests if r.path.endswith("/query")}
    assert polls <= {f"Bearer {KEYS[0]}"}


def test_keys_come_from_a_file_or_the_environment(hub, tmp_path, do, monkeypatch):
    (tmp_path / "keys").write_text(f"# ours\n{KEYS[0]}\n\n{KEYS[1]}\n", "utf-8")
    do([still("a"), still("b")], tmp_path / "1", keys_file=tmp_path / "keys")
    monkeypatch.setenv("TOKENHUB_API_KEYS", " , ".join(KEYS))
    do([still("a"), still("b")], tmp_path / "2")
    assert {r.headers["authorization"] for r in submits(hub)} == {f"Bearer {key}" for key in KEYS}
    do([still("a")], tmp_path / "3", api_keys="one-key")
    assert submits(hub)[-1].headers["authorization"] == "Bearer one-key"
    monkeypatch.delenv("TOKENHUB_API_KEYS")
    monkeypatch.delenv("TOKENHUB_API_KEY")
    with pytest.raises(AuthenticationError):
        do([still("a")], tmp_path / "4")


def at_once(rows, out, number=3, **options):
    """Run the same rows in several drivers at once; return the states of each."""
    with ThreadPoolExecutor(number) as pool:
        ended = pool.map(lambda _: by_run(rows, out, **options)[0], range(number))
        return [Counter(states(found).values()) for found in ended]


def test_two_people_who_start_the_same_rows_pay_once(hub, tmp_path, database):
    rows = [still(str(n)) for n in range(12)]
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda out: by_run(rows, tmp_path / out, ledger=database)[0], "ab")
        assert [Counter(states(found).values()) for found in ended] == [{"done": 12}] * 2
    assert at_once(rows, tmp_path / "a", ledger=database) == [{"done": 12}] * 3
    assert len(hub.jobs) == 12


def test_drivers_at_once_do_not_pass_the_budget(hub, tmp_path, database):
    hub.fail("refuse", times=3)
    hub.fail("job", times=2)
    rows = [still(str(n)) for n in range(12)]
    at_once(rows, tmp_path, budget_cny=4.8, ledger=database)
    paid = sum(job.status != "failed" for job in hub.jobs.values())
    _, shots = by_run(rows, tmp_path, budget_cny=4.8, ledger=database)
    assert paid <= 4
    assert shots.spent == 4.8
    assert len(hub.jobs) == 4 + 2


def test_a_failed_job_is_given_back_to_the_run_that_paid(hub, tmp_path, database):
    backend, values = SqlBackend(database), ("key", 1.2, 2.0)
    paying, other = (Ledger(RowBackend(backend, name, *values), SyncRuntime()) for name in "ab")
    counts = [Counts(rows=1), Counts(rows=1)]
    budgets = [Budget(backend, SyncRuntime(), *one) for one in zip("ab", counts, strict=True)]
    for budget in budgets:
        run_sync(budget.open())
    run_sync(paying.claim(CALL))
    job = Job(kind="image", model="hy-image-v3.0", id="job-1")
    run_sync(paying.keep(job, CALL))
    run_sync(other.forget(job, CALL))
    for budget in budgets:
        run_sync(budget.refresh())
    assert [one.spent for one in counts] == [0, 0]


def lose_the_job(hub, do, out, **options):
    """Submit a row whose job the service forgets."""
    do([still("a")], out, wait_timeout=0.05, **options)
    hub.advance(1000)
    hub._jobs.clear()
    found, _ = do([still("a")], out, wait_timeout=0.05, **options)
    assert states(found) == {"a": "failed"}


@pytest.fixture
def slow_hub(hub, monkeypatch):
    """An emulator whose jobs take longer than a test waits, until its clock is advanced."""
    monkeypatch.setattr(service, "NEW_JOB_SECONDS", 0.0)
    with Emulator(speed=1) as slow:
        monkeypatch.setenv("TOKENHUB_BASE_URL", slow.url)
        yield slow


def test_a_row_whose_second_submit_is_lost_too_is_not_submitted_again(hub, tmp_path, do):
    hub.fail("lost-answer", times=1000)
    do([still("a")], tmp_path, api_keys=KEYS[:1])
    found, shots = do([still("a")], tmp_path, api_keys=KEYS[::-1], again="unknown")
    assert states(found) == {"a": "unknown"}
    assert (len(submits(hub)), shots.spent) == (2, 2.4)


def test_a_row_that_a_refused_key_would_submit_again_is_left_to_the_others(hub, tmp_path, do):
    hub.fail("lost-answer")
    do([still("a")], tmp_path, api_keys=KEYS[:1])
    found, shots = do([still("a")], tmp_path, api_keys=["wrong-key", KEYS[0]], again="unknown")
    assert states(found) == {"a": "done"}
    assert (len(hub.jobs), shots.spent) == (2, 2.4)


def test_a_driver_that_comes_second_with_another_key_collects_the_new_job(
    slow_hub, tmp_path, do, monkeypatch
):
    lose_the_job(slow_hub, do, tmp_path, api_keys=KEYS[:1])
    run_row, first = driver.Driver._run, []

    async def come_second(self, task, account):
        if not first:
            first.append(account)
            rows = ([still("a")], tmp_path)
            await asyncio.to_thread(
                by_run, *rows, wait_timeout=0.05, api_keys=KEYS[:1], retry_failed=True
            )
        return await run_row(self, task, account)

    monkeypatch.setattr(driver.Driver, "_run", come_second)
    do([still("a")], tmp_path, wait_timeout=0.05, api_keys=KEYS[::-1], retry_failed=True)
    assert len(submits(slow_hub)) == 2
    slow_hub.advance(1000)
    for options in ({}, {"retry_failed": True}):
        found, shots = do([still("a")], tmp_path, api_keys=KEYS, **options)
        assert states(found) == {"a": "done"}
    assert (len(submits(slow_hub)), shots.spent) == (2, 2.4)


def test_a_job_of_another_key_is_no_failure(slow_hub, tmp_path, do, monkeypatch):
    place = driver.Driver._dispatch

    def come_second(self, task, record):
        monkeypatch.setattr(driver.Driver, "_dispatch", place)
        by_run([still("a")], tmp_path, wait_timeout=0.05, api_keys=KEYS[:1])
        place(self, task, record)

    monkeypatch.setattr(driver.Driver, "_dispatch", come_second)
    found, _ = do([still("a")], tmp_path, wait_timeout=0.05, api_keys=KEYS[1:])
    assert isinstance(found["a"].error, AuthenticationError)
    slow_hub.advance(1000)
    assert states(do([still("a")], tmp_path, api_keys=KEYS)[0]) == {"a": "done"}
    assert len(submits(slow_hub)) == 1


def test_a_job_that_can_be_collected_later_is_not_submitted_again(hub, tmp_path, do):
    found, _ = do([still("a")], tmp_path)
    found["a"].result.files[0].path.unlink()
    expire_links(tmp_path)
    hub.fail("status", status=503, path="/v1/api/image/query", times=100)
    assert states(do([still("a")], tmp_path, max_retries=0)[0]) == {"a": "failed"}
    hub.recover()
    assert states(do([still("a")], tmp_path, retry_failed=True)[0]) == {"a": "done"}
    assert len(submits(hub)) == 1


def expire_links(out):
    with sqlite3.connect(out / "ledger.sqlite") as database:
        records = database.execute("SELECT key, record FROM tokenhub_calls").fetchall()
        for key, record in records:
            expired = re.sub('("expires_at": )"[^"]*"', r'\1"2020-01-01T00:00:00Z"', record)
            database.execute("UPDATE tokenhub_calls SET record = ? WHERE key = ?", (expired, key))
    database.close()


def test_an_unknown_submit_in_place_of_a_lost_job_stays_unknown(slow_hub, tmp_path, do):
    lose_the_job(slow_hub, do, tmp_path)
    slow_hub.fail("lost-answer")
    for options in ({"retry_failed": True}, {}, {"retry_failed": True}):
        found, _ = do([still("a")], tmp_path, wait_timeout=0.05, **options)
        assert states(found) == {"a": "unknown"}
    assert len(submits(slow_hub)) == 2


def test_a_refused_row_makes_room_for_others_also_if_it_was_submitted_before(hub, tmp_path, do):
    hub.fail("lost-answer")
    do([still("a")], tmp_path)
    hub.fail("refuse")
    rows = [still("a"), still("b")]
    found, shots = do(rows, tmp_path, again="unknown", budget_cny=2.4, in_flight=1)
    assert states(found) == {"a": "unknown", "b": "done"}
    assert shots.spent == 2.4


def row_ledger(backend):
    return Ledger(RowBackend(backend, "run", "key", 1.2, None), SyncRuntime())


def test_only_one_of_several_repeats_of_an_unknown_submit_is_claimed(database):
    backend = SqlBackend(database)
    first, *others = (row_ledger(backend) for _ in range(4))
    run_sync(first.claim(CALL))
    run_sync(first.mark_lost(CALL))
    planned = tuple(entry.token for entry in run_sync(first.record("key")))
    request = replace(CALL, again=True, replaced=planned)
    run_sync(others[0].claim(request))
    run_sync(others[0].mark_lost(request))
    for other in others[1:]:
        with pytest.raises(KnownCallError):
            run_sync(other.claim(request))


def test_a_job_is_recorded_although_its_claim_has_vanished(database):
    backend = SqlBackend(database)
    ledger_of_row, counts = row_ledger(backend), Counts(rows=1)
    budget = Budget(backend, SyncRuntime(), "run", counts)
    run_sync(budget.open())
    run_sync(ledger_of_row.claim(CALL))
    backend.run(lambda connection: connection.execute(CALLS.delete()))
    job = Job(kind="image", model="hy-image-v3.0", id="job-1")
    run_sync(ledger_of_row.keep(job, CALL))
    assert run_sync(ledger_of_row.record("key"))[0].job == job
    run_sync(budget.refresh())
    assert counts.spent == 1.2


@pytest.mark.soak  # waits of 20 s
def test_drivers_with_several_keys_count_each_job_once(hub, tmp_path, database):
    rows = [still(str(n)) for n in range(12)]
    assert at_once(rows, tmp_path, api_keys=KEYS, ledger=database) == [{"done": 12}] * 3
    _, shots = by_run(rows, tmp_path, api_keys=KEYS, ledger=database)
    assert (len(hub.jobs), shots.spent) == (12, 14.4)


def test_drivers_that_submit_unknown_rows_again_pay_once_more(hub, tmp_path, database):
    hub.fail("lost-answer", times=4)
    rows = [still(str(n)) for n in range(6)]
    by_run(rows, tmp_path, ledger=database)
    jobs = len(hub.jobs)
    unknown = sum(
        one.state == "unknown" for one in by_run(rows, tmp_path, ledger=database)[0].values()
    )
    at_once(rows, tmp_path, again="unknown", ledger=database)
    found, shots = by_run(rows, tmp_path, again="unknown", ledger=database)
    assert set(states(found).values()) == {"done"}
    assert len(hub.jobs) == jobs + unknown
    assert round(shots.spent, 2) == round(1.2 * (6 + unknown), 2)


def test_a_job_that_was_accepted_again_is_collected_and_not_paid_a_third_time(hub, tmp_path, do):
    hub.fail("lost-answer")
    do([still("a")], tmp_path)
    hub.fail("status", status=503, path="/v1/api/image/query", times=3)
    found, shots = do([still("a")], tmp_path, again="unknown", max_retries=0)
    assert states(found) == {"a": "done"}
    assert (len(hub.jobs), shots.spent) == (2, 2.4)


@pytest.mark.soak  # waits of 20 s
def test_nothing_more_is_submitted_while_files_cannot_be_saved(hub, tmp_path, do):
    hub.fail("status", status=500, path="/files", times=1000)
    rows = [still(str(n)) for n in range(9)]
    found, _ = do(rows, tmp_path, in_flight=1, max_retries=0)
    assert Counter(states(found).values()) == {"done": 1, "skipped": 8}
    assert "could not be saved" in str(next(one.error for one in found.values() if one.error))
    hub.recover()
    found, _ = do(rows, tmp_path)
    assert all(file.path for one in found.values() for file in one.result.files)
    assert len(hub.jobs) == 9


def test_a_disk_that_fills_up_after_a_submit_loses_no_job(hub, tmp_path, do, monkeypatch):
    check, checked = runner.check_folder, []

    def check_once(folder):
        checked.append(folder)
        if len(checked) > 1:
            raise InvalidRequestError("save_to: no space left", phase="not sent")
        check(folder)

    monkeypatch.setattr(runner, "check_folder", check_once)
    hub.fail("status", status=500, path="/files", times=1000)
    found, _ = do([still("a")], tmp_path, max_retries=0)
    assert (states(found), len(hub.jobs)) == ({"a": "done"}, 1)
    assert found["a"].result.job.id in hub.jobs


def test_a_run_stops_after_an_error_where_that_is_asked(hub, tmp_path, do):
    hub.fail("refuse")
    found, shots = do([still(str(n)) for n in range(5)], tmp_path, on_error="stop")
    assert Counter(states(found).values()) == {"failed": 1, "skipped": 4}
    assert shots.skipped == 4
    found, _ = do([still(str(n)) for n in range(5)], tmp_path, retry_failed=True)
    assert set(states(found).values()) == {"done"}


def leave_run(rows, out):
    shots = run(rows, out=out)
    for _ in shots:
        break
    return shots


def leave_arun(rows, out):
    async def leave():
        shots = arun(rows, out=out)
        async for _ in shots:
            break
        for _ in range(1000):  # asyncio closes the iterator in its next iterations
            await asyncio.sleep(0.01)
            if not asyncio.all_tasks() - {asyncio.current_task()}:
                return shots
        raise AssertionError("the rows still run")

    return asyncio.run(leave())


@pytest.mark.parametrize("leave", [leave_run, leave_arun])
def test_a_caller_that_breaks_ends_the_run_and_another_goes_on(hub, tmp_path, leave):
    """Although it still holds the run."""
    rows = [still(str(n)) for n in range(8)]
    shots = leave(rows, tmp_path)
    assert (len(hub.jobs) < 8, shots.done) == (True, 1)
    found, _ = by_run(rows, tmp_path)
    assert set(states(found).values()) == {"done"}
    assert len(submits(hub)) == 8


def wait_for_submit(hub):
    while not submits(hub):
        time.sleep(0.01)


def close_run(hub, rows, out):
    shots = run(rows, out=out)
    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(list, shots)
        wait_for_submit(hub)
        shots.close()
        return [*loop.result(), *shots]


def close_arun(hub, rows, out):
    async def collect(shots):
        return [one async for one in shots]

    async def close():
        shots = arun(rows, out=out)
        loop = asyncio.create_task(collect(shots))
        await asyncio.to_thread(wait_for_submit, hub)
        await shots.aclose()
        return [*await loop, *await collect(shots)]

    return asyncio.run(close())


@pytest.mark.parametrize("close", [close_run, close_arun])
def test_a_run_is_closed_while_another_iterates_over_it(hub, tmp_path, close):
    hub.speed = 0
    rows = [still(str(n)) for n in range(8)]
    assert close(hub, rows, tmp_path) == []
    assert len(hub.jobs) < 8


def test_a_run_that_was_closed_before_it_began_runs_nothing(hub, tmp_path):
    shots = run([still("a")], out=tmp_path)
    shots.close()
    assert list(shots) == []
    assert not hub.requests


def test_a_file_that_changes_under_way_is_not_submitted(hub, tmp_path, do, monkeypatch):
    picture = by_run([still("a")], tmp_path / "first")[0]["a"].result.files[0].path
    other = by_run([still("b")], tmp_path / "first")[0]["b"].result.files[0].path
    before = len(submits(hub))
    (tmp_path / "a.png").write_bytes(picture.read_bytes())
    rows = [{"id": "f", "model": "yt-video-2.0", "image": str(tmp_path / "a.png")}]
    placed = driver.Driver._dispatch

    def change(self, ready, entry):
        (tmp_path / "a.png").write_bytes(other.read_bytes())
        placed(self, ready, entry)

    monkeypatch.setattr(driver.Driver, "_dispatch", change)
    found, _ = do(rows, tmp_path / "out")
    assert "changed since" in str(found["f"].error)
    assert len(submits(hub)) == before


def test_no_key_is_anywhere_and_no_prompt_in_the_database(hub, tmp_path, do, caplog):
    caplog.set_level(logging.DEBUG)
    hub.fail("status", status=401, times=1)
    hub.fail("refuse", message=f"no: {KEYS[0]}")
    hub.fail("lost-answer")
    rows = [still(str(n)) for n in range(8)]
    found, shots = do(rows, tmp_path, api_keys=KEYS)
    assert "done" in states(found).values()
    database = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.sqlite*"))
    assert b"tokenhub_submits" in database
    assert b"canary" not in database
    texts = [caplog.text, repr(found), repr(shots), *(str(one.error) for one in found.values())]
    texts += [f.read_bytes().decode(errors="replace") for f in tmp_path.rglob("*") if f.is_file()]
    assert not any(key in text for key in KEYS for text in texts)


def test_a_torn_report_is_mended(hub, tmp_path, do):
    do([still("a")], tmp_path)
    with (tmp_path / "report.jsonl").open("a") as file:
        file.write('{"row": "b", "sta')
    do([still("a"), still("b")], tmp_path)
    lines = (tmp_path / "report.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["row"] for line in (lines[0], lines[-1])] == ["a", "b"]
    assert len(lines) == 3


def test_strange_files_in_the_folder_are_no_obstacle_or_a_clear_error(hub, tmp_path, do):
    (tmp_path / "report.jsonl").write_bytes(b'\xff\n5\n{"state": "done", "row": [], "job": {}}')
    assert states(do([still("a")], tmp_path)[0]) == {"a": "done"}
    (tmp_path / ".tokenhub-run").write_bytes(b"")
    with pytest.raises(InvalidRequestError, match="tokenhub-run' is damaged"):
        do([still("a")], tmp_path)
    (tmp_path / "out" / "report.jsonl").mkdir(parents=True)
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        do([still("a")], tmp_path / "out")
    assert len(hub.jobs) == 1


def test_a_database_that_cannot_be_used_is_reported_before_anything_is_sent(hub, tmp_path, do):
    with pytest.raises(InvalidRequestError, match="not the URL of a database"):
        do([still("a")], tmp_path, ledger=str(tmp_path / "folder"))
    (tmp_path / "file.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InvalidRequestError, match="ledger cannot be used") as caught:
        do([still("a")], tmp_path, ledger=f"sqlite:///{tmp_path / 'file.sqlite'}")
    assert (caught.value.phase, hub.requests) == ("not sent", [])


@pytest.mark.filterwarnings("ignore:.*in the ledger")
@pytest.mark.parametrize("ending", [None, "job"])
def test_an_error_of_the_ledger_after_a_submit_does_not_claim_that_nothing_was_sent(
    ending, hub, tmp_path, do, monkeypatch
):
    with CountingEmulator(speed=1000) as breaking:
        monkeypatch.setenv("TOKENHUB_BASE_URL", breaking.url)
        breaking.accepted = lambda _: (tmp_path / "ledger.sqlite").write_bytes(b"nothing" * 1000)
        if ending:
            breaking.fail(ending)
        with pytest.raises(InvalidRequestError, match="ledger cannot be used") as caught:
            do([still("a")], tmp_path)
        assert (caught.value.phase, len(breaking.jobs)) == (None, 1)


def test_wrong_settings_are_refused(hub, tmp_path, do):
    for wrong in (
        {"budget_cny": -1},
        {"budget_cny": float("nan")},
        {"in_flight": 0},
        {"on_error": "explode"},
        {"again": "all"},
        {"executor": "threads"},
        {"executor": object()},
        {"budget_cny": 1e30},
        {"in_flight": 1.5},
        {"price_cny": -1},
        {"price_cny": {"ep-1": float("nan")}},
        {"wait_timeout": -1},
        {"base_url": "nowhere"},
        {"api_keys": [None]},
        {"keys_file": "none.txt"},
        {"ledger": 5},
        {"budget": 5},
    ):
        with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
            do([still("a")], tmp_path, **wrong)
    assert not hub.requests


def test_an_entry_of_a_worker_that_may_still_wait_is_not_repeated(hub, tmp_path, do, monkeypatch):
    hub.fail("lost-answer")
    do([still("a")], tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        change = "UPDATE tokenhub_calls SET record = replace(record, ?, ?)"
        database.execute(change, ('"lost": true', '"lost": false'))
    database.close()
    monkeypatch.setattr(ledger, "OTHER_WORKER", 3600.0)
    found, _ = do([still("a")], tmp_path, again="unknown", wait_timeout=0.2)
    assert states(found) == {"a": "unknown"}
    assert len(submits(hub)) == 1


def test_without_sqlalchemy_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_tokenhub.jobs.ledger_sql", None)
    with pytest.raises(InvalidRequestError, match=r"langchain-tokenhub\[bulk\]"):
        run([still("a")], out=tmp_path, api_keys=KEYS)
    assert Path(tmp_path).is_dir()
