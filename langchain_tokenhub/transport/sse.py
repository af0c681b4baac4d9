"""Decode server-sent events: bytes in, complete events out. Pure.

It follows the WHATWG specification: UTF-8 in spite of the header, lines that end in LF, CRLF or CR,
several `data:` lines in an event, comments and a BOM, split at any byte. It also reads three forms
that gateways send: JSON objects separated by one line end, JSON without `data:`, and a last event
without the blank line after it. The time is linear for pieces of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from langchain_tokenhub.errors import (
    FAULT_KEYS,
    APITimeoutError,
    IncompleteStreamError,
    ServerError,
    TokenHubError,
    clean,
    fault_in,
)
from langchain_tokenhub.transport.calls import HTTPResponse, Timeouts
from langchain_tokenhub.transport.decoding import parse, parse_event
from langchain_tokenhub.transport.error_mapping import refusal

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Bytes of one event, which may hold an image in base64."""

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"
_HEARTBEATS = frozenset(
    {b"", b"null", b"ping", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive", b"comment"}
)
"""Names and texts of events without content."""
_SUCCESS = (None, "", 0, "0", 200, "200")
_LABELS = frozenset(
    {"role", "type", "id", "name", "format", "object", "finish_reason", "stop_reason", "logprobs"}
)
"""Fields of a delta whose text is not content."""

Event = tuple[bytes, bytes]
"""Name (empty for a message) and data of an event."""


class EventDecoder:
    """Decodes the pieces of a stream to events."""

    def __init__(self, largest: int = MAX_EVENT_BYTES) -> None:
        self._largest = largest
        self._is_after_cr = False
        self._tail: list[bytes] = []  # pieces of the incomplete line
        self._tail_size = 0
        self._name = self._name_before_data = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._is_bare = False  # the data are JSON without `data:`
        self._is_line_delimited = False  # an object ends with its line; no blank line follows

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes.

        Raises:
            ServerError: An event is larger than the limit.
        """
        if self._is_after_cr or b"\r" in piece:
            piece = self._normalize_line_ends(piece)
        events: list[Event] = []
        if self._tail or self._data or self._name:  # an event is incomplete
            end = piece.find(b"\n\n")
            cut = len(piece) if end < 0 else end + 2
            events, piece = self._feed(piece[:cut]), piece[cut:]
        if (end := piece.rfind(b"\n\n")) >= 0:
            events += self._split_events(piece[: end + 2])
            piece = piece[end + 2 :]
        return events + self._feed(piece) if piece else events

    def finish(self) -> list[Event]:
        """Return the event that the end of the stream completes; a truncated one stays pending."""
        events: list[Event] = []
        if self._tail:
            line, self._tail = b"".join(self._tail), []
            self._read_line(line, events)
        if self._has_whole_value():
            self._dispatch(self._name, events)
        return events

    @property
    def is_pending(self) -> bool:
        """Whether the stream stopped in the middle of an event."""
        return bool(self._tail or self._data)

    def _split_events(self, piece: bytes) -> list[Event]:
        """Return the events of a piece that consists of whole events, as nearly all do."""
        events: list[Event] = []
        for block in piece[:-2].split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append((b"", block[6:]))
            else:
                events += self._feed(block + b"\n\n")
        if len(piece) > self._largest and any(len(data) > self._largest for _, data in events):
            raise self._too_large_error()
        return events

    def _feed(self, piece: bytes) -> list[Event]:
        events: list[Event] = []
        if b"\n" in piece:
            *lines, rest = piece.split(b"\n")
            if self._tail:
                lines[0] = b"".join((*self._tail, lines[0]))
            self._tail = [rest] if rest else []
            self._tail_size = len(rest)
            for line in lines:
                self._read_line(line, events)
        elif piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
        if self._tail_size + self._data_size > self._largest:
            raise self._too_large_error()
        return events

    def _too_large_error(self) -> ServerError:
        problem = f"an event of the stream is larger than {self._largest} bytes"
        return ServerError(problem, phase="streaming")

    def _normalize_line_ends(self, piece: bytes) -> bytes:
        """Replace CRLF and CR by LF; the CRLF may be split between two pieces."""
        if piece:
            ends_in_cr = piece.endswith(b"\r")
            piece = piece.removeprefix(b"\n") if self._is_after_cr else piece
            self._is_after_cr = ends_in_cr
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(self._name, events)
        elif line.startswith(b"data:") or line == b"data":
            self._add_data(line[5:].removeprefix(b" "), len(line), events)
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif self._is_bare or (not self._data and line.lstrip().startswith(b"{")):
            self._add_data(line, len(line), events, is_bare=True)
        # comments, `id`, `retry` and unknown fields are ignored

    def _add_data(
        self, data: bytes, size: int, events: list[Event], *, is_bare: bool = False
    ) -> None:
        """Add a line of data; a complete JSON object before it is an event of its own."""
        is_first = len(self._data) == 1 or (self._is_bare and not is_bare)
        if is_first and self._has_whole_value():
            self._is_line_delimited = True
            self._dispatch(self._name_before_data, events)
        if not self._data:
            self._name_before_data = self._name
        self._is_bare = is_bare
        self._data.append(data)
        self._data_size += size + 1
        if self._is_line_delimited and len(self._data) == 1 and self._has_whole_value():
            self._dispatch(self._name, events)

    def _dispatch(self, name: bytes, events: list[Event]) -> None:
        if self._data:
            events.append((name, self._join_data()))
            self._data, self._data_size, self._is_bare = [], 0, False
        self._name = b"" if self._name == name else self._name

    def _join_data(self) -> bytes:
        return self._data[0] if len(self._data) == 1 else b"\n".join(self._data)

    def _has_whole_value(self) -> bool:
        """Return True if the data are a whole JSON object or `[DONE]`."""
        data = self._join_data().strip()
        if _is_done(data):
            return True
        if not (data.startswith(b"{") and data.endswith(b"}")):
            return False
        try:
            return isinstance(parse(data), dict)
        except ServerError:
            return False


def _is_done(data: bytes) -> bool:
    """Return True if the data of an event mark the end of the stream."""
    return len(data) < 32 and data.strip().strip(b"\"'").strip().upper() == _DONE


def _is_heartbeat(data: bytes) -> bool:
    """Return True if the data of an event only keep the connection open."""
    if not data or data.isspace():
        return True
    return len(data) < 32 and data.strip().strip(b"\"'[]:").strip().lower() in _HEARTBEATS


def _has_plain_text(value: Any) -> bool:
    """Return True if `value` has text, reasoning or arguments in the usual fields."""
    try:
        delta = value["choices"][0]["delta"]
        text = delta.get("content") or delta.get("reasoning_content")
        if not text:
            text = delta["tool_calls"][0]["function"]["arguments"]
    except (TypeError, LookupError, AttributeError):
        return False
    return type(text) is str and text != ""


def _is_error(value: Any) -> bool:
    """Return True if an event reports an error, or holds a code and a message and no content."""
    match value:
        case {"code": code, "message": str() | None} | {"code": code, "msg": str()}:
            if "choices" not in value and "usage" not in value and code not in _SUCCESS:
                return True
    return fault_in(value) is not None


def is_chunk(value: Any) -> bool:
    """Return True if `value` is a chunk of a completion, not a whole one."""
    return isinstance(value, dict) and isinstance(_first_choice(value).get("delta"), dict)


def _first_choice(value: Mapping[str, Any]) -> dict[str, Any]:
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _has_text(value: Any, depth: int = 8) -> bool:
    """Return True if there is a non-empty string in `value`, labels aside."""
    match value:
        case str():
            return bool(value)
        case list():
            return depth == 0 or any(_has_text(item, depth - 1) for item in value)
        case dict():
            items = value.items()
            return depth == 0 or any(k not in _LABELS and _has_text(v, depth - 1) for k, v in items)
        case _:
            return False


def without_error(value: Any) -> Batch:
    """Return the content next to an error as a chunk, or nothing."""
    choice = _first_choice(value) if isinstance(value, dict) else {}
    content = {name: choice[name] for name in ("index", "delta", "message") if name in choice}
    if not _has_text(content):
        return []
    rest = {name: item for name, item in value.items() if name not in FAULT_KEYS}
    return [{**rest, "choices": [content]}]


Batch = list[Any]
"""The values of the events that arrived together."""


class StreamReader:
    """Reads a stream's values, end and error, and limits the time without content."""

    def __init__(
        self, response: HTTPResponse, timeouts: Timeouts, now: Callable[[], float]
    ) -> None:
        self._response, self._timeouts, self._now = response, timeouts, now
        self._decoder = EventDecoder()
        self._content_at = self._fed_at = now()
        self._limit = timeouts.first
        self._marks: tuple[Any, Any] = (None, None)  # the last empty tool call, and the usage
        self.failure: TokenHubError | None = None
        """The error in the stream; set by `finish` if its end is missing."""
        self.is_stopped = False

    def feed(self, piece: bytes) -> Batch:
        """Return the values that `piece` completes; those before an error event are returned.

        Raises:
            APITimeoutError: The stream continues, but has had no content for too long.
        """
        values = self._values(self._decoder.feed(piece))
        self._fed_at = self._now()
        if any(map(self._has_content, values)):
            self._content_at, self._limit = self._fed_at, self._timeouts.content
        elif not self.is_stopped and self._fed_at - self._content_at > (self._limit or math.inf):
            raise self.timeout_error()
        return values

    def seconds_left(self) -> float | None:
        """Return the seconds for which the stream may still have no content; None is no limit."""
        if self._limit is None:
            return None
        return max(0.0, self._content_at + self._limit - self._now())

    def timeout_error(self) -> APITimeoutError:
        """Return the error of a stream without content."""
        problem = f"the stream had no content for {self._limit:g} s"
        hint = "raise `timeout` if the model may reason that long"
        return APITimeoutError(problem, phase="streaming", hint=hint)

    def finish(self) -> Batch:
        """Return the last values, and set `failure` if the stream has no proper end."""
        if self.is_stopped:
            return []
        values = self._values(self._decoder.finish())
        if not self.is_stopped:
            where = " inside an event" if self._decoder.is_pending else ""
            problem = f"the stream ended{where} without `[DONE]`"
            self.failure = IncompleteStreamError(problem, phase="streaming")
        return values

    def resume(self) -> None:
        """Do not count the time since `feed` returned, which the reader of the values took."""
        self._content_at += self._now() - self._fed_at
        self.limit_body()

    def limit_body(self) -> None:
        """Limit the time for the rest of the body to that without content."""
        if (seconds := self.seconds_left()) is not None:
            self._response.body.limit(seconds)

    def _values(self, events: list[Event]) -> Batch:
        """Return the values of `events`, up to the end of the stream or an error."""
        values: Batch = []
        for name, data in events:
            value: Any = None
            try:
                value = from_json(data)
                choice = value["choices"][0]
                is_chunk_alone = (
                    not name
                    and "error" not in choice["delta"]
                    and "error" not in choice
                    and "message" not in choice
                    and FAULT_KEYS.isdisjoint(value)
                )
            except (ValueError, TypeError, LookupError):
                is_chunk_alone = False
            if is_chunk_alone:  # as nearly all are
                values.append(value)
            else:
                self._read_other(name, data, value, values)
            if self.is_stopped:
                break
        return values

    def _read_other(self, name: bytes, data: bytes, value: Any, values: Batch) -> None:
        """Add the values of an event that is not a plain chunk of text."""
        if _is_done(data):
            self.is_stopped = True
            return
        if value is None and data.rstrip().endswith(_DONE):  # it follows JSON without a line end
            self._read_other(name, data.rstrip().removesuffix(_DONE), None, values)
            self.is_stopped = True
            return
        name = name.lower()
        if _is_heartbeat(data) or (name and name in _HEARTBEATS):
            return
        try:
            found = parse_event(data) if value is None else [value]
        except ServerError as error:
            text = data.decode("utf-8", "replace")
            self._fail(refusal(self._response, text) if name == b"error" else error)
            return
        if len(found) == 1 and isinstance(found[0], list):
            found = found[0]
        for one in found:
            is_error = name == b"error" or _is_error(one)
            if not is_error and not isinstance(one, dict):
                excerpt = clean(str(one), 200)
                self._fail(ServerError(f"a chunk of the stream is not a JSON object: {excerpt}"))
                break
            values += without_error(one) if is_error else [one]
            if is_error:
                self._fail(refusal(self._response, one))
                break

    def _fail(self, error: TokenHubError) -> None:
        self.is_stopped, self.failure = True, error

    def _has_content(self, value: dict[str, Any]) -> bool:
        """Return True if a value has text, or a tool call or usage that differs from the last.

        A chunk that only has a role, or repeats the last, is a heartbeat.
        """
        if _has_plain_text(value) or _has_text(value.get("choices")):
            return True
        delta = _first_choice(value).get("delta")
        calls = delta.get("tool_calls") if isinstance(delta, dict) else None
        marks = (calls or self._marks[0], value.get("usage") or self._marks[1])
        is_new, self._marks = marks != self._marks, marks
        return is_new
