"""A driver that is killed with SIGKILL at random: each row is paid once, or listed as unknown."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.bulk_jobs import KEYS, MODELS, CountingEmulator, shots

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")

CHILD = Path(__file__).with_name("bulk_child.py")


def child(hub, folder, *more):
    environment = os.environ | {"TOKENHUB_BASE_URL": hub.url, "TOKENHUB_API_KEYS": KEYS}
    return subprocess.Popen(
        [sys.executable, CHILD, folder / "shots.jsonl", folder / "out", *more],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def last_words(process):
    return json.loads(process.communicate(timeout=120)[0].splitlines()[-1])


def submits(hub):
    paid = [one for one in hub.requests if one.path.endswith(("/submit", "/lite"))]
    return Counter(one.body["prompt"] for one in paid)


@pytest.mark.parametrize(
    ("kills", "number"), [(3, 36), pytest.param(10, 120, marks=pytest.mark.soak)]
)
def test_a_driver_that_is_killed_pays_each_row_once(tmp_path, kills, number):
    rows = shots(number)
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "shots.jsonl").write_text(text, "utf-8")
    with CountingEmulator(speed=60) as hub:
        for _ in range(kills):
            process = child(hub, tmp_path)
            process.stdout.readline()
            time.sleep(random.uniform(0.3, 1.1))
            process.kill()
            process.communicate()
        ended = last_words(child(hub, tmp_path))
        unknown = {row for row, state in ended["states"].items() if state == "unknown"}
        assert set(ended["states"].values()) <= {"done", "unknown"}
        for row in rows:
            paid = submits(hub)[row["prompt"]]
            assert paid == 1 or (row["id"] in unknown and paid == 0)
        assert all(most <= MODELS[model] for (model, _), most in hub.most.items())
        again = last_words(child(hub, tmp_path, "again"))
        assert again["count"] == {"done": len(rows)}
        assert sum(submits(hub).values()) <= len(rows) + len(unknown)
    for file in filter(Path.is_file, (tmp_path / "out").rglob("*")):
        assert b"sk-canary" not in file.read_bytes()
    assert b"canary hy" not in (tmp_path / "out" / "ledger.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("method", "state", "jobs"),
    [("claim", "unknown", 0), ("keep", "done", 1), ("update", "done", 1)],
)
def test_a_row_counts_once_wherever_its_driver_is_killed(tmp_path, method, state, jobs):
    (tmp_path / "shots.jsonl").write_text(json.dumps(shots(3)[1]), "utf-8")
    with CountingEmulator(speed=60) as hub:
        killed = child(hub, tmp_path, method)
        killed.communicate()
        assert (killed.returncode, len(hub.jobs)) == (-signal.SIGKILL, jobs)
        ended = last_words(child(hub, tmp_path))
        assert (list(ended["states"].values()), ended["spent"]) == ([state], 1.8)
        again = last_words(child(hub, tmp_path, "again"))
        assert (again["count"], again["spent"]) == ({"done": 1}, 1.8 if jobs else 3.6)
        assert len(hub.jobs) == 1


def test_a_driver_that_is_killed_between_answer_and_record_lists_its_row(tmp_path):
    (tmp_path / "shots.jsonl").write_text(json.dumps(shots(3)[1]), "utf-8")
    with CountingEmulator(speed=60) as hub:
        killed = child(hub, tmp_path)
        hub.accepted = lambda _: killed.kill()
        killed.communicate()
        ended = last_words(child(hub, tmp_path))
        assert (list(ended["states"].values()), ended["spent"], len(hub.jobs)) == (
            ["unknown"],
            1.8,
            1,
        )
