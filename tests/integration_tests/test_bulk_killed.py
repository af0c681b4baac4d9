"""A driver that is killed with SIGKILL at random: each row is paid once, or listed as unknown."""

from __future__ import annotations

import json
import os
import random
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
