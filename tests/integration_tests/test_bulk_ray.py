"""Many jobs on a Ray cluster whose workers, nodes, database and driver are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.bulk import arun, driver, run
from langchain_tokenhub.jobs.ledger import read_entries
from langchain_tokenhub.jobs.ledger_sql import CALLS, SqlBackend
from tests.bulk_jobs import (
    KEYS,
    CountingEmulator,
    check_paid_once,
    child,
    shots,
    submits,
    summary,
    write,
)
from tests.postgres import PASSWORD

pytestmark = [
    pytest.mark.needs_ray,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there"),
    pytest.mark.filterwarnings("default"),  # Ray has some of its own
]
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")

PICTURE = "@hy-image-lite/0"
ROWS = [*shots(3), {"id": "film", "model": "hy-video-1.5", "prompt": "f", "image": PICTURE}]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
ENVIRONMENT = {
    "TOKENHUB_API_KEYS": KEYS,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
}


@pytest.fixture(scope="module")
def environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(scope="module")
def cluster(environment):
    """A cluster of one node; tests add others."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    environment.setenv("RAY_ADDRESS", made.address)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def nodes(cluster):
    """Three nodes."""
    more = [cluster.add_node(**NODE) for _ in range(2)]
    yield cluster
    for node in set(more) & set(cluster.worker_nodes):
        cluster.remove_node(node)


def workers():
    """Return the ids of the Ray workers among the descendants of this process."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )

    def is_ours(pid):
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return [pid for pid, name in names.items() if name.startswith(b"ray::Worker") and is_ours(pid)]


def kill_worker():
    if found := workers():
        with suppress(ProcessLookupError):
            os.kill(random.choice(found), signal.SIGKILL)


def logs(cluster):
    folder = Path(cluster.head_node.get_session_dir_path())
    for file in filter(Path.is_file, folder.rglob("*")):
        yield file, file.read_bytes()


@pytest.mark.needs_postgres
def test_rows_are_paid_once_although_a_worker_and_the_driver_are_killed(tmp_path, postgres, nodes):
    rows = shots(18)
    write(tmp_path, rows)
    with CountingEmulator(speed=60) as hub:
        process = child(hub, tmp_path, LEDGER=postgres.url)
        kills = {4: kill_worker, 9: process.kill}
        hub.accepted = lambda number: kills.pop(number, lambda: None)()
        process.communicate(timeout=120)
        assert not kills
        ended = summary(child(hub, tmp_path, LEDGER=postgres.url))
        unknown = check_paid_once(hub, rows, ended["states"])
        assert summary(child(hub, tmp_path, "again", LEDGER=postgres.url))["count"] == {"done": 18}
        assert len(submits(hub)) <= len(rows) + len(unknown)
    for file, text in logs(nodes):
        found = [word for word in (b"sk-canary", b"canary hy", PASSWORD.encode()) if word in text]
        assert not found, (file, found)
    for file in filter(Path.is_file, (tmp_path / "out").rglob("*")):
        assert b"sk-canary" not in file.read_bytes()
    records = SqlBackend(postgres.url).run(lambda c: c.execute(CALLS.select()).all())
    assert "sk-canary" not in str(records)
    assert "canary hy" not in str(records)


@pytest.fixture
def hub(cluster, monkeypatch):
    with CountingEmulator(speed=200) as made:
        monkeypatch.setenv("TOKENHUB_BASE_URL", made.url)  # the nodes do not have it
        yield made


def test_one_node_needs_no_database_server(hub, tmp_path):
    ended = list(run(ROWS, out=tmp_path, executor="ray"))
    assert [one.state for one in ended] == ["done"] * 4, ended
    assert all(file.path.parent == tmp_path for one in ended for file in one.result.files)
    again = list(run(ROWS, out=tmp_path, executor="ray"))
    assert [one.state for one in again] == ["done"] * 4
    assert len(hub.jobs) == 3
    assert len(submits(hub)) == 4


def test_several_nodes_cannot_share_a_file_as_ledger(hub, nodes, tmp_path):
    with pytest.raises(errors.InvalidRequestError, match=r"nodes .* cannot share; .*postgresql"):
        list(run(shots(3), out=tmp_path, executor="ray"))
    assert not hub.requests


def test_the_driver_saves_what_a_node_cannot(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "run_id", lambda _out: "a folder of another machine")
    ended = list(run(ROWS, out=tmp_path, executor="ray"))
    assert [one.state for one in ended] == ["done"] * 4, ended
    files = [file for one in ended for file in one.result.files]
    assert all(file.path.is_file() for file in files)
    assert {path.name for path in tmp_path.glob("*.mp4")} == {
        file.path.name for file in files if file.type == "mp4"
    }
    assert len(submits(hub)) == 4


def test_bytes_need_a_folder_that_the_node_sees(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "run_id", lambda _out: "a folder of another machine")
    row = {"model": "hy-image-lite", "prompt": "x", "rsp_img_type": "base64"}
    (ended,) = run([row], out=tmp_path, executor="ray")
    assert "on node" in str(ended.error)
    assert not hub.requests


def test_a_worker_with_another_version_runs_nothing(hub, tmp_path, monkeypatch):
    from langchain_tokenhub.bulk import ray_executor

    own = ray_executor.__version__
    monkeypatch.setattr(ray_executor, "__version__", "0.0.1")
    ended = list(run(shots(3), out=tmp_path, executor="ray"))
    assert all(f"is {own} on node" in str(one.error) for one in ended), ended
    assert all("0.0.1 in the driver" in str(one.error) for one in ended)
    assert not hub.requests
    monkeypatch.setattr(ray_executor, "__version__", own)
    again = list(run(shots(3), out=tmp_path, executor="ray"))
    assert [one.state for one in again] == ["done"] * 3


def test_a_worker_finds_the_key_itself(hub, tmp_path):
    rows = shots(3)
    other = list(run(rows, out=tmp_path, executor="ray", api_keys=["sk-canary-unknown"]))
    assert all("is not given" in str(one.error) for one in other), other
    assert all("on node" in str(one.error) for one in other)
    file = tmp_path / "keys"
    file.write_text("sk-canary-three\n")
    ended = list(run(rows, out=tmp_path, executor="ray", keys_file=file))
    assert [one.state for one in ended] == ["done"] * 3, ended
    assert {key for _, key in hub.most} == {"sk-canary-three"}


async def test_a_run_that_is_stopped_ends_its_submits(hub, tmp_path):
    begun = threading.Event()

    def slow(_number):
        begun.set()
        time.sleep(0.5)  # the answer comes after the interruption

    hub.accepted = slow
    shown = arun(shots(6)[1::3], out=tmp_path, executor="ray")
    first = asyncio.create_task(anext(aiter(shown)))
    assert await asyncio.to_thread(begun.wait, 60)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await shown.aclose()
    records = SqlBackend(f"sqlite:///{tmp_path}/ledger.sqlite").texts()
    known = [entry.job.id for entry in read_entries(records)]
    assert sorted(known) == sorted(hub.jobs)


def test_ray_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_tokenhub.bulk.ray_executor", None)
    with pytest.raises(errors.InvalidRequestError, match=r"langchain-tokenhub\[ray\]"):
        run(shots(3), out=tmp_path, executor="ray", api_keys=["k"])


@contextmanager
def every(seconds, work):
    """Call a function again and again while the block runs."""
    ended = threading.Event()

    def repeat():
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.soak
@pytest.mark.needs_postgres
def test_120_rows_are_paid_once_whatever_is_killed(tmp_path, postgres, nodes):
    rows = shots(120)
    write(tmp_path, rows)
    driver = []

    def kill_driver():
        driver[-1].kill()

    def restart():
        postgres.stop()
        postgres.start()

    with CountingEmulator(speed=20) as hub:
        events = {
            30: lambda: nodes.remove_node(next(iter(nodes.worker_nodes))),
            50: restart,
            70: kill_driver,
        }
        hub.accepted = lambda number: threading.Thread(target=events.pop(number, int)).start()
        with every(2, kill_worker):
            for _ in range(5):
                driver.append(child(hub, tmp_path, LEDGER=postgres.url))
                if driver[-1].wait(600) == 0:  # else it was killed, or its database was away
                    break
        assert not events
        unknown = check_paid_once(hub, rows, summary(driver[-1])["states"])
        again = summary(child(hub, tmp_path, "again", LEDGER=postgres.url))
        assert again["count"] == {"done": 120}
        assert len(submits(hub)) <= 120 + len(unknown)
    print(len(unknown), "unknown;", dict(hub.most))
