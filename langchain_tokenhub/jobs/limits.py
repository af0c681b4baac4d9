"""What a file input may be, and how it is said that it may not. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.sniff import HEAD, sides, sniff
from langchain_tokenhub.media import FileField, shown

_SAME = {"jpg": "jpeg", "tif": "tiff"}


def check(place: str, data: bytes, field: FileField) -> None:
    """Refuse bytes that the service would refuse."""
    if not data:
        raise refuse(place, None, "the file is empty")
    _check_size(place, len(data), field)
    found = sniff(data[:HEAD])
    if found is None or normal(found) not in map(normal, field.formats):
        raise refuse(
            place, None, f"the file is {found or 'of no known type'}; {formats(field)} is needed"
        )
    if (measured := sides(data)) is not None:
        _check_sides(place, measured, field)


def _check_size(place: str, size: int, field: FileField) -> None:
    encoded, most = (size + 2) // 3 * 4, field.max_bytes_base64
    if most and encoded > most:
        what = f"{_megabytes(encoded)} as base64, {_megabytes(most, 0)} is the most"
        raise refuse(place, None, f"{what}; make it smaller or pass a link")
    if most is None and field.max_bytes_url and size > field.max_bytes_url:
        what = f"{_megabytes(size)}, {_megabytes(field.max_bytes_url, 0)} is the most"
        raise refuse(place, None, f"{what}; make it smaller")


def check_body(body: Mapping[str, Any], most: int) -> None:
    """Refuse a request that is too large as a whole."""
    size = len(json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    if size > most:
        what = f"the request has {_megabytes(size)}, {_megabytes(most, 0)} is the most"
        raise refuse("image_base64", None, f"{what}; make the picture smaller or pass a link")


def _megabytes(size: int, digits: int = 1) -> str:
    return f"{size / 1024**2:.{digits}f} MB"


def _check_sides(place: str, measured: tuple[int, int], field: FileField) -> None:
    short, long = sorted(measured)
    least, most = field.side_min or 0, field.side_max or long
    if short < least or long > most:
        what = f"{measured[0]}x{measured[1]} pixels, each side is {least} to {most}"
        raise refuse(place, None, f"{what}; scale the picture")
    if field.ratio_max and long > short * field.ratio_max:
        what = (
            f"{measured[0]}x{measured[1]} pixels, sides differ by {field.ratio_max:g} times at most"
        )
        raise refuse(place, None, f"{what}; crop the picture")


def normal(name: str) -> str:
    """Return the one name of a file type that has two."""
    return _SAME.get(name, name)


def formats(field: FileField) -> str:
    """Return the file types that a field takes, for an error."""
    return ", ".join(field.formats)


def refuse(place: str, value: Any, advice: str) -> InvalidRequestError:
    """Return the error of a file input: its field, its value cut short, and what to do."""
    what = f"{shown(value)}: " if value is not None and not isinstance(value, BaseModel) else ""
    return InvalidRequestError(f"{place}: {what}{advice}", phase="not sent")
