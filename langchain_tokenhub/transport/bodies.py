"""Bytes of answers to values: JSON, and compression undone in small steps. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from langchain_tokenhub.errors import ServerError, clean

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a JSON answer; pictures in base64 fit."""
LARGEST_COMPLAINT = 64 * 1024
"""Bytes of an error body that are read."""
_STEP = 1024 * 1024


def parse(data: bytes) -> Any:
    """Return the JSON value in `data`.

    The fast parser refuses lone surrogates (half an emoji, split over two deltas) and raw control
    characters; the standard library takes them.

    Raises:
        ServerError: It is not JSON.
    """
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data, strict=False)
    except (ValueError, RecursionError):
        sample = clean(data[:200].decode("utf-8", "replace"))
    raise ServerError(f"the service sent what is not JSON: {sample!r}")


def parse_event(data: bytes) -> list[Any]:
    """Return the JSON values of an event: one, or one a line where each line stands alone."""
    try:
        return [parse(data)]
    except ServerError:
        if b"\n" not in data:
            raise
    return [parse(line) for line in data.split(b"\n") if line.strip()]


class Inflater:
    """Undoes gzip or deflate in steps of at most 1 MiB, so that a bomb is seen before it bursts."""

    def __init__(self, encoding: str) -> None:
        names = {name.strip().lower() for name in encoding.split(",")} - {"", "identity"}
        if names - {"gzip", "x-gzip", "deflate"} or len(names) > 1:
            raise ServerError(f"the answer is encoded as {clean(encoding, 60)!r}, unasked")
        self._engine = zlib.decompressobj(47) if names else None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the plain bytes in `piece`."""
        if self._engine is None:
            yield piece
            return
        while True:
            try:
                plain = self._engine.decompress(piece, _STEP)
            except zlib.error:
                raise ServerError("the answer's compression is broken") from None
            if plain:
                yield plain
            piece = self._engine.unconsumed_tail
            if not piece and len(plain) < _STEP:  # a full step may hide more
                return
