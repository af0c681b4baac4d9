"""Bytes to events. Peers seen to fail a row are named (`tests/benchmarks/peers`)."""

from __future__ import annotations

import sys

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_tokenhub.errors import ServerError
from langchain_tokenhub.transport import Timeouts
from langchain_tokenhub.transport.sse import EventDecoder, StreamReader
from tests.conftest import unread


def decoded(*pieces, largest=1 << 20):
    decoder = EventDecoder(largest)
    return [event for piece in pieces for event in decoder.feed(piece)]


def split(stream, cuts):
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


ROWS = {
    "lf": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed ends": (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
    "no space": (b"data:a\n\n", [b"a"]),
    "one space only is accepted": (b"data:  a\n\n", [b" a"]),
    "several lines": (b"data: a\ndata: b\ndata:\n\n", [b"a\nb\n"]),
    "data without colon": (b"data\n\n", [b""]),
    "comment inside": (b"data: a\n: ping\ndata: b\n\n", [b"a\nb"]),
    "comments alone": (b": ping\n\n: ping\n\n", []),
    "id and retry": (b"id: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    "unknown field": (b"datum: x\ndata: a\n\n", [b"a"]),
    "bom (openai 3.54.0, groq 0.37.1, httpx-sse 0.4.3 lose the first event)": (
        b"\xef\xbb\xbfdata: a\n\n",
        [b"a"],
    ),
    "half a bom is no bom": (b"\xef\xbbdata: a\n\ndata: b\n\n", [b"b"]),
    "line separators (iter_lines of httpx 0.28.1 breaks them)": (
        "data: \u2028\u2029\u0085\x0b\x0c\x1c\x1e\n\n".encode(),
        ["\u2028\u2029\u0085\x0b\x0c\x1c\x1e".encode()],
    ),
    "no blank line at the end (mistralai 3.7.0 delivers half)": (b"data: a\n\ndata: b\n", [b"a"]),
    "chinese": ("data: 你好\n\n".encode(), ["你好".encode()]),
    "not utf-8 is passed on": (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
}


@pytest.mark.parametrize(("stream", "expected"), ROWS.values(), ids=ROWS)
def test_each_row(stream, expected):
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        assert [data for _, data in decoded(*pieces)] == expected


@pytest.mark.parametrize("end", [b"\r\r", b"\n\r\n", b"\r\n\r", b"\n\n"])
def test_an_event_is_dispatched_with_the_byte_that_ends_it(end):
    """httpx-sse 0.4.3 and httpx2 2.16.2 are late after CR CR, groq 0.37.1 after LF CRLF."""
    assert decoded(b"data: a" + end) == [(b"", b"a")]


def test_the_name_of_an_event_is_kept_for_that_event_alone():
    assert decoded(b"event: error\ndata: a\n\ndata: b\n\n") == [(b"error", b"a"), (b"", b"b")]


def test_an_unfinished_event_is_pending():
    decoder = EventDecoder()
    decoder.feed(b"data: a\n")
    assert decoder.is_pending
    decoder.feed(b"\n")
    assert not decoder.is_pending


A, B = b'{"a": 1}', b'{"b": 2}'
LINES = {
    "one line feed": (b"data: %s\ndata: %s\n" % (A, B), [A, B]),
    "one CRLF": (b"data: %s\r\ndata: %s\r\n" % (A, B), [A, B]),
    "one CR": (b"data: %s\rdata: %s\r" % (A, B), [A, B]),
    "and the end": (b"data: %s\ndata: %s\ndata: [DONE]\n" % (A, B), [A, B, b"[DONE]"]),
    "no data:": (b"%s\n%s\n" % (A, B), [A, B]),
    "over several lines": (b'data: {\ndata: "a": 1\ndata: }\n\n', [b'{\n"a": 1\n}']),
    "no data: over several lines": (b'{\n "a": 1\n}\n\n', [b'{\n "a": 1\n}']),
    "no end of line": (b"data: %s" % A, [A]),
    "no blank line": (b"data: %s\n\ndata: [DONE]\n" % A, [A, b"[DONE]"]),
    "cut in an object": (b'data: %s\n\ndata: {"b": ' % A, [A]),
    "cut in the end": (b"data: %s\n\ndata: [DON" % A, [A]),
}


def whole(*pieces):
    decoder = EventDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [data for _, data in [*events, *decoder.finish()]]


@pytest.mark.parametrize(("stream", "expected"), LINES.values(), ids=LINES)
def test_frames_that_no_blank_line_parts(stream, expected):
    assert whole(stream) == expected
    assert whole(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_a_frame_that_one_line_feed_ends_is_not_held_back_once_that_is_known():
    decoder = EventDecoder()
    decoder.feed(b"data: %s\ndata: %s\n" % (A, B))
    assert decoder.feed(b"data: %s\n" % A) == [(b"", A)]


def test_names_stay_with_their_frames_where_no_blank_line_parts_them():
    stream = b"data: %s\nevent: ping\ndata: {}\ndata: %s\n\n" % (A, B)
    assert decoded(stream) == [(b"", A), (b"ping", b"{}"), (b"", B)]


def read(stream):
    reader = StreamReader(unread(httpx.Response(200, content=b"")), Timeouts(), lambda: 0.0)
    return [*reader.feed(stream), *reader.finish()], reader.failure


HEARTBEATS = [
    *(b"data:", b"data: ", b"data:\t", b"data", b'data: ""', b"data: null", b"data: ping"),
    *(b"event: ping\ndata:", b'event: ping\ndata: {"type": "ping"}', b"event: heartbeat\ndata: 1"),
    *(b"event: keepalive\ndata: {}", b"event: keep-alive\ndata: x", b"event: comment\ndata: y"),
    *(b"data: [PING]", b"data: keep-alive", b"event: PING\ndata: 12:00"),
]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("beat", HEARTBEATS)
def test_a_heartbeat_is_no_value(beat, end):
    stream = b"data: %s%s%s%sdata: [DONE]%s" % (A, end, beat, end, end)
    assert read(stream) == ([{"a": 1}], None)


@pytest.mark.parametrize("done", [b"[DONE]", b'"[DONE]"', b"'[DONE]'", b" [DONE] ", b"[done]"])
def test_the_end_in_any_spelling(done):
    assert read(b"data: %s\n\ndata:%s\n\n" % (A, done)) == ([{"a": 1}], None)


@pytest.mark.parametrize(
    "glued",
    [b'{"a": 1}[DONE]', b'{"a": 1}data: [DONE]', b'{"a": 1} [DONE] \n', b'data: {"a": 1}[DONE]'],
)
def test_an_end_behind_its_last_value_is_the_end(glued):
    assert read(b"data: %s\n\n" % glued) == ([{"a": 1}], None)


def test_values_behind_each_other_are_values():
    stream = b'data: {"a": 1}{"b": "[DONE]"}\n\ndata: [{"c": 1}, {"d": 2}]\n\ndata: [DONE]\n\n'
    assert read(stream) == ([{"a": 1}, {"b": "[DONE]"}, {"c": 1}, {"d": 2}], None)


def test_a_byte_that_is_no_utf_8_becomes_the_replacement_character():
    assert read(b'data: {"a": "x\xffy"}\n\ndata: [DONE]\n\n') == ([{"a": "x\ufffdy"}], None)


FIELD = st.sampled_from([b"data: ", b"data:", b": ", b"event: ", b"id: ", b"x: "])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
END = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINE = st.tuples(FIELD, TEXT.map(str.encode), END).map(b"".join)
EVENT = st.tuples(st.lists(LINE, max_size=4).map(b"".join), END).map(b"".join)
STREAM = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(EVENT, max_size=6).map(b"".join)
)


@given(STREAM.map(b"".join), st.lists(st.integers(0, 10_000), max_size=30))
@example(b"\xef\xbb\xbfdata: a\r\n\r\n", [1, 2, 11, 12, 13])
def test_any_split_of_any_stream_gives_the_same_events(stream, cuts):
    assert decoded(*split(stream, cuts)) == decoded(stream)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=20))
def test_any_bytes_give_events_or_a_typed_error(stream, cuts):
    try:
        events = decoded(*split(stream, cuts), largest=64)
    except ServerError:
        return
    assert all(type(data) is bytes and len(data) <= 400 for _, data in events)


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: 0123456789\n", b"data\n", b"data:\n"])
def test_what_never_ends_is_refused_at_the_limit(piece):
    """openai 3.54.0, groq 0.37.1, httpx-sse 0.4.3 and mistralai 3.7.0 have no limit at all."""
    decoder = EventDecoder(10_000)
    for _ in range(9_900 // len(piece)):
        decoder.feed(piece)
    with pytest.raises(ServerError, match="10000 bytes"):
        decoder.feed(piece * (200 // len(piece) + 1))


def test_a_picture_of_four_mebibytes_passes():
    """httpx2 2.16.2 refuses more than 1 MiB, and so base64 pictures."""
    stream = b"data: " + b"x" * (4 << 20) + b"\n\n"
    (event,) = EventDecoder().feed(stream)
    assert len(event[1]) == 4 << 20


def work(size):
    """Count the bytecode lines that one large event in small pieces costs."""
    decoder, lines = EventDecoder(), 0

    def count(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        return count

    pieces = [b"data: ", *[b"x" * 64] * size, b"\n\n"]
    sys.settrace(count)
    try:
        for piece in pieces:
            decoder.feed(piece)
    finally:
        sys.settrace(None)
    return lines


def test_time_is_linear_in_the_size_of_an_event():
    """groq 0.37.1 copies the whole buffer for each chunk."""
    assert work(4000) / work(1000) < 4.2


def test_each_byte_of_a_large_event_is_copied_once_when_it_ends():
    decoder = EventDecoder()
    for _ in range(1000):
        decoder.feed(b"x" * 64)
    assert len(decoder._tail) == 1000  # pieces, not one growing copy
