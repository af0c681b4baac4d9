"""The table of faults names tests that exist, and puts us to each of its claims."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def anchors(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS / "anchors"))
    return importlib.import_module("anchors")


def test_every_fault_names_a_test_that_exists(anchors):
    files = [*TESTS.glob("unit_tests/test_*.py"), *TESTS.glob("integration_tests/test_*.py")]
    defined = set(re.findall(r"def (test_\w+)", "".join(file.read_text("utf-8") for file in files)))
    named = {name for fault in anchors.FAULTS.values() for name in fault.test.split(", ")}
    assert named - defined == set()


def test_every_fault_is_provoked_for_us_too(anchors):
    assert all(
        anchors.OURS & {subject.__name__ for subject in fault.subjects}
        for fault in anchors.FAULTS.values()
    )
