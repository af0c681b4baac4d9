"""Jobs in flight: so many and no more, in order, and nobody stays behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.gate import Gate
from langchain_tokenhub.transport import AsyncWire, SyncWire, finish
from tests.conftest import ScriptedWire


def test_tasks_and_threads_share_one_gate():
    gate, inside, most = Gate(), [], []
    lock = threading.Lock()

    async def work(wire):
        async with gate.place(wire, 3, 10):
            with lock:
                inside.append(1)
                most.append(len(inside))
            await wire.sleep(0.005)
            with lock:
                inside.pop()

    async def tasks():
        await asyncio.gather(*(work(AsyncWire()) for _ in range(20)))

    threads = [threading.Thread(target=finish, args=(work(SyncWire()),)) for _ in range(10)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()
    assert len(most) == 30
    assert max(most) == 3


async def test_places_are_given_in_order():
    gate, order = Gate(), []

    async def work(number):
        async with gate.place(AsyncWire(), 1, 10):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))


async def test_who_is_cancelled_leaves_the_queue():
    gate, wire = Gate(), AsyncWire()
    async with gate.place(wire, 1, 10):
        waiting = [asyncio.create_task(_enter(gate, wire)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait_for(_enter(gate, wire), 5)


async def _enter(gate, wire):
    async with gate.place(wire, 1, 10):
        pass


def test_a_queue_that_does_not_move_is_left_with_an_error(scripted_wire):
    gate = Gate()

    async def both():
        async with gate.place(scripted_wire, 1, 5), gate.place(scripted_wire, 1, 5):
            pass

    with pytest.raises(errors.RateLimitError, match="none was submitted"):
        finish(both())
    assert scripted_wire.slept == [5]
    finish(_enter(gate, scripted_wire))


def test_an_error_inside_gives_the_place_back():
    gate = Gate()

    async def fails():
        async with gate.place(SyncWire(), 1, 5):
            raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):  # noqa: PT011 - it is the test's own
            finish(fails())


@pytest.fixture
def scripted_wire():
    return ScriptedWire()


FORK = """
import os, threading
from langchain_tokenhub.jobs import schedule
from langchain_tokenhub.jobs.gate import shared_gate
from langchain_tokenhub.jobs.memory import shared_memory
from langchain_tokenhub.transport import SyncWire, finish


async def enter(work):
    async with shared_gate("account").place(SyncWire(), 1, 1):
        work()


def hold():
    with shared_memory("account")._lock, schedule.shared._lock:
        held.set()
        threading.Event().wait()


held = threading.Event()
schedule.shared.polling("site", 0.0, 0.01)
threading.Thread(target=finish, args=(enter(hold),), daemon=True).start()
held.wait()
if os.fork() == 0:
    finish(enter(lambda: None))
    shared_memory("account").jobs()
    print(schedule.shared.crowd("site"), flush=True)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_forked_child_waits_for_none_of_its_parents_jobs():
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("1.0\n", "")
