"""The time that another HTTP library may take until a response's head is complete."""

from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest

from langchain_tokenhub.transport import run_sync, runtime
from langchain_tokenhub.transport.calls import (
    HTTPRequest,
    SendState,
    SubmitCancelledError,
    parse_url,
)
from langchain_tokenhub.transport.error_mapping import phase_of
from langchain_tokenhub.transport.http.client import SyncCallerClient, send_in_time

HEADERS, BODY = "http11.send_request_headers.started", "http11.send_request_body.complete"


class Library:
    """A library that reports `events`, and then answers once it is released."""

    def __init__(self, *events):
        self.events, self.released = events, threading.Event()
        self.closed, self.trace = threading.Event(), None

    def __call__(self, trace):
        self.trace = trace
        for name in self.events:
            trace(name, {})
        self.released.wait(10)
        return self

    def close(self):
        self.closed.set()


def request(**limits):
    timeouts = dict.fromkeys(("pool", "connect", "read", "write"), 0.2) | limits
    send_state = SendState()
    send_state.mark_started(is_traced=False)
    url = parse_url("https://a.test")
    return HTTPRequest("POST", url, {}, timeouts, 0.01, send_state, content=b"{}")


@pytest.mark.parametrize(
    ("events", "phase"),
    [((), "sent"), (["http11.x"], "not sent"), ([HEADERS], "sent"), ([HEADERS, BODY], "sent")],
    ids=["nothing reported", "connecting", "sending", "waiting for the head"],
)
def test_a_library_that_takes_too_long_is_left_and_its_response_closed(events, phase):
    library, sent = Library(*events), request()
    with pytest.raises(httpx.TimeoutException) as caught:
        send_in_time(library, sent)
    assert phase_of(caught.value, sent.send_state) == phase
    library.released.set()
    assert library.closed.wait(10)


def test_a_request_that_was_left_is_not_begun_any_more():
    library, sent = Library("http11.x"), request()
    with pytest.raises(httpx.ConnectTimeout):
        send_in_time(library, sent)
    with pytest.raises(SubmitCancelledError):
        library.trace(HEADERS, {})
    assert not sent.send_state.is_under_way


def test_the_time_for_the_head_begins_when_the_request_is_sent():
    library, sent = Library(HEADERS, BODY), request(pool=None, connect=600.0)
    with pytest.raises(httpx.ReadTimeout, match="head"):
        send_in_time(library, sent)


def test_an_error_of_the_library_is_raised_as_it_is():
    def fail(trace):
        raise httpx.ReadError("reset")

    with pytest.raises(httpx.ReadError, match="reset"):
        send_in_time(fail, request())


class Stream:
    """What httpx says of the connection of a response."""

    def __init__(self, own):
        self.own = own

    def get_extra_info(self, name):
        return self.own


def wait_until_idle():
    for _ in range(1000):
        if runtime.idle_threads:
            return
        time.sleep(0.01)
    raise AssertionError("the thread does not end")


@pytest.mark.parametrize("is_late", [False, True])
def test_the_thread_that_limits_a_body_ends_with_it(is_late, monkeypatch):
    monkeypatch.setattr(runtime, "idle_threads", [])
    with socket.socket() as own:
        answer = httpx.Response(200, content=b"{}", extensions={"network_stream": Stream(own)})
        client = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
        sent = request(read=60.0, connect=60.0)
        response = run_sync(SyncCallerClient(client).send(sent))
        wait_until_idle()  # the thread that sent
        response.body.limit(60.0)
        assert not runtime.idle_threads
        response.body.limit(0.01) if is_late else run_sync(response.body.aclose())
        wait_until_idle()


def test_a_body_whose_time_cannot_be_limited_for_lack_of_threads_is_cut(monkeypatch):
    """Its request was sent: "no connection" would be false."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with socket.socket() as own:
        answer = httpx.Response(200, content=b"{}", extensions={"network_stream": Stream(own)})
        client = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
        response = run_sync(SyncCallerClient(client).send(request(read=60.0, connect=60.0)))
        monkeypatch.setattr(runtime, "idle_threads", [])
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(httpx.ReadError, match="new thread"):
            response.body.limit(1.0)
