"""The service's sites, and the error class and hint for a status and an error code."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_tokenhub.catalogue.toml import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

SiteName = Literal["mainland", "overseas", "international", "international-guangzhou"]
SITE_NAMES: tuple[SiteName, ...] = get_args(SiteName)


@functools.cache
def site_hosts(name: str) -> tuple[str, ...]:
    """Return the https origins of the site called `name`, the default host first.

    Raises:
        ValueError: There is no site of that name.
    """
    if name not in SITE_NAMES:
        raise ValueError(f"site: {name!r} is not known; choose one of {', '.join(SITE_NAMES)}")
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
    """Return the row for an answer.

    Args:
        status: HTTP status; None for an error inside a stream.
        code: The body's `error.code`: six digits, a dotted upstream code, or a word.
        message: The body's message; used only if status and code mean a plain bad request.
    """
    table = _table()
    row = next(table[key] for key in _keys(status, code) if key in table)
    if row != table["status 400"]:
        return row
    text = message.lower()
    return next((better for phrase, better in _phrases().items() if phrase in text), row)


def _keys(status: int | None, code: str | None) -> Iterator[str]:
    """Yield the keys to look up, the most specific first."""
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
