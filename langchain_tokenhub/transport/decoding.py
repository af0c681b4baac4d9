"""Bytes of answers to values: JSON, and compression undone in small steps. Pure conversions."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import httpx
from pydantic_core import from_json

from langchain_tokenhub.errors import ServerError, clean

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a JSON answer; pictures in base64 fit."""
LARGEST_COMPLAINT = 64 * 1024
"""Bytes of an error body that are read."""
_STEP = 1024 * 1024
_EITHER = 47
"""What zlib calls gzip or deflate, whichever comes."""


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
        self._engine = zlib.decompressobj(_EITHER) if names else None
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the plain bytes in `piece`."""
        if self._engine is None:
            yield piece
            return
        more = bool(piece)
        while more:
            self._begun = True
            if self._engine.eof:  # gzip may have several members, and zeros after the last
                piece = piece.lstrip(b"\0")
                if not piece:
                    return
                self._engine = zlib.decompressobj(_EITHER)
            try:
                plain = self._engine.decompress(piece, _STEP)
            except zlib.error:
                raise ServerError("the answer's compression is broken") from None
            if plain:
                yield plain
            piece = self._engine.unused_data or self._engine.unconsumed_tail
            more = bool(piece) or (len(plain) == _STEP and not self._engine.eof)  # it may hide more

    def end(self) -> None:
        """Take note that the answer has ended.

        Raises:
            httpx.RemoteProtocolError: What was compressed has not.
        """
        if self._engine is not None and self._begun and not self._engine.eof:
            raise httpx.RemoteProtocolError("the answer ended in the middle of its compression")


def unpacked(chunks: AsyncGenerator[bytes, None], encoding: str) -> AsyncGenerator[bytes, None]:
    """Return the plain bytes of a body, of which `encoding` says how it is compressed, if it is."""
    return _inflated(chunks, Inflater(encoding)) if encoding else chunks


async def _inflated(
    chunks: AsyncGenerator[bytes, None], inflater: Inflater
) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            for piece in inflater.feed(chunk):
                yield piece
        inflater.end()
