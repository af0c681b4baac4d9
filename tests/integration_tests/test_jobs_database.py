"""A database as ledger: the same call pays once, whoever makes it and whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text

from langchain_tokenhub import errors, jobs
from langchain_tokenhub.jobs import ledger_sql
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.ledger_backends import backend_for
from langchain_tokenhub.jobs.ledger_sql import SqlBackend
from langchain_tokenhub.jobs.models import JobRequest
from langchain_tokenhub.tools import TokenHubToolkit, TokenHubVideoTool
from langchain_tokenhub.transport import AsyncRuntime
from tests.postgres import PASSWORD

SECRET = "postgresql://me:{0}@127.0.0.1:1/x?sslpassword={0}".format("db-canary")

CHILD = Path(__file__).with_name("same_call_child.py")


def submits(hub):
    return sum(request.path.endswith("/submit") for request in hub.requests)


def refused(call, tool, **params):
    with pytest.raises(errors.InvalidRequestError, match="ledger cannot be used") as caught:
        call(tool, "generate", prompt="猫", **params)
    assert caught.value.phase == "not sent"
    return caught.value


# --- one call -------------------------------------------------------------------------------------


def test_the_same_call_pays_once(hub, call, database):
    ids = {
        call(TokenHubVideoTool(ledger=database), "generate", prompt="猫").job.id for _ in range(3)
    }
    assert len(ids) == submits(hub) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_call_that_many_processes_make_at_once_is_paid_once(hub, database):
    command = [sys.executable, CHILD, database, "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(hub.jobs) * 6
    assert submits(hub) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_and_its_fork_use_one_database(hub, database):
    backend = backend_for(database)
    assert backend.replace("k", None, "parent")
    if (child := os.fork()) == 0:
        changed = backend.replace("k", "parent", "child")
        os._exit(0 if changed and backend.get("k") == "child" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert backend.replace("k", "child", None)
    assert backend.get("k") is None


def test_a_database_is_used_on_no_threads_loop(hub, database, monkeypatch):
    run, threads = SqlBackend.run, []

    def noting(self, work):
        threads.append(threading.current_thread())
        return run(self, work)

    monkeypatch.setattr(SqlBackend, "run", noting)
    from tests.conftest import asynchronous

    asynchronous(TokenHubVideoTool(ledger=database), "generate", prompt="猫")
    assert threads
    assert threading.current_thread() not in threads


def test_an_sqlite_file_is_the_users_alone_and_may_be_removed(hub, call, tmp_path):
    tool = TokenHubVideoTool(ledger=f"sqlite:///{tmp_path}/new/ledger.db")
    for prompt in "猫狗":
        call(tool, "generate", prompt=prompt)
        file = tmp_path / "new/ledger.db"
        assert file.stat().st_mode & 0o077 == 0
        file.unlink()


def test_a_relative_file_stays_the_same_when_the_process_changes_its_folder(
    hub, call, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tool = TokenHubVideoTool(ledger="sqlite:///ledger.db")
    monkeypatch.chdir("/")
    call(tool, "generate", prompt="猫")
    assert (tmp_path / "ledger.db").is_file()


# --- calls at once --------------------------------------------------------------------------------


def start(backend, *calls):
    """Start calls that wait for each other, and return their futures."""
    ready = threading.Event()
    first = backend.start_call(ready.wait)
    futures = [backend.start_call(call) for call in calls]
    ready.set()
    assert first.result(10)
    return futures


def test_a_call_that_fails_rolls_no_other_one_back(tmp_path):
    backend = SqlBackend(f"sqlite:///{tmp_path}/ledger.db")

    def fail():
        backend.replace("b", None, "b")
        raise ValueError("b")

    put = functools.partial
    calls = put(backend.replace, "a", None, "a"), fail, put(backend.replace, "c", None, "c"), fail
    first, second, third, fourth = start(backend, *calls)
    assert (first.result(10), third.result(10)) == (True, True)
    errors = [second.exception(10), fourth.exception(10)]
    assert [str(error) for error in errors] == ["b", "b"]
    assert errors[0].__context__ is errors[1].__context__ is None
    assert [backend.get(key) for key in "abc"] == ["a", None, "c"]


def test_a_call_that_cannot_be_started_is_not_run_later(tmp_path, monkeypatch):
    backend = SqlBackend(f"sqlite:///{tmp_path}/ledger.db")
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    group = ledger_sql._Group(threads)
    monkeypatch.setattr(ledger_sql, "_group", lambda *_: group)
    with pytest.raises(RuntimeError, match="shutdown"):
        backend.start_call(functools.partial(backend.replace, "a", None, "a"))
    group._threads = ThreadPoolExecutor(1)
    assert backend.start_call(lambda: backend.get("a")).result(10) is None


def test_a_call_of_a_group_uses_its_own_database(tmp_path):
    one, two = (SqlBackend(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two"))

    def both():
        return one.replace("a", None, "1") and two.replace("a", None, "2")

    assert one.start_call(both).result(10)
    assert (one.get("a"), two.get("a")) == ("1", "2")


def test_a_database_that_is_away_is_waited_for_a_few_times_only(tmp_path, monkeypatch):
    ready, attempts = threading.Event(), []

    def fail(_, work):
        ready.wait(10)
        attempts.append(work)
        raise OSError(0, "database is locked")

    backend = SqlBackend(f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setattr(SqlBackend, "run", fail)
    futures = [backend.start_call(object) for _ in range(20)]
    ready.set()
    assert all(isinstance(future.exception(10), OSError) for future in futures)
    assert len(attempts) <= 4  # the first call; all others; two of them


async def _cancelled_claim(database):
    keeper = Ledger(backend_for(database), AsyncRuntime())
    claim = asyncio.create_task(keeper.claim(JobRequest(body={}, key="key")))
    await asyncio.sleep(0.1)
    claim.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await claim
    return await keeper.record("key")


def test_a_claim_that_is_cancelled_during_its_commit_is_removed(database):
    engine = ledger_sql._engine(ledger_sql._parse_url(database), os.getpid())
    backend_for(database).replace("other", None, "{}")

    def wait(_):
        time.sleep(0.3)

    event.listen(engine, "commit", wait)
    try:
        assert asyncio.run(_cancelled_claim(database)) == ()
    finally:
        event.remove(engine, "commit", wait)


# --- a server that is away ------------------------------------------------------------------------


@pytest.mark.needs_postgres
def test_a_server_that_is_away_is_reported_before_money_is_spent(hub, call, postgres, caplog):
    caplog.set_level(0)
    tool = TokenHubVideoTool(ledger=postgres.url)
    postgres.stop()
    error = refused(call, tool)
    assert hub.requests == []
    assert "Connection refused" in str(error)
    assert PASSWORD not in f"{error!r}{error.__cause__!r}{error.__context__!r}{caplog.text}"


@pytest.mark.needs_postgres
def test_a_process_that_loses_its_network_in_a_transaction_holds_no_lock_for_long(postgres):
    limits = []
    ask = text("SHOW idle_in_transaction_session_timeout")
    also = lambda connection: limits.append(connection.scalar(ask))  # noqa: E731 - short
    assert SqlBackend(postgres.url).replace("key", None, "{}", also=also)
    assert limits == ["30s"]


@pytest.mark.needs_postgres
def test_a_wrong_password_is_reported_and_not_shown(hub, call, postgres):
    error = refused(call, TokenHubVideoTool(ledger=postgres.url.replace(PASSWORD, "db-canary")))
    assert "password authentication failed" in str(error)
    assert "db-canary" not in repr(error)
    assert hub.requests == []


@pytest.mark.needs_postgres
def test_a_server_that_was_restarted_is_used_again(hub, call, postgres):
    tool = TokenHubVideoTool(ledger=postgres.url)
    first = call(tool, "generate", prompt="猫")
    postgres.stop()
    postgres.start()
    assert call(tool, "generate", prompt="猫").job.id == first.job.id
    assert submits(hub) == 1


@pytest.fixture
def stopping(postgres, monkeypatch):
    """URL of a database that stops when the first job is about to be written."""
    replace, stopped = SqlBackend.replace, []

    def stop(self, key, old, new, links):
        if not stopped and new and '"job": {' in new:
            stopped.append(key)
            postgres.stop()
        return replace(self, key, old, new, links)

    monkeypatch.setattr(SqlBackend, "replace", stop)
    return postgres.url


@pytest.mark.needs_postgres
def test_a_server_that_stops_after_the_submit_loses_neither_id_nor_result(
    hub, call, postgres, stopping
):
    with pytest.warns(UserWarning, match="is not in the ledger"):
        result = call(TokenHubVideoTool(ledger=stopping), "generate", prompt="猫")
    assert result.files
    assert list(hub.jobs) == [result.job.id]


@pytest.mark.needs_postgres
def test_an_error_after_the_server_stopped_holds_the_id(hub, call, postgres, stopping):
    hub.speed = 0.001
    with (
        pytest.warns(UserWarning, match="is not in the ledger"),
        pytest.raises(errors.JobTimeoutError) as caught,
    ):
        call(TokenHubVideoTool(ledger=stopping, wait_timeout=0.2), "generate", prompt="猫")
    assert caught.value.job.id in hub.jobs


@pytest.mark.needs_postgres
def test_a_job_that_a_stopped_server_did_not_take_is_written_at_the_end(
    hub, call, postgres, stopping
):
    tool = TokenHubVideoTool(ledger=stopping, progress=lambda _: postgres.start())
    with pytest.warns(UserWarning, match="is not in the ledger"):
        made = call(tool, "generate", prompt="猫")
    again = call(TokenHubVideoTool(ledger=postgres.url), "generate", prompt="猫")
    assert again.job.id == made.job.id
    assert submits(hub) == 1


def test_a_file_that_is_no_database_is_reported_before_money_is_spent(hub, call, tmp_path):
    (tmp_path / "a.txt").write_text("no database " * 100)
    for place in ("a.txt", "a.txt/b.db", "."):
        refused(call, TokenHubVideoTool(ledger=f"sqlite:///{tmp_path}/{place}"))
    assert hub.requests == []


def test_a_change_that_was_made_before_its_connection_was_lost_is_known_as_made(
    hub, call, tmp_path, lossy
):
    tool = TokenHubVideoTool(ledger=f"sqlite:///{tmp_path}/ledger.db")
    made = call(tool, "generate", prompt="猫")
    assert call(tool, "generate", prompt="猫").job.id == made.job.id
    assert submits(hub) == 1
    assert len(lossy) > 3


# --- when the tool is made ------------------------------------------------------------------------

WRONG = [
    "mysql://me:db-canary@host/x",
    "postgresql+psycopg2://me:db-canary@host/x",
    "postgresql://me:db-canary@host:db-canary/x",
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///file:x?uri=true",
    "://",
]


@pytest.mark.parametrize("url", WRONG)
def test_a_database_that_cannot_be_used_is_reported_when_the_tool_is_made(url):
    with pytest.raises(errors.InvalidRequestError, match=r"postgresql\+psycopg://") as caught:
        TokenHubVideoTool(ledger=url)
    assert "sqlite:///" in str(caught.value)
    assert "db-canary" not in f"{caught.value!r}{caught.value.__context__!r}"
    with pytest.raises(errors.InvalidRequestError):
        TokenHubToolkit(options={"video": {"ledger": url}})


@pytest.mark.parametrize("url", ["postgresql://h/x", "postgres://h/x", "postgresql+psycopg://h/x"])
def test_postgresql_has_several_names(url):
    assert "postgresql+psycopg://h/x" in repr(TokenHubVideoTool(ledger=url).ledger)


@pytest.mark.parametrize("thing", [5, b"x", ["a"], object()])
def test_what_is_no_ledger_is_refused(thing):
    with pytest.raises(ValueError, match="neither a folder"):
        TokenHubVideoTool(ledger=thing)


def test_a_path_is_a_folder_whatever_its_name():
    assert isinstance(TokenHubVideoTool(ledger=Path("sqlite:///x")).ledger, Path)


@pytest.mark.parametrize(
    ("library", "url", "extra"),
    [("sqlalchemy", "sqlite:///x.db", "bulk"), ("psycopg", "postgresql://h/absent", "psycopg")],
)
def test_a_library_that_is_missing_is_reported_when_the_tool_is_made(
    monkeypatch, library, url, extra
):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "langchain_tokenhub.jobs.ledger_sql")
    monkeypatch.setattr(jobs, "ledger_sql", ledger_sql)  # restores what the import replaces
    with pytest.raises(errors.InvalidRequestError, match="pip install") as caught:
        TokenHubVideoTool(ledger=url)
    assert extra in str(caught.value)


def test_the_password_is_in_no_repr_pickle_or_error(hub, call):
    tool = TokenHubVideoTool(ledger=SECRET)
    toolkit = TokenHubToolkit(ledger=SECRET, options={"image": {"ledger": SECRET}})
    error = refused(call, tool)
    shown = f"{tool!r}{tool}{toolkit!r}{error!r}{tool.model_dump()}"
    assert "db-canary" not in shown
    for thing in (tool, toolkit, error):
        assert b"db-canary" not in pickle.dumps(thing)


def test_copies_of_a_tool_keep_its_database(hub, call, database):
    tool = TokenHubVideoTool(ledger=database)
    first = call(tool, "generate", prompt="猫")
    for twin in (copy.deepcopy(tool), TokenHubVideoTool(ledger=tool.ledger)):
        assert call(twin, "generate", prompt="猫").job.id == first.job.id


def test_an_unpickled_tool_finds_the_password_in_the_environment(hub, call, database, monkeypatch):
    tool = TokenHubVideoTool(ledger=database)
    first = call(tool, "generate", prompt="猫")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert call(pickle.loads(pickle.dumps(tool)), "generate", prompt="猫").job.id == first.job.id
