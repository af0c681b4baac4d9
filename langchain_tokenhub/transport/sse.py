"""Bytes to server-sent events. Pure: fed what came, it returns what is complete.

Follows the WHATWG specification where it matters: UTF-8 whatever the header says, lines that end
in LF, CRLF or CR, several `data:` lines in an event, comments, a BOM, all of it split anywhere.
Works in linear time, however small the pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from pydantic_core import from_json

from langchain_tokenhub.errors import (
    APITimeoutError,
    IncompleteStreamError,
    ServerError,
    TokenHubError,
)
from langchain_tokenhub.transport.calls import Timeouts
from langchain_tokenhub.transport.error_mapping import values_of

LARGEST_EVENT = 16 * 1024 * 1024
"""Bytes of one event; a picture in base64 fits."""

_BOM = b"\xef\xbb\xbf"

Event = tuple[bytes, bytes]
"""Name (empty for a message) and data of an event."""


class EventDecoder:
    """Turns the pieces of a stream into events."""

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        self._head: bytes | None = b""  # what may be a BOM; None once that is settled
        self._after_cr = False
        self._tail: list[bytes] = []  # pieces of the line that is not yet complete
        self._name = b""
        self._tail_size = 0
        self._data: list[bytes] = []
        self._data_size = 0

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes.

        Raises:
            ServerError: An event is larger than the limit.
        """
        if self._head is not None or self._after_cr or b"\r" in piece:
            return self._feed(piece)
        events: list[Event] = []
        if self._tail or self._data or self._name:  # an event is half there
            end = piece.find(b"\n\n")
            cut = len(piece) if end < 0 else end + 2
            events, piece = self._feed(piece[:cut]), piece[cut:]
        if (end := piece.rfind(b"\n\n")) >= 0:
            events += self._whole(piece[: end + 2])
            piece = piece[end + 2 :]
        return events + self._feed(piece) if piece else events

    def _whole(self, piece: bytes) -> list[Event]:
        """Return the events of a piece that begins and ends with one, as nearly all do."""
        events: list[Event] = []
        for block in piece[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append((b"", block[6:]))
            else:
                events += self._feed(block + b"\n\n")
        if len(piece) > self._largest and any(len(data) > self._largest for _, data in events):
            raise self._too_large()
        return events

    def _feed(self, piece: bytes) -> list[Event]:
        if self._head is not None:
            piece = self._without_bom(piece)
        if b"\r" in piece or self._after_cr:
            piece = self._with_line_feeds(piece)
        events: list[Event] = []
        if b"\n" in piece:
            *lines, rest = piece.split(b"\n")
            if self._tail:
                lines[0] = b"".join((*self._tail, lines[0]))
            self._tail = [rest] if rest else []
            self._tail_size = len(rest)
            for line in lines:
                self._line(line, events)
        elif piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
        if self._tail_size + self._data_size > self._largest:
            raise self._too_large()
        return events

    def _too_large(self) -> ServerError:
        return ServerError(
            f"an event of the stream is larger than {self._largest} bytes", phase="streaming"
        )

    @property
    def pending(self) -> bool:
        """Whether the stream stopped in the middle of an event."""
        return bool(self._tail or self._data)

    def _without_bom(self, piece: bytes) -> bytes:
        head = (self._head or b"") + piece
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _with_line_feeds(self, piece: bytes) -> bytes:
        """Turn CRLF and CR to LF; an LF that follows a CR of the last piece was counted then."""
        if not piece:
            return piece
        ends_in_cr = piece.endswith(b"\r")
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        self._after_cr = ends_in_cr
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append((self._name, data))
                self._data = []
                self._data_size = 0
            self._name = b""
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._data_size += len(line) + 1
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line == b"data":
            self._data.append(b"")
            self._data_size += len(line) + 1
        # comments, `id`, `retry` and unknown fields carry nothing for us


Batch = list[Any]
"""The values of the events that came together."""


class StreamReader:
    """Hears a stream: its values, its end, its complaint, and how long it says nothing."""

    def __init__(
        self, response: httpx.Response, timeouts: Timeouts, now: Callable[[], float]
    ) -> None:
        self._response, self._patience, self._now = response, timeouts, now
        self._decoder = EventDecoder()
        self._heard, self._limit = now(), timeouts.first
        self._failure: TokenHubError | None = None
        self.stopped = False

    def hear(self, piece: bytes) -> Batch:
        """Return the values that `piece` completes; what comes before a complaint is one."""
        values: Batch = []
        for name, data in self._decoder.feed(piece):
            try:
                value = from_json(data)
            except ValueError:
                value = None
            if type(value) is dict and "choices" in value and not name:
                values.append(value)  # as nearly all are
            else:
                self._odd(name, data, values)
            if self.stopped:
                return values
        if not values:
            self._check_silence()
        return values

    def _odd(self, name: bytes, data: bytes, values: Batch) -> None:
        """Take an event that is no chunk of a completion."""
        if data.strip() == b"[DONE]":
            self.stopped = True
            return
        try:
            values += values_of(name, data, self._response)
        except TokenHubError as error:
            self.stopped, self._failure = True, error

    def rest(self) -> None:
        """Start the clock again; the time that the reader took is not the service's."""
        self._heard, self._limit = self._now(), self._patience.content

    def judge(self) -> None:
        """Raise what is wrong with how the stream ended."""
        if self._failure is not None:
            raise self._failure
        if not self.stopped:
            where = " inside an event" if self._decoder.pending else ""
            raise IncompleteStreamError(
                f"the stream ended{where} without `[DONE]`", phase="streaming"
            )

    def _check_silence(self) -> None:
        if self._limit is not None and self._now() - self._heard > self._limit:
            raise APITimeoutError(
                f"the stream was kept alive for {self._limit:g} s and said nothing",
                phase="streaming",
                hint="raise `timeout` if the model may think that long",
            )
