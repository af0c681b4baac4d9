"""The TOML files of this folder."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any


@functools.cache
def rows(name: str) -> dict[str, Any]:
    """Return the tables of `name`.toml, read once."""
    text = Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
