"""Places that processes share, in a folder: so many and no more, and the dead hold none."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.gate import Gate
from langchain_tokenhub.jobs.places import Claim, FolderPlaces, places_of
from langchain_tokenhub.transport import AsyncWire, SyncWire, finish
from tests.conftest import ScriptedWire


@pytest.fixture
def places(tmp_path):
    return FolderPlaces(tmp_path / "places", "hy-video-1.5-0")


async def enter(gate, wire, places, most=1, patience=5.0):
    async with gate.place(wire, most, patience, places):
        pass


def test_there_are_so_many_places_and_no_more(places):
    held = [places.take(2) for _ in range(3)]
    assert held[2] is None
    places.give(held[0])
    again = places.take(2)
    assert again is not None
    for place in (held[1], again):
        places.give(place)


def test_two_gates_share_their_places(places):
    wire = ScriptedWire()

    async def both():
        async with Gate().place(wire, 1, 5, places):
            await enter(Gate(), wire, places)

    with pytest.raises(errors.RateLimitError, match="none was submitted"):
        finish(both())
    assert 5 <= sum(wire.slept) < 7
    finish(enter(Gate(), wire, places))


def test_a_queue_that_moves_elsewhere_is_waited_in(places):
    wire, gate = ScriptedWire(), Gate()
    held = [places.take(1)]
    sleeping = wire.sleep

    async def sleep(seconds):
        await sleeping(seconds)
        places.give(held.pop())
        if sum(wire.slept) < 20:
            held.append(places.take(1))

    wire.sleep = sleep
    finish(enter(gate, wire, places, patience=5))
    assert sum(wire.slept) > 20
    assert gate.moves > 10


async def test_who_is_cancelled_wants_no_place_any_more(places):
    wire, held = AsyncWire(), places.take(1)
    waiting = [asyncio.create_task(enter(Gate(), wire, places)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    places.give(held)
    await asyncio.wait_for(enter(Gate(), wire, places), 5)


def test_a_place_that_comes_too_late_goes_back(places):
    claim = Claim(places, 1)
    claim.give()
    assert claim.take() is False
    finish(enter(Gate(), SyncWire(), places))


FORKS = """
import os, sys
from pathlib import Path
from langchain_tokenhub.jobs.places import FolderPlaces

places = FolderPlaces(Path(sys.argv[1]), "m")
held = places.take(1)
ready, go = os.pipe()
if os.fork() == 0:
    os.write(go, b".")
    sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
os.close(held)  # as the parent's death would, without an unlock
print(places.take(1) is not None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_child_holds_nothing_of_its_parents(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "True\n"


def test_a_folder_that_cannot_be_is_told_before_anything_is_sent(tmp_path):
    (tmp_path / "file").write_text("")
    places = places_of(tmp_path / "file", "sk-1", "m", ["https://a.test"])
    with pytest.raises(errors.InvalidRequestError, match="in_flight_store") as caught:
        finish(enter(Gate(), SyncWire(), places))
    assert caught.value.phase == "not sent"


def test_accounts_models_and_sites_are_told_apart_and_no_key_is_written(tmp_path):
    def name(account="sk-canary", model="hy-video-1.5", site="https://a.test"):
        place = (found := places_of(tmp_path, account, model, [site])).take(1)
        found.give(place)
        return {file.name for file in tmp_path.iterdir()}

    for change in ({}, {"account": "sk-2"}, {"model": "m"}, {"site": "https://b.test"}):
        names = name(**change)
    assert len(names) == 4
    assert not any("canary" in one for one in names)


WINDOWS = """
import errno, itertools, os, sys, types
from pathlib import Path

sys.modules["fcntl"] = None
import langchain_tokenhub.tools
from langchain_tokenhub.jobs.places import FolderPlaces

locked, ticks = {}, itertools.count(1)
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK, msvcrt.LK_UNLCK = 2, 0


def locking(handle, mode, count):
    file = os.fstat(handle).st_ino
    assert os.lseek(handle, 0, os.SEEK_CUR) == 0
    if mode == msvcrt.LK_UNLCK:
        assert locked.pop(file) == handle
    elif locked.setdefault(file, handle) != handle:
        raise PermissionError(errno.EACCES, "Permission denied")


def utime(file, by_name=os.utime):
    if isinstance(file, int):
        raise TypeError("utime: path should be string, bytes or os.PathLike, not int")
    by_name(file, ns=(0, next(ticks)))


msvcrt.locking, sys.modules["msvcrt"], os.utime, sys.platform = locking, msvcrt, utime, "win32"
places = FolderPlaces(Path(sys.argv[1]), "m")
held = [places.take(2) for _ in range(3)]
assert held[2] is None and None not in held[:2]
before = places.moves()
places.give(held[0])
assert places.moves() != before
assert places.take(2) is not None
print("good")
"""


def test_windows_locks_are_taken_and_given_back_as_its_interface_says(tmp_path):
    command = [sys.executable, "-c", WINDOWS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_a_folder_without_locks_is_told_before_anything_is_sent_and_leaks_nothing(
    tmp_path, monkeypatch
):
    def unlockable(_handle, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unlockable)
    opened, closed = [], []
    opening, closing = os.open, os.close
    monkeypatch.setattr(os, "open", lambda *args: opened.append(opening(*args)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda handle: closed.append(handle) or closing(handle))
    places = FolderPlaces(tmp_path, "m")
    with pytest.raises(errors.InvalidRequestError, match="No locks available"):
        finish(enter(Gate(), SyncWire(), places))
    assert opened
    assert closed == opened
