"""Readers of the emulator's own data files."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

DATA = files("langchain_tokenhub.testing") / "data"


@cache
def table(name: str) -> dict[str, Any]:
    """Read a TOML file of the folder `data`, once."""
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def blob(name: str) -> bytes:
    """Read a binary file of the folder `data`, once."""
    return (DATA / name).read_bytes()
