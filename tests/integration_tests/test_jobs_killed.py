"""Six paid calls, each at another point when its process is killed with SIGKILL, then resumed.

They are made in six ways: by plain code, by a graph's node and by an agent, sync and async.

`killed_child.py` is the process; the emulator, in the tests' process, counts the submits.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")

CHILD = Path(__file__).with_name("killed_child.py")
RESUMED = ("before", "answered", "polled", "returned")
UNKNOWN = ("claimed", "sent")


def child(*words):
    return subprocess.run(
        [sys.executable, CHILD, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def submitted(hub):
    """Return the prompts of the submits that the service saw."""
    return sorted(r.body["prompt"] for r in hub.requests if r.path.endswith("/submit"))


def aged(record):
    whole = json.loads(record)
    for entry in whole["entries"]:
        entry["at"] = "2026-01-01T00:00:00+00:00"
    return json.dumps(whole)


def age(folder):
    """Let half a minute pass: until then another worker might still be waiting for an id."""
    for file in folder.glob("*/ledger/*.json"):
        file.write_text(aged(file.read_text("utf-8")), "utf-8")
    for file in folder.glob("*/ledger.db"):
        with closing(sqlite3.connect(file)) as opened, opened:
            opened.create_function("aged", 1, aged)
            opened.execute("UPDATE tokenhub_calls SET record = aged(record) WHERE record LIKE '{%'")


@pytest.fixture(params=["{}/ledger", "sqlite:///{}/ledger.db"], ids=["folder", "sqlite"])
def killed(request, hub, tmp_path):
    """Kill processes in the middle of their calls; return the results of those that go on."""
    first = child(tmp_path, request.param, "die")
    assert first.returncode == 0, first.stderr
    assert submitted(hub) == each("answered", "polled", "returned", "sent")
    age(tmp_path)
    second = child(tmp_path, request.param)
    assert second.returncode == 0, second.stderr
    return dict(map(json.loads, second.stdout.splitlines()))


def each(*prompts):
    """Return the prompts that are submitted in each of six ways."""
    return sorted(prompts * 6)


def test_killed_calls_go_on_and_none_is_paid_twice(hub, killed):
    assert submitted(hub) == each("answered", "before", "polled", "returned", "sent")
    assert len(killed) == 6
    for how, calls in killed.items():
        assert {point: hub.jobs[calls[point]["job"]].body["prompt"] for point in RESUMED} == {
            point: point for point in RESUMED
        }, how
        assert all(calls[point]["saved"] for point in RESUMED), how
        assert [calls[point]["error"] for point in UNKNOWN] == ["SubmissionUnknownError"] * 2, how
        assert all("may have been charged" in calls[point]["text"] for point in UNKNOWN), how
        assert all("again=True" in calls[point]["text"] for point in UNKNOWN), how
