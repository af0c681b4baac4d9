"""The table of faults names tests that exist, and covers this package in each of its rows."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parents[1]


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("run")


def test_every_fault_names_a_test_that_exists(peers):
    files = [*TESTS.glob("unit_tests/test_*.py"), *TESTS.glob("integration_tests/test_*.py")]
    defined = set(re.findall(r"def (test_\w+)", "".join(file.read_text("utf-8") for file in files)))
    named = {name for fault in peers.FAULTS.values() for name in fault.test.split(", ")}
    assert named - defined == set()


def test_every_fault_is_provoked_for_us_too(peers):
    assert all(
        peers.OURS & {subject.__name__ for subject in fault.subjects}
        for fault in peers.FAULTS.values()
    )
