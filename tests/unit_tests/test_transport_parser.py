"""HTTP/1.1: what is written, read and refused, compared with h11."""

from __future__ import annotations

import sys
import weakref

import h11
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_tokenhub.transport.calls import HTTPRequest, SendState, parse_url
from langchain_tokenhub.transport.decoding import MAX_CHUNK_LINE, MAX_HEAD, ResponseParser
from langchain_tokenhub.transport.http.pool import encode_head

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces):
    """Return the body of a response that arrives in pieces, and its parser."""
    parser = ResponseParser()
    body = b"".join([parser.feed(piece) for piece in pieces])
    return body, parser


def split(stream, cuts):
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    return [piece for piece in pieces if piece]


def judged(stream, *, ended):
    """Return what h11 reads: status, body, and whether the answer is whole; None if it refuses."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(stream)
    if ended:
        connection.receive_data(b"")
    status, body = None, b""
    try:
        while True:
            match connection.next_event():
                case h11.Response(status_code=status):
                    pass
                case h11.Data(data=data):
                    body += bytes(data)
                case h11.EndOfMessage():
                    return status, body, True
                case h11.NEED_DATA:
                    return status, body, False
                case h11.InformationalResponse():
                    pass
    except h11.RemoteProtocolError:
        return None


# -- what is written --------------------------------------------------------------------------


def request(**headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    url = parse_url("https://a.test/v1/x?y=1")
    return HTTPRequest("POST", url, names, {}, None, SendState(), content=b"{}")


def test_a_head_is_what_h11_would_have_written():
    asked = request(authorization="Bearer sk", x_team="a b")
    judge = h11.Connection(h11.CLIENT)
    headers = [*asked.all_headers().items()]
    expected = judge.send(h11.Request(method="POST", target="/v1/x?y=1", headers=headers))
    assert encode_head(asked) == expected


@pytest.mark.parametrize(
    "value", ["a\r\nX-B: c", "a\nb", "a\x00", "a\x7f", "sk-key\n", " a", "a ", "sk-key é", "\ud800"]
)
def test_a_header_that_would_be_two_or_none_is_not_sent_and_not_quoted(value):
    with pytest.raises(httpx.LocalProtocolError) as caught:
        encode_head(request(x_a=value))
    assert "X-B" not in repr(caught.value)
    assert "sk-key" not in repr(caught.value)


@pytest.mark.parametrize("name", ["X A", "X:A", "X\r\nA", "", "Ä"])
def test_a_header_with_no_name_is_not_sent(name):
    with pytest.raises(httpx.LocalProtocolError):
        encode_head(request(**{name: "a"}))


# -- what is read -----------------------------------------------------------------------------


def test_headers_keep_their_order_and_lose_the_space_around_them():
    _, parser = read(OK + b"A:  1 \t\r\nb:2\r\nC:\r\nA: 3\r\nContent-Length: 0\r\n\r\n")
    assert parser.headers[:4] == [(b"A", b"1"), (b"b", b"2"), (b"C", b""), (b"A", b"3")]


def test_a_folded_header_is_one_line():
    _, parser = read(OK + b"A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n")
    assert parser.headers[0] == (b"A", b"1 2")


def test_interim_answers_are_passed_over():
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    body, parser = read(early + early + OK + b"Content-Length: 2\r\n\r\nhi")
    assert (parser.status, body) == (200, b"hi")


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body_whatever_they_say(status):
    body, parser = read(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    assert (body, parser.is_complete) == (b"", True)


def test_a_chunked_body_may_have_extensions_and_trailers():
    body, parser = read(CHUNKED + b"2;a=b\r\nhi\r\n1 \t\r\n!\r\n0\r\nX-End: 1\r\n\r\n")
    assert (body, parser.is_complete, parser.is_reusable) == (b"hi!", True, True)


ANSWERS = {
    "counted": OK + b"Content-Length: 5\r\n\r\nhello",
    "nothing": OK + b"Content-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "large chunks": CHUNKED + b"40\r\n" + b"x" * 64 + b"\r\n0A\r\n0123456789\r\n0\r\n\r\n",
    "extensions": CHUNKED + b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
    "line feeds alone in the head": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
    "to the end": OK + b"\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
}
REFUSED = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a header without a colon": OK + b"nonsense\r\n\r\n",
    "a header without a name": OK + b": a\r\n\r\n",
    "space before the colon": OK + b"A : b\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a length in words": OK + b"Content-Length: five\r\n\r\nhello",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "a chunk without a length": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk with a negative length": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk with an underscore": CHUNKED + b"1_0\r\nhello\r\n0\r\n\r\n",
    "a chunk with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    "a chunk of 2^64 bytes": CHUNKED + b"1" + b"0" * 16 + b"\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_is_read_in_any_pieces_is_what_h11_reads(answer):
    for pieces in ([answer], [answer[i : i + 1] for i in range(len(answer))]):
        body, parser = read(*pieces)
        if not parser.is_complete:
            parser.feed(b"")
        assert judged(answer, ended=True) == (parser.status, body, parser.is_complete)


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
def test_what_h11_refuses_is_refused(answer):
    assert judged(answer, ended=True) is None
    with pytest.raises(httpx.RemoteProtocolError):
        read(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"ICE/1.0 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        OK + b"A: b\0c\r\n\r\n",
        OK + b"A: b\rc\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\t\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n \r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: \r\n\r\n",
        CHUNKED + b"0\r\nA: b\0c\r\n\r\n",
        CHUNKED + b"2\nhi\n0\n\n",
    ],
)
def test_what_httptools_takes_or_others_read_otherwise_is_refused(answer):
    with pytest.raises(httpx.RemoteProtocolError):
        read(*[answer[i : i + 1] for i in range(len(answer))])
    with pytest.raises(httpx.RemoteProtocolError):
        read(answer)


def test_a_length_that_is_said_twice_is_refused_although_h11_takes_it():
    with pytest.raises(httpx.RemoteProtocolError):
        read(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello")


def test_zeros_before_the_length_of_a_chunk_do_not_change_it():
    body, parser = read(CHUNKED + b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n")
    assert (body, parser.is_reusable) == (b"hello", True)


def test_a_head_that_comes_alone_does_not_count_as_a_line_between_chunks():
    answer = OK + b"A: " + b"x" * 2 * MAX_CHUNK_LINE + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(answer, b"2\r\n", b"hi\r\n", b"0\r\n\r\n")[0] == b"hi"


@pytest.mark.parametrize("answer", [OK + b"Content-Length: 9\r\n\r\nhi", CHUNKED + b"5\r\nhi"])
def test_a_parser_that_is_closed_is_freed_without_the_garbage_collector(answer):
    parser = read(answer)[1]
    parser.close()
    seen = weakref.ref(parser)
    del parser
    assert seen() is None


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_ends_anywhere_is_whole_or_an_error_as_for_h11(answer):
    for length in range(len(answer)):
        judge = judged(answer[:length], ended=True)
        body, parser = read(*[answer[:length]] if length else [])
        if judge is None:
            with pytest.raises(httpx.RemoteProtocolError):
                parser.feed(b"")
        else:
            if not parser.is_complete:
                parser.feed(b"")
            assert (parser.status, body, parser.is_complete) == judge


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_bytes_beyond_an_answer_end_the_connection(answer):
    _, parser = read(answer + b"HTTP/1.1 200")
    assert (parser.status, parser.is_reusable) == (200, False)


def test_an_answer_that_says_its_end_in_two_ways_is_the_last_of_its_connection():
    body, parser = read(
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    )
    assert (parser.status, body, parser.is_complete, parser.is_reusable) == (
        200,
        b"hi",
        True,
        False,
    )


def test_a_head_that_comes_whole_has_the_same_limit():
    with pytest.raises(httpx.RemoteProtocolError):
        read(OK + b"A: " + b"x" * MAX_HEAD + b"\r\n\r\n")


@pytest.mark.parametrize(
    "endless",
    [
        OK + b"A: " + b"x" * MAX_HEAD,
        b"HTTP/1.1 103 X\r\n\r\n" * (MAX_HEAD // 18 + 1),
        CHUNKED + b"5;" + b"x" * 2 * MAX_CHUNK_LINE,
        CHUNKED + b"0\r\nA: " + b"x" * 2 * MAX_CHUNK_LINE,
    ],
    ids=["a head", "interim answers", "a chunk's extension", "a trailer"],
)
def test_what_never_ends_is_refused_at_the_limit(endless):
    with pytest.raises(httpx.RemoteProtocolError):
        read(*[endless[at : at + 1000] for at in range(0, len(endless), 1000)])


LENGTH = st.integers(0, 40)
BODIES = st.lists(st.binary(min_size=1, max_size=60), max_size=6)


def chunked(pieces):
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


@given(BODIES, st.lists(st.integers(0, 10_000), max_size=30))
def test_any_split_of_a_chunked_body_gives_the_same_bytes(pieces, cuts):
    body, parser = read(*split(chunked(pieces), cuts))
    assert (parser.status, body, parser.is_reusable) == (200, b"".join(pieces), True)


@given(st.lists(st.sampled_from([*b"0123\r\n;a: ", 0, 255]), max_size=60).map(bytes))
@example(b"5\r\nhello")
@example(b"3\r\n\r\n\r\n\r\n0\r\n\r\n")
def test_any_bytes_in_place_of_chunks_are_read_as_h11_reads_them(data):
    answer = CHUNKED + data
    expected = judged(answer, ended=False)
    try:
        body, parser = read(answer)
    except httpx.RemoteProtocolError:
        return  # stricter in places: h11 waits for more of what can no more be right
    if expected is None and b"0" * 20 in data:
        return  # h11 counts the zeros before a length
    assert expected is not None
    assert (parser.status, body, parser.is_complete) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
@example(OK + b"A: b\r\n\r\n", [3])
def test_any_bytes_give_an_answer_or_a_typed_error(data, cuts):
    try:
        read(*split(data, cuts))
    except httpx.RemoteProtocolError:
        return


def work(pieces):
    """Count the lines of Python that reading `pieces` runs."""
    lines = 0

    def count(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        read(*pieces)
    finally:
        sys.settrace(None)
    return lines


def test_time_is_linear_in_the_number_of_chunks_and_of_pieces():
    few, many = (work([chunked([b"hello"] * count)]) for count in (1000, 4000))
    assert many / few < 4.2
    few, many = (work([CHUNKED, b"ffffff\r\n", *[b"x" * 64] * count]) for count in (1000, 4000))
    assert many / few < 4.2


def test_an_answer_in_chunks_is_whole_whatever_follows_it():
    body, parser = read(CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + b"x" * (MAX_CHUNK_LINE + 1))
    assert (body, parser.is_complete, parser.is_reusable) == (b"hi", True, False)
