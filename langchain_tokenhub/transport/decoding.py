"""Decode responses: HTTP/1.1, decompression in small steps, whole bodies in time, and JSON.

httptools (llhttp) parses HTTP, with checks that llhttp does not make. Ambiguous framing is refused,
or ends the connection: an unknown transfer coding, two lengths, bytes after the response. Interim
(1xx) responses and trailers are read and dropped.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from pydantic_core import from_json

from langchain_tokenhub.errors import ServerError, clean
from langchain_tokenhub.transport.calls import HTTPResponse

MAX_HEAD = 100 * 1024
"""Bytes of a response's head, including interim responses before it."""
MAX_CHUNK_LINE = 2 * 1024
"""Consecutive bytes that are not part of the body: chunk extensions, trailers."""
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

Header = tuple[bytes, bytes]


class ResponseParser:
    """Parses one response. Its `on_...` methods are called by httptools."""

    def __init__(self) -> None:
        self.status = 0
        """HTTP status, once the head is complete."""
        self.headers: list[Header] = []
        self.is_complete = False
        self._is_persistent = self._ends_at_close = False
        self._body: list[bytes] = []
        self.on_body = self._body.append
        self._head_size = self._unproductive = 0
        self._problem = ""
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,  # folded headers; NUL is refused in `on_header`
            lenient_optional_cr_before_lf=True,  # LF ends a line, in the head only
            lenient_chunked_length=True,  # with a Content-Length the connection is not reused
            lenient_spaces_after_chunk_size=True,
        )

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the body in `data`; no data is the end of the connection.

        Raises:
            httpx.RemoteProtocolError: The data is not an HTTP/1 response, exceeds a limit, or ends
                before the response does.
        """
        if not data:
            self._end()
        if self._parser is None:
            self._is_persistent = False  # the end, or bytes after the response
            return b""
        status_before = self.status
        if not status_before and not (self._unproductive or data.startswith(b"H")):
            raise httpx.RemoteProtocolError("no HTTP response")  # llhttp takes RTSP and ICE too
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._parser = None
            if not self.is_complete:
                problem = self._problem or str(error)
                raise httpx.RemoteProtocolError(f"invalid HTTP response: {problem}") from None
            self._is_persistent = False
        if self.is_complete:
            self._parser = None  # which refers to this object
        body = b"".join(self._body)
        self._body.clear()
        self._limit_unproductive(0 if body or self.status != status_before else len(data))
        return body

    def _limit_unproductive(self, size: int) -> None:
        """Count `size` bytes that are not part of the body; 0 resets the count."""
        self._unproductive = self._unproductive + size if size else 0
        limit = MAX_CHUNK_LINE if self.status else MAX_HEAD
        if self._unproductive > limit and not self.is_complete:
            raise httpx.RemoteProtocolError(f"a response head or chunk line above {limit} bytes")

    def _end(self) -> None:
        self._parser = None
        if not self.status:
            raise httpx.RemoteProtocolError("the server closed the connection without a response")
        if not (self.is_complete or self._ends_at_close):
            raise httpx.RemoteProtocolError("the connection was closed inside the response body")
        self.is_complete = True

    def close(self) -> None:
        """Stop parsing."""
        self._parser = None

    @property
    def is_reusable(self) -> bool:
        """Whether the response was read to its end and the connection may carry another request."""
        return self.is_complete and self._is_persistent

    # -- called by httptools ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Stop at bytes that follow the response."""
        if self.is_complete:
            raise self._refuse("bytes after the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; those after the head are trailers."""
        if b"\0" in value:
            raise self._refuse("a header contains NUL")
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            raise self._refuse(f"the head is larger than {MAX_HEAD} bytes")
        if not self.status:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Set the status, unless the response is an interim one."""
        assert self._parser is not None  # noqa: S101 - it is calling
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in {"1.0", "1.1"} or status < 100:
            raise self._refuse(f"HTTP/{version}, status {status}")
        if status == 101:
            raise self._refuse("the server switches to another protocol")
        if status >= 200:
            keep_alive = self._parser.should_keep_alive() and version == "1.1"
            self._set_framing(status, keep_alive=keep_alive)
            self.status = status
            self.headers = [(name, value.strip(b" \t")) for name, value in self.headers]
            self._parser.set_dangerous_leniencies(
                lenient_headers=False, lenient_optional_cr_before_lf=False
            )

    def _set_framing(self, status: int, *, keep_alive: bool) -> None:
        headers = [(name.lower(), value.lower()) for name, value in self.headers]
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):  # not stripped: llhttp does not see it before a tab
            raise self._refuse("an unrequested transfer coding")
        has_length = any(name == b"content-length" for name, _ in headers)
        self._ends_at_close = not (codings or has_length or status in {204, 304})
        self._is_persistent = keep_alive and not (codings and has_length)

    def on_message_complete(self) -> None:
        """Record the end of the response, or of an interim one."""
        if self.status:
            self.is_complete = True
        else:
            self.headers.clear()

    def _refuse(self, problem: str) -> HttpParserError:
        self._problem = problem
        return HttpParserError(problem)


def decode_headers(headers: Iterable[Header]) -> dict[str, str]:
    """Return headers as text, by name in lower case; the values of equal names are joined."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


# -- bodies ------------------------------------------------------------------------------------


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
                    raise ServerError("the answer's compressed data is invalid") from None
                if plain:
                    yield plain
                piece = engine.unused_data or engine.unconsumed_tail
                more = bool(piece) or (len(plain) == _STEP and not engine.eof)
    if has_begun and not engine.eof:
        raise httpx.RemoteProtocolError("the answer's compressed data is truncated")


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


# -- JSON --------------------------------------------------------------------------------------


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
