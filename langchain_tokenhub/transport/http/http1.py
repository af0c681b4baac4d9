"""HTTP/1.1 for one exchange at a time: a request to bytes, bytes to an answer. Pure.

Follows RFC 9112 where a client of one server needs it, strictly: what is ambiguous (two lengths, an
unknown transfer coding, a stray byte) is refused, or ends the connection, and is never guessed at.
Works in linear time, however small the pieces; bodies are passed on in as few pieces as came.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

import httpx

LARGEST_HEAD = 100 * 1024
"""Bytes of an answer's head, those of interim answers before it included."""
LONGEST_LINE = 2 * 1024
"""Bytes of the line before a chunk, with its extensions, and of the trailers after the last one."""

Header = tuple[bytes, bytes]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?"
_SENDABLE = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:%s: %s\r\n)+" % (_TOKEN, _VALUE))
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\x00]*)?")
_FIELD = re.compile(rb"(%s):([^\r\n\x00]*)" % _TOKEN)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_FOLDED = re.compile(rb"\r?\n[ \t]+")
_CHUNK = re.compile(rb"\r\n([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_CHUNK_BEGUN = re.compile(rb"(?:\r(?:\n(?:[0-9a-fA-F]{1,15}[ \t]*(?:;[^\r\n]*)?\r?)?)?)?")


def head_of(request: httpx.Request) -> bytes:
    """Return the request line and headers as they are sent.

    Raises:
        httpx.LocalProtocolError: They are not HTTP: an invisible character, say, in a header.
    """
    line = b"%s %s HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)
    headers = request.headers.raw
    head = line + b"".join([b"%s: %s\r\n" % header for header in headers])
    # a value with a line of its own would match, and be two headers
    if head.count(b"\n") != len(headers) + 1 or _SENDABLE.fullmatch(head) is None:
        raise httpx.LocalProtocolError("the request is not HTTP")  # which quotes nothing
    return head + b"\r\n"


class Head(NamedTuple):
    """What an answer begins with."""

    status: int
    headers: list[Header]
    again: bool
    """Whether the connection may carry another request afterwards."""


class Framing(Protocol):
    """How a body's bytes are told from what follows it."""

    over: bool
    """Whether the body has come to its end."""
    stray: bool
    """Whether bytes came after it."""

    def feed(self, data: bytes) -> bytes:
        """Return the body's bytes in `data`."""
        ...

    def end(self) -> None:
        """Take note that the connection has ended."""
        ...


class Reader:
    """Reads one answer."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._size = 0
        self._body: Framing | None = None
        self._again = False

    def head(self, data: bytes) -> Head | None:
        """Return the head once it is whole; what came after it is kept for `body`.

        Raises:
            httpx.RemoteProtocolError: It is no answer of HTTP/1, or too long.
        """
        seen = max(0, len(self._came) - 3)
        self._came += data
        while (end := _HEAD_END.search(self._came, seen)) is not None:
            head = _head(bytes(self._came[: end.start()]))
            del self._came[: end.end()]
            self._size, seen = self._size + end.end(), 0
            self._check(self._size)
            if head.status >= 200:
                self._body = _framing(head)
                self._again = head.again
                return head
            if head.status == 101:
                raise httpx.RemoteProtocolError("the server switches protocols, unasked")
        self._check(self._size + len(self._came))
        return None

    @staticmethod
    def _check(size: int) -> None:
        if size > LARGEST_HEAD:
            raise httpx.RemoteProtocolError(f"the head is larger than {LARGEST_HEAD} bytes")

    def rest(self) -> bytes:
        """Return the part of the body that came with the head."""
        came, self._came = bytes(self._came), bytearray()
        return self.body(came)

    def body(self, data: bytes) -> bytes:
        """Return the body's bytes in `data`.

        Raises:
            httpx.RemoteProtocolError: They are not framed as the head says.
        """
        return self._framed.feed(data)

    def end(self) -> None:
        """Take note that the connection has ended.

        Raises:
            httpx.RemoteProtocolError: The answer was not complete.
        """
        if self._body is None:
            raise httpx.RemoteProtocolError("the server closed the connection without an answer")
        self._body.end()

    @property
    def over(self) -> bool:
        """Whether the answer was read to its end."""
        return self._body is not None and self._body.over

    @property
    def reusable(self) -> bool:
        """Whether the answer was read to its end and the connection may carry another request."""
        whole = self._framed.over and not self._framed.stray
        return self._again and whole and not self._came  # what nobody has read is stray too

    @property
    def _framed(self) -> Framing:
        if self._body is None:
            raise RuntimeError("the body comes after the head")
        return self._body


def _head(text: bytes) -> Head:
    first, *lines = _LINE_END.split(_FOLDED.sub(b" ", text))
    status = _STATUS.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in lines]
    if status is None or None in fields:
        raise httpx.RemoteProtocolError("what came is no answer of HTTP/1")
    headers = [(field[1], field[2].strip(b" \t")) for field in fields if field is not None]
    close = b"close" in _tokens(headers, b"connection")
    # two ways to say where the body ends may differ: nothing is read after it
    names = {name.lower() for name, _ in headers}
    torn = {b"transfer-encoding", b"content-length"} <= names
    return Head(int(status[2]), headers, status[1] == b"1" and not (close or torn))


def _tokens(headers: list[Header], name: bytes) -> list[bytes]:
    """Return the members of the list that the headers called `name` make together."""
    values = [value for key, value in headers if key.lower() == name]
    return [token.strip().lower() for value in values for token in value.split(b",")]


def _framing(head: Head) -> Framing:
    codings = _tokens(head.headers, b"transfer-encoding")
    lengths = set(_tokens(head.headers, b"content-length"))
    if head.status in {204, 304}:
        return Counted(0)
    if codings:
        if codings != [b"chunked"]:
            raise httpx.RemoteProtocolError("the server uses a transfer coding that nobody asked")
        return Chunked()
    if not lengths:
        return Endless()
    length = lengths.pop()
    if lengths or not length.isdigit() or len(length) > 18:
        raise httpx.RemoteProtocolError("the server says several lengths, or what is none")
    return Counted(int(length))


class Counted:
    """A body whose length was said."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.over, self.stray = length == 0, False

    def feed(self, data: bytes) -> bytes:
        """Return the body's bytes in `data`."""
        self.stray = self.stray or len(data) > self._left
        body = data[: self._left]
        self._left -= len(body)
        self.over = self._left == 0
        return body

    def end(self) -> None:
        """Take note that the connection has ended."""
        if not self.over:
            problem = f"the connection ended {self._left} bytes before the answer"
            raise httpx.RemoteProtocolError(problem)


class Endless:
    """A body that ends with the connection."""

    over = stray = False

    def feed(self, data: bytes) -> bytes:
        """Return the body's bytes in `data`."""
        return data

    def end(self) -> None:
        """Take note that the connection has ended."""
        self.over = self.stray = True  # nothing can follow on this connection


class Chunked:
    """A body in chunks, each with its length before it."""

    def __init__(self) -> None:
        self._left = 0
        """Bytes that the chunk still has."""
        self._between = b"\r\n"
        """What came after a chunk: its end, and the next one's length; the first has no end."""
        self._last = False
        self.over = self.stray = False

    def feed(self, data: bytes) -> bytes:
        """Return the body's bytes in `data`, those of all its chunks together."""
        if len(data) <= self._left:  # the middle of a large chunk
            self._left -= len(data)
            return data
        at = self._left
        found = [data[:at]]
        if at == 0:
            data = self._between + data
        while not self._last and (line := _CHUNK.match(data, at)) is not None:
            begin = line.end()
            at = begin + int(line[1], 16)
            if at > begin:
                found.append(data[begin:at])
            else:
                at, self._last = begin - 2, True  # the trailers after it end as a head does
        self._left = max(0, at - len(data))
        self._keep(data[at:])
        return b"".join(found)

    def _keep(self, rest: bytes) -> None:
        """Keep the beginning of the next length, or look for the end after the last chunk."""
        self._between = rest
        if self._last and (end := rest.find(b"\r\n\r\n", 0, LONGEST_LINE + 4)) >= 0:
            self.over, self.stray = True, len(rest) > end + 4
        elif len(rest) > LONGEST_LINE:
            raise httpx.RemoteProtocolError("a line between two chunks of the answer has no end")
        elif not self._last and _CHUNK_BEGUN.fullmatch(rest) is None:
            raise httpx.RemoteProtocolError("a chunk of the answer is not as long as it says")

    def end(self) -> None:
        """Take note that the connection has ended."""
        if not self.over:
            raise httpx.RemoteProtocolError("the connection ended in the middle of the answer")
