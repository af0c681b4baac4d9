"""Reads a manifest: mappings, JSONL or CSV. Each row keeps its place for the errors.

A value `@id` in a file's place names the result of another row. Other files are relative to the
manifest.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from langchain_tokenhub.catalogue import tables
from langchain_tokenhub.errors import InvalidRequestError

Rows: TypeAlias = str | Path | Iterable[Mapping[str, Any]]
"""A manifest's path, `-` for standard input, or the rows."""

_Placed: TypeAlias = tuple[str, Any]
"""A row and where it was written, for errors: `line 3`."""
MAX_FAULTS = 50
"""Faults in one error."""
_BOOLEANS = {"true": True, "yes": True, "是": True, "false": False, "no": False, "否": False}
_SEPARATORS = re.compile(r"\s*[\n|]\s*")


def refuse(faults: list[str]) -> None:
    """Raise all faults at once, if there are any.

    Raises:
        InvalidRequestError: It names each fault by line and field.
    """
    if not faults:
        return
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    what = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise InvalidRequestError(
        "\n".join([f"the rows have {what}:", *faults[:MAX_FAULTS], *more]),
        phase="not sent",
        hint="Nothing was sent or charged.",
    )


def read_manifest(rows: Rows, faults: list[str]) -> tuple[list[_Placed], Path, bool]:
    """Read all rows; what is wrong with lines is added to `faults`.

    Returns:
        The values of each row by column and where they were written; the folder that files are
        relative to; whether all values are text, which is to be parsed.

    Raises:
        InvalidRequestError: The file cannot be read.
    """
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable | Path):
        text = f"rows: {type(rows).__name__}; a file's path or several mappings are needed"
        raise InvalidRequestError(text, phase="not sent")
    if not isinstance(rows, str | Path):
        return [(f"row {n}", row) for n, row in enumerate(rows, 1)], Path.cwd(), False
    data, name = _read(rows)
    text = _decode(data, name)
    is_json = text.lstrip()[:1] in {"{", "["}
    found = list(_json_rows(text, faults) if is_json else _csv_rows(text, faults))
    if not found and not faults:
        faults.append(f"{name} has no rows")
    parent = Path.cwd() if str(rows) == "-" else Path(rows).expanduser().absolute().parent
    return found, parent, not is_json


def _read(rows: str | Path) -> tuple[bytes, str]:
    if str(rows) == "-":
        return sys.stdin.buffer.read(), "standard input"
    try:
        return Path(rows).expanduser().read_bytes(), str(rows)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
    raise InvalidRequestError(f"{rows}: {reason}", phase="not sent")


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
    raise InvalidRequestError(
        f"{name} is not UTF-8 (line {line})",
        phase="not sent",
        hint='save it as UTF-8; in Excel and WPS as "CSV UTF-8" / 请另存为 UTF-8 编码'
        "（Excel、WPS 中选“CSV UTF-8”）",
    )


def _json_rows(text: str, faults: list[str]) -> Iterator[_Placed]:
    # not `splitlines`: a prompt may hold U+2028
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as problem:
            reason = getattr(problem, "msg", None) or "too deep"
            column = getattr(problem, "colno", 1)
            faults.append(f"line {number}: not one JSON object a line ({reason}, column {column})")


def _csv_rows(text: str, faults: list[str]) -> Iterator[_Placed]:
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    names: list[str] = []
    begin = 1
    try:
        for cells in reader:
            place, begin = f"line {begin}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = _header(cells, place, faults)
            elif len(cells) > len(names):
                faults.append(f"{place}: {len(cells)} cells, the header has {len(names)} columns")
            else:
                pairs = zip(names, cells, strict=False)
                yield place, {name: cell.strip() for name, cell in pairs if cell.strip()}
    except csv.Error as problem:
        faults.append(f"line {reader.line_num}: {problem}")


def _header(cells: list[str], place: str, faults: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    double = sorted({name for name in names if name and names.count(name) > 1})
    faults += [f"{place}: the header names {name!r} twice" for name in double]
    return [name or f"(column {number})" for number, name in enumerate(names, 1)]


def column_name(name: str, fields: Iterable[str]) -> str:
    """Return the English name of a column, for a model that has `fields`."""
    known: list[str] = tables.rows("columns")["columns"].get(name, [name])
    return next((one for one in known if one in fields), known[0])


def parse_cell(text: str, schema: Mapping[str, Any]) -> Any:
    """Return a cell as its parameter's type; what is none stays, so that the check refuses it.

    Raises:
        ValueError: It is no JSON where that is needed.
    """
    match schema.get("type"):
        case "integer" if re.fullmatch(r"[+-]?\d+(\.0+)?", text):
            return int(text.partition(".")[0])
        case "boolean":
            return _BOOLEANS.get(text.lower(), text)
        case "array" if text[:1] != "[" and "$ref" not in schema.get("items", {}):
            return [part for part in _SEPARATORS.split(text) if part]
        case "string" | "integer":
            return text
        case _:
            return json.loads(text)
