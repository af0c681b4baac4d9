"""Pytest plugin: the fixture `tokenhub_emulator`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_tokenhub.testing.server import Emulator


@pytest.fixture
def tokenhub_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A running emulator without waits; the environment variables point to it."""
    from langchain_tokenhub.testing import Emulator

    with Emulator(speed=1e6) as hub:
        monkeypatch.setenv("TOKENHUB_BASE_URL", hub.url)
        monkeypatch.setenv("TOKENHUB_API_KEY", "emulator")
        yield hub
