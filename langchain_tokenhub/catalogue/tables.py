"""The tables of the TOML files in this folder: their reader, the sites, and the error codes."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

SiteName = Literal["mainland", "overseas", "international", "international-guangzhou"]
SITE_NAMES: tuple[SiteName, ...] = get_args(SiteName)


@functools.cache
def rows(name: str) -> dict[str, Any]:
    """Return the tables of `name`.toml, read once."""
    text = Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def similar_id(model: str, ids: Iterable[str]) -> str | None:
    """Return the id that `model` may be a misspelling of.

    None if it is one of `ids`, or begins with `ep-`, or if only another version is similar.
    """
    digits = re.sub(r"\D", "", model)
    similar = [one for one in ids if re.sub(r"\D", "", one) == digits]
    near = difflib.get_close_matches(model.lower(), similar, n=1, cutoff=0.75)
    return near[0] if near and near[0] != model.lower() else None


@functools.cache
def site_hosts(name: SiteName) -> tuple[str, ...]:
    """Return the https origins of a site, the default host first."""
    return tuple(rows("sites")[name]["hosts"])


@dataclass(frozen=True)
class ErrorRow:
    """One row of error_codes.toml."""

    name: str
    """A class of `langchain_tokenhub.errors`."""
    hint: str
    hint_zh: str
    busy: bool = False
    """Whether the account is at its limit of running jobs, so that a later submit may succeed."""


def error_row(status: int | None, code: str | None, message: str = "") -> ErrorRow:
    """Return the row for an answer, by its HTTP status and the `error.code` of its body.

    `status` is None inside a stream. The body's message is used only if status and code mean a
    plain bad request.
    """
    table = _table()
    row = next(table[key] for key in _keys(status, code) if key in table)
    if row != table["status 400"]:
        return row
    text = message.lower()
    return next((better for phrase, better in _phrases().items() if phrase in text), row)


def _keys(status: int | None, code: str | None) -> Iterator[str]:
    if code:
        yield f"{code}@{status}"
        parts = code.split(".")
        yield from (code, parts[-1])  # the last part decides: "ResourceNotFound.JobNotExist"
        yield from (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    if status is not None and status >= 400:
        yield f"status {status}"
        yield f"status {status // 100}"
    yield f"word {code}"
    yield "status 0"


@functools.cache
def _table() -> dict[str, ErrorRow]:
    return {key: _row(raw) for raw in rows("error_codes")["row"] for key in _names(raw)}


@functools.cache
def _phrases() -> dict[str, ErrorRow]:
    table = rows("error_codes")["row"]
    return {phrase: _row(raw) for raw in table for phrase in raw.get("phrases", ())}


def _names(raw: dict[str, Any]) -> Iterator[str]:
    yield from raw.get("codes", ())
    yield from (f"word {word}" for word in raw.get("words", ()))
    yield from (f"status {status}" for status in raw.get("status", ()))


def _row(raw: dict[str, Any]) -> ErrorRow:
    return ErrorRow(raw["name"], raw["hint"], raw["hint_zh"], raw.get("repeat") == "busy")
