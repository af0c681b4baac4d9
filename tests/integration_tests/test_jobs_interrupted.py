"""Ctrl-C, once and twice, in every phase of a paid call: a real signal to a process of its own.

`interrupted_child.py` is the process.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")

CHILD = Path(__file__).with_name("interrupted_child.py")
STANDS = {"submit": "/v1/api/video/submit", "poll": "/v1/api/video/query", "save": "/files"}
"""Requests that are never answered."""


@pytest.fixture(params=["sync", "async"])
def child(request, hub, tmp_path):
    """Start the process and return it when it has come to its phase."""
    started = []

    def start(phase, grace=1):
        hub.speed = 1000 if phase == "save" else 0.001
        if phase in STANDS:
            hub.fail("hang", path=STANDS[phase])
        more = ["tell"] * (phase == "tell")
        command = [sys.executable, CHILD, request.param, tmp_path, str(grace), *more]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        if phase == "tell":
            assert process.stdout.readline() == "here\n"
        while not any(r.path.startswith(STANDS.get(phase, STANDS["submit"])) for r in hub.requests):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupted(process, times):
    """Return the notes that are left, and what was logged."""
    for _ in range(times):
        time.sleep(0.2)  # signals that come at once are one
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return json.loads(out), err


def entries(folder):
    return [json.loads(file.read_text("utf-8")) for file in (folder / "ledger").glob("*.json")]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("phase", ["wait", "tell", "poll", "save"])
def test_ctrl_c_leaves_the_jobs_id_once(hub, child, tmp_path, phase, times):
    notes, _ = interrupted(child(phase), times)
    (job_id,) = hub.jobs
    assert sum(job_id in note for note in notes) == 1
    assert [entry["job"]["id"] for entry in entries(tmp_path)] == [job_id]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_during_a_submit_says_that_it_may_have_been_charged(hub, child, tmp_path, times):
    # a second Ctrl-C waits no longer: the process ends, although the grace does not
    notes, logged = interrupted(child("submit", grace=1 if times == 1 else 600), times)
    # after the second, asyncio shows nobody the task's own exception
    assert "may have been charged" in "".join(notes) or times == 2
    assert "may have been charged" in logged
    assert [entry["state"] for entry in entries(tmp_path)] == ["submitting"]
