"""Jobs in flight, counted over processes: the service never has to refuse one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.jobs import places
from langchain_tokenhub.jobs.gate import Gate
from langchain_tokenhub.jobs.places import RedisPlaces
from langchain_tokenhub.tools import TokenHubVideoTool
from langchain_tokenhub.transport import SyncWire, finish

CHILD = Path(__file__).with_name("places_child.py")


@pytest.fixture
def redis_url(tmp_path):
    """A Redis of this test's own, on a socket file."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server: apt-get install redis-server")
    redis = pytest.importorskip("redis", reason="pip install redis")
    address = tmp_path / "r.sock"
    options = ["--port", "0", "--unixsocket", address, "--save", "", "--dir", tmp_path]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        client = redis.Redis(unix_socket_path=str(address))
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None
                time.sleep(0.01)
        client.close()
        yield f"unix://{address}"
        process.terminate()


@pytest.fixture(params=["folder", pytest.param("redis", marks=pytest.mark.needs_redis)])
def store(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return str(tmp_path / "places")


def child(*args):
    return subprocess.Popen([sys.executable, CHILD, *map(str, args)])


def submits(hub):
    return sum(r.path.endswith("/submit") for r in hub.requests)


def test_two_processes_together_have_no_more_jobs_than_the_account_may(hub, store):
    hub.speed = 10  # two seconds a job: those of both processes overlap
    with ExitStack() as stack:
        children = [stack.enter_context(child(face, store, 5, 6)) for face in ("sync", "async")]
    assert [process.returncode for process in children] == [0, 0]
    assert len(hub.jobs) == submits(hub) == 12


def test_a_process_that_dies_holds_no_place(hub, tmp_path):
    hub.speed = 0.001
    with child("sync", tmp_path, 1, 1, "die") as dead:
        pass
    assert dead.returncode == -9
    hub.advance(60000)  # its job ends
    hub.speed = 1000
    assert TokenHubVideoTool(in_flight_store=tmp_path, max_in_flight=1).generate(prompt="猫").files


def test_a_job_that_outlives_its_process_is_waited_out(hub, tmp_path):
    hub.speed = 10
    with child("sync", tmp_path, 5, 5, "die"):  # it dies with five jobs at the service
        pass
    assert len(hub.jobs) == 5
    assert TokenHubVideoTool(in_flight_store=tmp_path).generate(prompt="猫").files
    assert len(hub.jobs) == 6


@pytest.mark.needs_redis
def test_the_lease_of_a_dead_process_ends(redis_url, monkeypatch):
    monkeypatch.setattr(places, "LEASE", 0.2)
    shared = RedisPlaces(redis_url, "m")
    monkeypatch.setattr(places, "_renewer", Deaf)
    assert shared.take(1)
    assert shared.take(1) is None

    async def enter():
        async with Gate().place(SyncWire(), 1, 30, shared):
            pass

    finish(enter())


class Deaf:
    """Renews nothing, like a process that is no more."""

    def add(self, *_):
        pass

    discard = add


@pytest.mark.needs_redis
def test_a_lease_is_renewed_while_its_place_is_held(redis_url, monkeypatch):
    monkeypatch.setattr(places, "LEASE", 0.6)
    shared = RedisPlaces(redis_url, "m")
    held = shared.take(1)
    for _ in range(10):
        time.sleep(0.1)
        assert shared.take(1) is None
    shared.give(held)
    held = shared.take(1)
    assert held
    shared.give(held)


@pytest.mark.needs_redis
def test_a_redis_that_is_gone_is_told_before_anything_is_sent(hub, call):
    tool = TokenHubVideoTool(in_flight_store="redis://:secret-word@127.0.0.1:1/0")
    with pytest.raises(errors.InvalidRequestError, match="in_flight_store") as caught:
        call(tool, "generate", prompt="猫")
    assert "secret-word" not in f"{caught.value!r}{tool!r}"
    assert hub.requests == []
