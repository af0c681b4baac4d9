"""The TOML files of this folder."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def similar_id(model: str, ids: Iterable[str]) -> str | None:
    """Return the id that `model` may be a misspelling of.

    None if it is one of `ids`, or begins with `ep-`, or if only another version is similar.
    """
    digits = re.sub(r"\D", "", model)
    similar = [one for one in ids if re.sub(r"\D", "", one) == digits]
    near = difflib.get_close_matches(model.lower(), similar, n=1, cutoff=0.75)
    return near[0] if near and near[0] != model.lower() else None


@functools.cache
def rows(name: str) -> dict[str, Any]:
    """Return the tables of `name`.toml, read once."""
    text = Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
