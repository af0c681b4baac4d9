"""A connection to one origin without a proxy, for one request at a time, sync or async."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Sequence

import httpx

from langchain_tokenhub.transport.calls import earliest
from langchain_tokenhub.transport.http.connect import Target
from langchain_tokenhub.transport.http.parser import ResponseHead, ResponseParser
from langchain_tokenhub.transport.http.sockets import WRITE_SIZE, Stream
from langchain_tokenhub.transport.send_state import SendState

EARLY_RESPONSE_TIMEOUT = 0.1
"""Seconds to look for a response to a request that the server does not read to its end."""
MAX_IDLE = 30.0
"""Seconds that an idle connection is kept."""

_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?"
_REQUEST_HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:%s: %s\r\n)+" % (_NAME, _VALUE))


class DirectConnection:
    """A connection without a proxy; those through one have the same public methods."""

    def __init__(self, stream_type: type[Stream]) -> None:
        self._stream_type = stream_type
        self._stream: Stream | None = None
        self._parser: ResponseParser | None = None
        self._first_bytes = b""
        self._read_timeout: float | None = None
        self._deadline: float | None = None
        self._is_reusable = True

    @property
    def is_stale(self) -> bool:
        """Whether an idle connection is closed, by either side, or has unexpected data."""
        return self._stream is None or not self._stream.is_idle

    async def send(self, request: httpx.Request) -> ResponseHead:
        """Send a request, and return its response's status and headers."""
        timeouts, send_state = request.extensions["timeout"], request.extensions["send_state"]
        head = encode_head(request)
        if self._stream is None:
            self._stream = await self._stream_type.open(_target(request), timeouts["connect"])
        send_state.mark_started()
        failure = await _write(self._stream, head, request.content, timeouts["write"], send_state)
        send_state.body_sent = failure is None
        closes = b"\r\nconnection: close\r\n" in head.lower()  # a default header of the user
        self._is_reusable = failure is None and not closes
        is_stuck = isinstance(failure, httpx.WriteTimeout)
        self._read_timeout = EARLY_RESPONSE_TIMEOUT if is_stuck else timeouts["read"]
        deadline, in_time = (request.extensions.get(n) for n in ("deadline", "head_timeout"))
        self._deadline = earliest(deadline, None if in_time is None else time.monotonic() + in_time)
        try:
            response = await self._read_head(self._stream)
        except httpx.TransportError as error:
            raise failure or error from None
        send_state.answered = True
        self._deadline = deadline  # the time for the body is limited by its reader
        return response

    async def _read_head(self, stream: Stream) -> ResponseHead:
        self._parser = None
        data = await stream.read(self._time_left())
        parser = self._parser = ResponseParser()  # not before: requests in flight stay small
        while True:
            if not data:
                parser.end()
            self._first_bytes = parser.feed(data)
            if parser.head is not None:
                return parser.head
            data = await stream.read(self._time_left())

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yield the response's body as it arrives."""
        parser, stream = self._parser, self._stream
        if self._first_bytes:
            yield self._first_bytes
        while stream is not None and parser is not None and not parser.is_complete:
            data = await stream.read(self._time_left())
            if not data:
                parser.end()
            elif body := parser.feed(data):
                yield body

    def _time_left(self) -> float | None:
        """Return the timeout of the next read, which ends at the deadline of the call."""
        if self._deadline is None:
            return self._read_timeout
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("the response was not complete before the deadline")
        return earliest(left, self._read_timeout)

    def limit_reads(self, seconds: float) -> None:
        """Shorten the timeout of each further read of this response."""
        self._read_timeout = earliest(seconds, self._read_timeout)

    async def release(self) -> bool:
        """End the response, read or not; return True if another request may follow."""
        return self._is_reusable and self._parser is not None and self._parser.is_reusable

    async def close(self) -> None:
        """Close the connection."""
        if self._parser is not None:
            self._parser.close()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def encode_head(request: httpx.Request) -> bytes:
    """Return the request line and headers as bytes.

    Raises:
        httpx.LocalProtocolError: They are not valid HTTP. The message quotes nothing of them.
    """
    line = b"%s %s HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)
    headers = request.headers.raw
    head = line + b"".join([b"%s: %s\r\n" % header for header in headers])
    # a value that contains a whole further header line would match
    if head.count(b"\n") != len(headers) + 1 or _REQUEST_HEAD.fullmatch(head) is None:
        raise httpx.LocalProtocolError("the request is not valid HTTP")
    return head + b"\r\n"


def _target(request: httpx.Request) -> Target:
    url = request.url
    host = url.raw_host.decode("ascii")
    is_tls = url.scheme == "https"
    tls_name = str(request.extensions.get("sni_hostname") or host) if is_tls else None
    return Target(host, url.port or (443 if is_tls else 80), tls_name)


async def _write(
    stream: Stream, head: bytes, content: bytes, limit: float | None, send_state: SendState
) -> httpx.WriteError | httpx.WriteTimeout | None:
    """Write a request, a small one at once. Return the failure if not all of it was written.

    A server may answer, and close, before it has read a large request.
    """
    is_small = len(content) <= WRITE_SIZE
    pieces = (memoryview(content)[i : i + WRITE_SIZE] for i in range(0, len(content), WRITE_SIZE))
    parts: Sequence[bytes | memoryview] = [head + content] if is_small else [head, *pieces]
    for number, part in enumerate(parts, 1):
        try:
            await stream.write(part, limit)
        except (httpx.WriteError, httpx.WriteTimeout) as failure:
            if number < len(parts):
                send_state.held_back = True
            return failure
    return None
