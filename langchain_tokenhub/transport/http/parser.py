"""Parse one HTTP/1.1 response with httptools (llhttp), with checks that llhttp does not make.

Ambiguous framing is refused, or ends the connection: an unknown transfer coding, two lengths, bytes
after the response. Interim (1xx) responses and trailers are read and dropped.
"""

from __future__ import annotations

from typing import NamedTuple

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD = 100 * 1024
"""Bytes of a response's head, including interim responses before it."""
MAX_CHUNK_LINE = 2 * 1024
"""Consecutive bytes that are not part of the body: chunk extensions, trailers."""

Header = tuple[bytes, bytes]


class ResponseHead(NamedTuple):
    """Status and headers of a response."""

    status: int
    headers: list[Header]


class ResponseParser:
    """Parses one response. Its `on_...` methods are called by httptools."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.is_complete = False
        self._is_persistent = self._ends_at_close = False
        self._headers: list[Header] = []
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
        """Return the bytes of the body in `data`.

        Raises:
            httpx.RemoteProtocolError: The data is not an HTTP/1 response, or exceeds a limit.
        """
        if self._parser is None:
            self._is_persistent = False  # bytes after the response
            return b""
        in_head = self.head is None
        if in_head and not (self._unproductive or data.startswith(b"H")):
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
        self._limit_unproductive(0 if body or in_head != (self.head is None) else len(data))
        return body

    def _limit_unproductive(self, size: int) -> None:
        """Count `size` bytes that are not part of the body; 0 resets the count."""
        self._unproductive = self._unproductive + size if size else 0
        limit = MAX_HEAD if self.head is None else MAX_CHUNK_LINE
        if self._unproductive > limit and not self.is_complete:
            raise httpx.RemoteProtocolError(f"a response head or chunk line above {limit} bytes")

    def end(self) -> None:
        """Record the end of the connection.

        Raises:
            httpx.RemoteProtocolError: The response is incomplete.
        """
        self._parser = None
        if self.head is None:
            raise httpx.RemoteProtocolError("the server closed the connection without a response")
        if not (self.is_complete or self._ends_at_close):
            raise httpx.RemoteProtocolError("the connection was closed inside the response body")
        self.is_complete, self._is_persistent = True, False

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
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Set the head, unless the response is an interim one."""
        assert self._parser is not None  # noqa: S101 - it is calling
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in {"1.0", "1.1"} or status < 100:
            raise self._refuse(f"HTTP/{version}, status {status}")
        if status == 101:
            raise self._refuse("the server switches to another protocol")
        if status >= 200:
            self._set_framing(status, version)
            self.head = ResponseHead(status, [(k, v.strip(b" \t")) for k, v in self._headers])
            self._headers.clear()
            self._parser.set_dangerous_leniencies(
                lenient_headers=False, lenient_optional_cr_before_lf=False
            )

    def _set_framing(self, status: int, version: str) -> None:
        names = {name.lower() for name, _ in self._headers}
        is_chunked, has_length = b"transfer-encoding" in names, b"content-length" in names
        if is_chunked:
            codings = [v.lower() for k, v in self._headers if k.lower() == b"transfer-encoding"]
            if codings != [b"chunked"]:  # not stripped: llhttp does not see it before a tab
                raise self._refuse("an unrequested transfer coding")
        assert self._parser is not None  # noqa: S101 - it is calling
        self._ends_at_close = not (is_chunked or has_length or status in {204, 304})
        keep_alive = self._parser.should_keep_alive() and version == "1.1"
        self._is_persistent = keep_alive and not (is_chunked and has_length)

    def on_message_complete(self) -> None:
        """Record the end of the response, or of an interim one."""
        if self.head is None:
            self._headers.clear()
        else:
            self.is_complete = True

    def _refuse(self, problem: str) -> HttpParserError:
        self._problem = problem
        return HttpParserError(problem)
