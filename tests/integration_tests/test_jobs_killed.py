"""Six paid calls, each at another point when its process is killed with SIGKILL, then resumed.

`killed_child.py` is the process. The emulator, which is here, counts what was submitted.
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
HOW = ["plain-sync", "plain-async", "node-sync", "node-async", "agent-sync", "agent-async"]
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
    return json.dumps({**json.loads(record), "at": "2026-01-01T00:00:00+00:00"})


def age(folder):
    """Let half a minute pass: until then another worker might still be waiting for an id."""
    for file in (folder / "ledger").glob("*.json"):
        file.write_text(aged(file.read_text("utf-8")), "utf-8")
    if (folder / "ledger.db").exists():
        with closing(sqlite3.connect(folder / "ledger.db")) as opened, opened:
            opened.create_function("aged", 1, aged)
            opened.execute("UPDATE tokenhub_calls SET record = aged(record) WHERE record LIKE '{%'")


@pytest.fixture(params=["ledger", "sqlite:///ledger.db"], ids=["folder", "sqlite"])
def ledger(request, tmp_path):
    scheme, separator, name = request.param.rpartition("///")
    return f"{scheme}{separator}{tmp_path / name}"


@pytest.fixture(params=HOW)
def killed(request, hub, tmp_path, ledger):
    """Kill a process in the middle of its calls, and return what the next one makes of them."""
    first = child(request.param, tmp_path, ledger, "die")
    assert first.returncode == -9, first.stderr
    assert submitted(hub) == ["answered", "polled", "returned", "sent"]
    age(tmp_path)
    second = child(request.param, tmp_path, ledger)
    assert second.returncode == 0, second.stderr
    return json.loads(second.stdout)


def test_killed_calls_go_on_and_none_is_paid_twice(hub, killed):
    assert submitted(hub) == ["answered", "before", "polled", "returned", "sent"]
    assert {point: hub.jobs[killed[point]["job"]].body["prompt"] for point in RESUMED} == {
        point: point for point in RESUMED
    }
    assert all(killed[point]["saved"] for point in RESUMED)
    assert [killed[point]["error"] for point in UNKNOWN] == ["SubmissionUnknownError"] * 2
    assert all("may have been charged" in killed[point]["text"] for point in UNKNOWN)
    assert all("again=True" in killed[point]["text"] for point in UNKNOWN)
