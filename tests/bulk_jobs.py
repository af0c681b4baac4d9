"""Rows of many jobs, and an emulator that counts what runs at one time."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

from langchain_tokenhub.testing import Emulator

KEYS = "sk-canary-one,sk-canary-two"
MODELS = {"hy-image-lite": 1, "hy-video-1.5": 5, "hy-3d-3.0": 3}
"""Models and their quotas."""


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
