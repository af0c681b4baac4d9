"""A driver that is killed with SIGKILL at random: each row is paid once, or listed as unknown."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.bulk_jobs import (
    CountingEmulator,
    check_paid_once,
    child,
    shots,
    submits,
    summary,
    write,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")


@pytest.mark.parametrize(
    ("kills", "number"), [(3, 36), pytest.param(10, 120, marks=pytest.mark.soak)]
)
def test_a_driver_that_is_killed_pays_each_row_once(tmp_path, kills, number):
    rows = shots(number)
    write(tmp_path, rows)
    with CountingEmulator(speed=60) as hub:
        for _ in range(kills):
            process = child(hub, tmp_path)
            process.stdout.readline()
            time.sleep(random.uniform(0.3, 1.1))
            process.kill()
            process.communicate()
        unknown = check_paid_once(hub, rows, summary(child(hub, tmp_path))["states"])
        again = summary(child(hub, tmp_path, "again"))
        assert again["count"] == {"done": len(rows)}
        assert len(submits(hub)) <= len(rows) + len(unknown)
    for file in filter(Path.is_file, (tmp_path / "out").rglob("*")):
        assert b"sk-canary" not in file.read_bytes()
    assert b"canary hy" not in (tmp_path / "out" / "ledger.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("method", "state", "jobs"),
    [("claim", "unknown", 0), ("", "unknown", 1), ("keep", "done", 1), ("update", "done", 1)],
)
def test_a_row_counts_once_wherever_its_driver_is_killed(tmp_path, method, state, jobs):
    write(tmp_path, shots(3)[1:2])
    with CountingEmulator(speed=60) as hub:
        killed = child(hub, tmp_path, method)
        if not method:  # between the answer and its record
            hub.accepted = lambda _: killed.kill()
        killed.communicate()
        assert (killed.returncode, len(hub.jobs)) == (-signal.SIGKILL, jobs)
        ended = summary(child(hub, tmp_path))
        assert (list(ended["states"].values()), ended["spent"]) == ([state], 1.8)
        assert len(hub.jobs) == jobs
        again = summary(child(hub, tmp_path, "again"))
        is_paid_again = state == "unknown"
        assert (again["count"], again["spent"]) == ({"done": 1}, 3.6 if is_paid_again else 1.8)
        assert len(hub.jobs) == jobs + is_paid_again
