"""Decode responses: JSON, decompression in small steps, and bodies within limits of time."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import httpx
from pydantic_core import from_json

from langchain_tokenhub.errors import ServerError, clean
from langchain_tokenhub.transport.http.messages import HTTPResponse

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


def read_body(response: HTTPResponse) -> AsyncGenerator[bytes, None]:
    """Return the body of a response, to be read as it arrives, decompressed.

    Raises:
        httpx.HTTPError: The body was cut, or took too long.
        ServerError: Its encoding is unknown or invalid.
    """
    chunks, encoding = response.body.read(), response.headers.get("content-encoding", "")
    return _inflate(chunks) if encoding and _is_compressed(encoding) else chunks


def _is_compressed(encoding: str) -> bool:
    names = {name.strip().lower() for name in encoding.split(",")} - {"", "identity"}
    if names - {"gzip", "x-gzip", "deflate"} or len(names) > 1:
        raise ServerError(f"the answer has the unrequested encoding {clean(encoding, 60)!r}")
    return bool(names)


async def _inflate(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Decompress gzip or deflate in steps of at most 1 MiB, so that limits hold for ZIP bombs."""
    engine, has_begun = zlib.decompressobj(_AUTO_HEADER), False
    async with aclosing(chunks):
        async for chunk in chunks:
            piece, more = chunk, bool(chunk)
            while more:
                has_begun = True
                if engine.eof:  # gzip may have several members, and zeros after the last
                    piece = piece.lstrip(b"\0")
                    if not piece:
                        break
                    engine = zlib.decompressobj(_AUTO_HEADER)
                try:
                    plain = engine.decompress(piece, _STEP)
                except zlib.error:
                    raise ServerError("the answer's compression is invalid") from None
                if plain:
                    yield plain
                piece = engine.unused_data or engine.unconsumed_tail
                more = bool(piece) or (len(plain) == _STEP and not engine.eof)
    if has_begun and not engine.eof:
        raise httpx.RemoteProtocolError("the answer ended in the middle of its compression")


async def read_whole(
    response: HTTPResponse,
    body: bytearray,
    seconds: float | None,
    now: Callable[[], float],
    *,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> None:
    """Add the body of a response to `body`, until it has more than `max_bytes`.

    Args:
        response: The response.
        body: Receives the bytes, also if an error is raised after some of them.
        seconds: The time that the body may take; None sets no limit.
        now: Returns monotonic seconds.
        max_bytes: Bytes after which reading ends.

    Raises:
        httpx.HTTPError: The body was cut, or took too long.
        ServerError: Its encoding is unknown or invalid.
    """
    until = math.inf if seconds is None else now() + seconds
    if seconds is not None:
        response.body.limit(seconds)
    async with aclosing(read_body(response)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > max_bytes:
                return
            if now() > until:
                raise httpx.ReadTimeout("the answer was not complete in time")


async def read_error_body(
    response: HTTPResponse, now: Callable[[], float], left: float | None = None
) -> bytes:
    """Return the beginning of an error body, as far as it arrives in time, and close the response.

    Nothing is returned if its encoding is unknown.
    """
    seconds = ERROR_BODY_SECONDS if left is None else min(ERROR_BODY_SECONDS, left)
    body = bytearray()
    try:
        with suppress(httpx.HTTPError, ServerError):
            await read_whole(response, body, seconds, now, max_bytes=MAX_ERROR_BODY_BYTES)
    finally:
        await response.body.aclose()
    return bytes(body[:MAX_ERROR_BODY_BYTES])
