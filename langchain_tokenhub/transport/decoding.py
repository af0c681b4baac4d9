"""Decode answers: JSON, and decompression in small steps. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

import httpx
from pydantic_core import from_json

from langchain_tokenhub.errors import ServerError, clean

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes of a JSON answer, which may hold images in base64."""
MAX_ERROR_BODY_BYTES = 64 * 1024
"""Bytes of an error body that are read."""
ERROR_BODY_SECONDS = 10.0
"""Seconds for which an error body is read."""
_STEP = 1024 * 1024
_LENIENT = json.JSONDecoder(strict=False)
_AUTO_HEADER = 47
"""zlib's window bits that accept gzip and deflate."""


def parse(data: bytes) -> Any:
    """Return the JSON value in `data`; bytes that are not UTF-8 become U+FFFD.

    The fast parser refuses lone surrogates (half an emoji, split over two deltas), raw control
    characters and bad UTF-8; the standard library accepts them.

    Raises:
        ServerError: The data is not JSON.
    """
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        sample = clean(data[:200].decode("utf-8", "replace"))
    raise ServerError(f"the answer is not JSON: {sample!r}")


def parse_event(data: bytes) -> list[Any]:
    """Return the JSON values of an event: one, or several in a row.

    Raises:
        ServerError: The data is not JSON.
    """
    try:
        return [parse(data)]
    except ServerError as error:
        failure = error
    values, rest = [], data.decode("utf-8-sig", "replace")
    try:
        while rest := rest.lstrip().removeprefix("data:").lstrip():
            value, end = _LENIENT.raw_decode(rest)
            values.append(value)
            rest = rest[end:]
    except (ValueError, RecursionError):
        raise failure from None
    return values


class Inflater:
    """Decompresses gzip or deflate in steps of at most 1 MiB, so that limits hold for ZIP bombs."""

    def __init__(self, encoding: str) -> None:
        names = {name.strip().lower() for name in encoding.split(",")} - {"", "identity"}
        if names - {"gzip", "x-gzip", "deflate"} or len(names) > 1:
            raise ServerError(f"the answer has the unrequested encoding {clean(encoding, 60)!r}")
        self._engine = zlib.decompressobj(_AUTO_HEADER) if names else None
        self._has_begun = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of `piece`."""
        if self._engine is None:
            yield piece
            return
        more = bool(piece)
        while more:
            self._has_begun = True
            if self._engine.eof:  # gzip may have several members, and zeros after the last
                piece = piece.lstrip(b"\0")
                if not piece:
                    return
                self._engine = zlib.decompressobj(_AUTO_HEADER)
            try:
                plain = self._engine.decompress(piece, _STEP)
            except zlib.error:
                raise ServerError("the answer's compression is invalid") from None
            if plain:
                yield plain
            piece = self._engine.unused_data or self._engine.unconsumed_tail
            more = bool(piece) or (len(plain) == _STEP and not self._engine.eof)

    def end(self) -> None:
        """Check that the compressed data is complete.

        Raises:
            httpx.RemoteProtocolError: The data is incomplete.
        """
        if self._engine is not None and self._has_begun and not self._engine.eof:
            raise httpx.RemoteProtocolError("the answer ended in the middle of its compression")


def decompress(chunks: AsyncGenerator[bytes, None], encoding: str) -> AsyncGenerator[bytes, None]:
    """Return the plain bytes of a body whose Content-Encoding is `encoding`, if it has one."""
    return _inflate(chunks, Inflater(encoding)) if encoding else chunks


async def _inflate(
    chunks: AsyncGenerator[bytes, None], inflater: Inflater
) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            for piece in inflater.feed(chunk):
                yield piece
        inflater.end()


def limit_body(response: httpx.Response, seconds: float | None) -> bool:
    """Limit the time for the rest of a body, in place of an earlier limit; None sets none.

    Returns:
        False if the transport of the response cannot limit it.
    """
    limit = response.extensions.get("limit_body")
    if limit is not None and seconds is not None:
        limit(seconds)
    return limit is not None


async def read_error_body(
    response: httpx.Response,
    pieces: AsyncGenerator[bytes, None],
    now: Callable[[], float],
    left: float | None = None,
) -> bytes:
    """Return the beginning of an error body, as far as it arrives in time."""
    seconds = min(ERROR_BODY_SECONDS, left or ERROR_BODY_SECONDS)
    limit_body(response, seconds)
    body, until = bytearray(), now() + seconds
    with suppress(httpx.HTTPError, ServerError):
        async with aclosing(pieces):
            async for piece in pieces:
                body += piece
                if len(body) > MAX_ERROR_BODY_BYTES or now() > until:
                    break
    return bytes(body[:MAX_ERROR_BODY_BYTES])
