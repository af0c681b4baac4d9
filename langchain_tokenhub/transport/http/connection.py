"""One connection to one origin, with one face for sync and async, used by one request at a time."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import httpx

from langchain_tokenhub.transport.calls import sooner
from langchain_tokenhub.transport.http.connect import Target
from langchain_tokenhub.transport.http.http1 import Head, Header, Reader, head_of
from langchain_tokenhub.transport.http.sockets import PIECE, AsyncStream, Stream, SyncStream
from langchain_tokenhub.transport.send_state import SendState

LAST_LOOK = 0.1
"""Seconds for an answer to have come to a request that the server does not read to its end."""
IDLE = 30.0
"""Seconds that an idle lane is kept: a human turn does not pay for a new TLS handshake."""


class Answer(NamedTuple):
    """What an answer begins with; `extensions` are those of httpx, and `hurry` where it can be."""

    status: int
    headers: list[Header]
    extensions: Mapping[str, Any]


class Connection(Protocol):
    """One connection, used by one request at a time."""

    @property
    def over(self) -> bool:
        """Whether an idle lane is of no more use: closed, or left by the server."""
        ...

    async def ask(self, request: httpx.Request) -> Answer:
        """Send, and return what the answer begins with."""
        ...

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer's body as it comes."""
        ...

    async def leave(self) -> bool:
        """Be done with the answer, read whole or not; say whether another request may come."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class DirectConnection:
    """A lane to the origin itself: HTTP/1.1 over a line."""

    def __init__(self, kind: type[SyncStream | AsyncStream]) -> None:
        self._kind = kind
        self._line: Stream | None = None
        self._reader = Reader()
        self._limit: float | None = None
        self._deadline: float | None = None
        self._sent = True
        self._last = False

    @property
    def over(self) -> bool:
        """Whether an idle lane is of no more use: closed, or left by the server."""
        return self._line is None or not self._line.quiet

    async def ask(self, request: httpx.Request) -> Answer:
        """Send, and return what the answer begins with.

        Raises:
            httpx.TransportError: What went wrong on the way.
        """
        limits, send_state = request.extensions["timeout"], request.extensions["progress"]
        head = head_of(request)
        if self._line is None:
            self._line = await self._kind.open(_target(request), limits["connect"])
        self._last = b"\r\nconnection: close\r\n" in head.lower()  # a header of the user's own
        send_state.begin()
        unsent = await _write(self._line, head, request.content, limits["write"], send_state)
        self._sent = unsent is None
        if self._sent:
            send_state.sent()
        self._limit = LAST_LOOK if isinstance(unsent, httpx.WriteTimeout) else limits["read"]
        deadline, in_time = (request.extensions.get(n) for n in ("deadline", "head_timeout"))
        self._deadline = sooner(deadline, None if in_time is None else time.monotonic() + in_time)
        self._reader = Reader()
        found: Head | None = None
        try:
            while found is None:
                if not (data := await self._line.read(self._patience())):
                    self._reader.end()
                found = self._reader.head(data)
        except httpx.TransportError as failure:
            raise unsent or failure from None
        send_state.heard()
        self._deadline = deadline  # the time for the body is limited by its reader
        return Answer(found.status, found.headers, {"hurry": self._hurry})

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer's body as it comes."""
        reader, line = self._reader, self._line
        if piece := reader.rest():
            yield piece
        while line is not None and not reader.over:
            data = await line.read(self._patience())
            if not data:
                reader.end()
            elif piece := reader.body(data):
                yield piece

    def _patience(self) -> float | None:
        """Return how long to wait for bytes: never beyond the end of the whole call."""
        if self._deadline is None:
            return self._limit
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("the answer was not complete before the deadline")
        return left if self._limit is None else min(left, self._limit)

    def _hurry(self, seconds: float) -> None:
        """Wait for the rest of the answer at most `seconds` each time."""
        self._limit = seconds if self._limit is None else min(seconds, self._limit)

    async def leave(self) -> bool:
        """Be done with the answer, read whole or not; say whether another request may come."""
        return self._sent and not self._last and self._reader.reusable

    async def close(self) -> None:
        """End the connection."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def __del__(self) -> None:
        """Close what a loop left behind that was closed without a word to its generators."""
        if self._line is not None and self._line.orphaned:
            self._line.close()


def _target(request: httpx.Request) -> Target:
    url = request.url
    host = url.raw_host.decode("ascii")
    secure = url.scheme == "https"
    name = str(request.extensions.get("sni_hostname") or host) if secure else None
    return Target(host, url.port or (443 if secure else 80), name)


async def _write(
    line: Stream, head: bytes, content: bytes, limit: float | None, send_state: SendState
) -> httpx.WriteError | httpx.WriteTimeout | None:
    """Send a request, in one write if it is small; return why not all of it could be sent.

    Two writes would be two packets and two system calls. A server may answer before it has read a
    large request, and leave or read no more: what it said is then still to be heard.
    """
    small = len(content) <= PIECE
    parts: Sequence[bytes | memoryview] = [head + content] if small else [head, *_pieces(content)]
    for number, part in enumerate(parts, 1):
        try:
            await line.write(part, limit)
        except (httpx.WriteError, httpx.WriteTimeout) as failure:
            if number < len(parts):
                send_state.hold_back()
            return failure
    return None


def _pieces(content: bytes) -> Iterator[memoryview]:
    whole = memoryview(content)
    return (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))
