"""Rows of many jobs, and an emulator that counts what runs at one time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from langchain_tokenhub.testing import Emulator

KEYS = "sk-canary-one,sk-canary-two"
MODELS = {"hy-image-lite": 1, "hy-video-1.5": 5, "hy-3d-3.0": 3}
"""Models and their quotas."""


def still(name, **more):
    return {"id": name, "model": "hy-image-v3.0", "prompt": f"canary {name}", **more}


def film(name, source):
    return {"id": name, "model": "yt-video-2.0", "image": f"@{source}"}


def shots(number):
    return [
        {"id": f"{model}/{n}", "model": model, "prompt": f"canary {model} {n}"}
        for n in range(number // len(MODELS))
        for model in MODELS
    ]


class CountingEmulator(Emulator):
    """Refuses no job; records how many of a key and model ran at one time; calls `accepted`."""

    def __init__(self, **fields):
        super().__init__(quotas=False, **fields)
        self.most = Counter()
        self.accepted = lambda _number: None
        self._number = 0

    def accept(self, *args, **kwargs):
        job = super().accept(*args, **kwargs)
        jobs = self._in_flight[job.model, job.key]
        self._note(job.model, job.key, sum(one.progress < 100 for one in jobs))
        return job

    @contextmanager
    def drawing(self, row, model, key):
        with super().drawing(row, model, key):
            self._note(model, key, self._drawing[model, key])
            yield

    def _note(self, model, key, running):
        self.most[model, key] = max(self.most[model, key], running)
        self._number += 1
        self.accepted(self._number)


def child(hub, folder, how="", **environment):
    """Start a driver of many jobs; see bulk_child.py."""
    script = Path(__file__).parent / "integration_tests" / "bulk_child.py"
    return subprocess.Popen(
        [sys.executable, script, folder / "shots.jsonl", folder / "out", how],
        env=os.environ | {"TOKENHUB_BASE_URL": hub.url, "TOKENHUB_API_KEYS": KEYS} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def submits(hub):
    return [one for one in hub.requests if one.path.endswith(("/submit", "/lite"))]


def summary(process, seconds=240):
    """Return what a child printed last as JSON; Ray prints there too."""
    lines = process.communicate(timeout=seconds)[0].splitlines()
    return json.loads([line for line in lines if line.startswith("{")][-1])


def write(folder, rows):
    (folder / "shots.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")


def check_paid_once(hub, rows, states):
    """Each row is done and was submitted once, or is unknown; return the ids of the latter."""
    unknown = {row for row, state in states.items() if state == "unknown"}
    assert set(states.values()) <= {"done", "unknown"}, states
    paid = Counter(one.body["prompt"] for one in submits(hub))
    for row in rows:  # a row may be claimed and not yet sent when its process is killed
        assert paid[row["prompt"]] == 1 or (row["id"] in unknown and not paid[row["prompt"]])
    assert all(most <= MODELS[model] for (model, _), most in hub.most.items()), hub.most
    return unknown
