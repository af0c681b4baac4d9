"""How a request leaves: in one write if it is small, in pieces that each have time if not."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest

from langchain_tokenhub import APIConnectionError
from langchain_tokenhub.transport import SendState, run_sync
from langchain_tokenhub.transport.calls import HTTPRequest, parse_url
from langchain_tokenhub.transport.error_mapping import failure_to_send, phase_of
from langchain_tokenhub.transport.http import sockets
from langchain_tokenhub.transport.http.connect import Target
from langchain_tokenhub.transport.http.pool import Connection, ConnectionPool, encode_head
from langchain_tokenhub.transport.http.sockets import WRITE_SIZE

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LIMITS = {"connect": 1.0, "read": 5.0, "write": 7.0, "pool": None}


class Scripted:
    """A stream that records what is written, and reads from a script."""

    is_idle = True

    def __init__(self, *said, unsent=None, after=1):
        self.said, self.unsent, self.after = list(said), unsent, after
        self.writes = []
        self.closed = False

    async def write(self, data, limit):
        if self.unsent is not None and len(self.writes) >= self.after:
            raise self.unsent
        self.writes.append((bytes(data), limit))

    async def read(self, limit):
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    def close(self):
        self.closed = True


def send(stream, content=b"body", send_state=None, headers=None, deadline=None):
    """Send over `stream`, and return the connection and the response."""
    connection = Connection(ConnectionPool(), Target("a.test", 80, None), stream)
    request = HTTPRequest(
        "POST",
        parse_url("http://a.test/x"),
        headers or {},
        LIMITS,
        None,
        send_state or SendState(),
        content=content,
        deadline=deadline,
    )
    return connection, run_sync(connection.send(request, encode_head(request)))


async def body_of(connection):
    return b"".join([piece async for piece in connection.read()])


def test_head_and_body_leave_in_one_write():
    stream = Scripted(ANSWER)
    send(stream)
    ((written, limit),) = stream.writes
    assert written.startswith(b"POST /x HTTP/1.1\r\nhost: a.test\r\n")
    assert written.endswith(b"\r\n\r\nbody")
    assert limit == 7.0


def test_a_large_request_leaves_in_pieces_that_each_have_the_whole_patience():
    """One write of 20 MB has 30 s in all on asyncio, however steadily the server reads."""
    stream = Scripted(ANSWER)
    send(stream, b"x" * 3 * WRITE_SIZE)
    assert all(len(piece) <= WRITE_SIZE and limit == 7.0 for piece, limit in stream.writes)
    assert b"".join(piece for piece, _ in stream.writes).endswith(
        b"\r\n\r\n" + b"x" * 3 * WRITE_SIZE
    )


def test_what_was_said_before_a_write_failed_is_the_answer():
    """On asyncio, httpx 0.28.1 says that the connection broke."""
    stream = Scripted(ANSWER, unsent=httpx.WriteError("cut"))
    connection, answer = send(stream, b"x" * 3 * WRITE_SIZE)
    assert (answer.status, run_sync(body_of(connection))) == (200, b"hi")


def test_a_write_that_failed_without_an_answer_is_the_failure():
    send_state = SendState()
    stream = Scripted(httpx.ReadError("cut too"), unsent=httpx.WriteError("cut"))
    with pytest.raises(httpx.WriteError):
        send(stream, b"x" * 3 * WRITE_SIZE, send_state)
    assert send_state.is_under_way
    assert not send_state.is_body_sent
    assert not send_state.has_response


def test_what_was_said_by_a_server_that_reads_no_more_is_the_answer_and_its_last():
    """httpx 0.28.1 never looks."""
    stream = Scripted(ANSWER, unsent=httpx.WriteTimeout("full"))
    connection, answer = send(stream, b"x" * 3 * WRITE_SIZE)
    assert (answer.status, run_sync(body_of(connection))) == (200, b"hi")
    assert connection.is_reusable is False


def test_a_server_that_reads_no_more_and_says_nothing_is_a_timeout():
    send_state = SendState()
    stream = Scripted(httpx.ReadTimeout("silent"), unsent=httpx.WriteTimeout("full"))
    with pytest.raises(httpx.WriteTimeout) as caught:
        send(stream, b"x" * 3 * WRITE_SIZE, send_state)
    assert phase_of(caught.value, send_state) == "not sent"  # two pieces never left


def test_the_last_piece_of_a_request_that_the_server_reads_no_more_may_yet_leave():
    send_state, full = SendState(), httpx.WriteTimeout("full")
    stream = Scripted(httpx.ReadTimeout("silent"), unsent=full, after=0)
    with pytest.raises(httpx.WriteTimeout) as caught:
        send(stream, b"x", send_state)
    assert phase_of(caught.value, send_state) == "sent"


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_no_piece_is_begun_after_the_deadline(pieces, monkeypatch):
    clock, send_state, stream = [0.0], SendState(), Scripted()
    write = stream.write

    async def take_a_second(data, limit):
        clock[0] += 1.0
        await write(data, limit)

    stream.write = take_a_second
    monkeypatch.setattr(sockets, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with pytest.raises(httpx.WriteTimeout) as caught:
        send(stream, b"x" * 3 * WRITE_SIZE, send_state, deadline=pieces - 0.5)
    assert len(stream.writes) == max(0, pieces)
    assert phase_of(caught.value, send_state) == "not sent"


@pytest.mark.parametrize("kind", [httpx.WriteTimeout, httpx.ReadTimeout, httpx.ReadError])
def test_a_request_that_waits_for_its_tunnel_was_not_sent(kind):
    send_state = SendState()
    send_state.is_by_proxy = send_state.is_traced = True
    error = failure_to_send(kind("the proxy"), send_state)
    assert (error.phase, error.host_unavailable) == ("not sent", False)
    assert "HTTPS_PROXY" in str(error)


def test_a_breach_that_h2_finds_after_the_last_byte_is_the_servers():
    """It calls every breach a local one."""
    send_state = SendState()
    send_state.mark_started()
    send_state.is_body_sent = True
    error = failure_to_send(httpx.LocalProtocolError("frame"), send_state)
    assert (type(error), error.phase) == (APIConnectionError, "sent")


def test_the_send_state_records_how_far_a_request_came():
    send_state = SendState()
    send(Scripted(ANSWER), send_state=send_state)
    assert send_state.is_under_way
    assert send_state.is_body_sent
    assert send_state.has_response
    assert not send_state.is_by_proxy


REUSED = {
    "whole": ([ANSWER], True),
    "in pieces": ([ANSWER[:30], ANSWER[30:]], True),
    "after an interim answer": ([b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER], True),
    "more was said": ([ANSWER + b"HTTP/1.1 200 OK"], False),
    "HTTP/1.0": ([ANSWER.replace(b"1.1", b"1.0")], False),
    "the server will close": ([ANSWER.replace(b"OK", b"OK\r\nConnection: close")], False),
    "to the connection's end": ([b"HTTP/1.1 200 OK\r\n\r\nh", b"i", b""], False),
    "chunked": (
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"],
        True,
    ),
}


@pytest.mark.parametrize(("said", "again"), REUSED.values(), ids=REUSED)
def test_a_connection_is_reused_if_the_response_allows_it(said, again):
    connection, answer = send(Scripted(*said))
    assert (answer.status, run_sync(body_of(connection))) == (200, b"hi")
    assert connection.is_reusable is again


def test_a_connection_is_not_reused_if_the_user_asked_to_close_it():
    """A server may do so without saying that it does."""
    connection, _ = send(Scripted(ANSWER), headers={"Connection": "Close"})
    assert run_sync(body_of(connection)) == b"hi"
    assert connection.is_reusable is False


def test_a_response_that_is_closed_twice_releases_its_connection_once():
    connection, _ = send(Scripted(ANSWER))
    run_sync(body_of(connection))
    run_sync(connection.aclose())
    run_sync(connection.aclose())
    assert [len(idle) for idle in connection._pool._idle.values()] == [1]


def test_a_connection_that_is_left_early_is_not_reused():
    connection, _ = send(Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"))
    assert connection.is_reusable is False


def test_a_limited_body_leaves_the_next_response_its_whole_timeout():
    limits = []
    stream = Scripted(ANSWER[:-1], b"i", ANSWER)
    connection, _ = send(stream)
    read = stream.read

    async def as_record(limit):
        limits.append(limit)
        return await read(limit)

    stream.read = as_record
    connection.limit(0.1)
    assert run_sync(body_of(connection)) == b"hi"
    request = HTTPRequest("GET", parse_url("http://a.test/"), {}, LIMITS, None, SendState())
    run_sync(connection.send(request, encode_head(request)))
    assert limits == [pytest.approx(0.1, abs=0.09), 5.0]
