"""Ctrl-C, once and twice, in every phase of a paid call: a real signal to a process of its own.

`interrupted_child.py` forks the processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")

CHILD = Path(__file__).with_name("interrupted_child.py")
STANDS = {"submit": "/v1/api/video/submit", "poll": "/v1/api/video/query", "save": "/files"}
"""Requests that are never answered."""


@pytest.fixture(scope="module")
def forks():
    """A process that has imported the package and forks."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, CHILD], **pipes) as process:
        yield process
        process.stdin.close()


class Child:
    """A fork that makes a call; it is killed where it has not ended by itself."""

    def __init__(self, forks, arguments):
        self.forks = forks
        forks.stdin.write(json.dumps(arguments) + "\n")
        forks.stdin.flush()
        self.pid = int(forks.stdout.readline())

    def interrupt(self):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, signal.SIGINT)

    def wait(self):
        timer = threading.Timer(30, os.kill, (self.pid, signal.SIGKILL))
        timer.start()
        assert self.forks.stdout.readline() == "ended\n"
        timer.cancel()


@pytest.fixture(params=["sync", "async"])
def child(request, forks, hub, tmp_path):
    """Start the process and return it when it has come to its phase."""

    def start(phase, grace=1):
        hub.speed = 1000 if phase == "save" else 0.001
        if phase in STANDS:
            hub.fail("hang", path=STANDS[phase])
        process = Child(forks, [hub.url, request.param, str(tmp_path), grace, phase == "progress"])
        path = STANDS.get(phase, STANDS["submit"])
        while not any(request.path.startswith(path) for request in hub.requests):
            time.sleep(0.01)
        while phase == "progress" and not (tmp_path / "still").exists():
            time.sleep(0.01)
        return process

    return start


def interrupted(process, folder, times):
    """Return the notes that are left, and the log."""
    for _ in range(times):
        time.sleep(0.2)  # signals that come at once are one
        process.interrupt()
    process.wait()
    return json.loads((folder / "notes").read_text("utf-8")), (folder / "log").read_text("utf-8")


def entries(folder):
    texts = [file.read_text("utf-8") for file in (folder / "ledger").glob("*.json")]
    return [entry for text in texts for entry in json.loads(text)["entries"]]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("phase", ["wait", "progress", "poll", "save"])
def test_ctrl_c_leaves_the_jobs_id_once(hub, child, tmp_path, phase, times):
    notes, _ = interrupted(child(phase), tmp_path, times)
    (job_id,) = hub.jobs
    assert sum(job_id in note for note in notes) == 1
    assert [entry["job"]["id"] for entry in entries(tmp_path)] == [job_id]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_during_a_submit_says_that_it_may_have_been_charged(hub, child, tmp_path, times):
    # a second Ctrl-C waits no longer: the process ends, although the grace does not
    notes, logged = interrupted(child("submit", grace=1 if times == 1 else 600), tmp_path, times)
    # after the second, asyncio shows nobody the task's own exception
    assert "may have been charged" in "".join(notes) or times == 2
    assert "may have been charged" in logged
    assert [(entry["job"], entry["lost"]) for entry in entries(tmp_path)] == [(None, False)]
