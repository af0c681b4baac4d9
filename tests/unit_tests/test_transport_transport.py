"""The whole transport over a scripted wire: what is repeated, where, and what an error says."""

from __future__ import annotations

import json
import logging
import pickle
import re
import ssl
import traceback
from contextlib import aclosing

import httpx
import pytest

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    IncompleteStreamError,
    InvalidRequestError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    SubmissionUnknownError,
    TokenHubError,
)
from langchain_tokenhub.transport import Call, SendState, Timeouts, iterate_sync, run_sync
from tests.conftest import answer, scripted

CANARY = "sk-test-canary"
DONE = b"data: [DONE]\n\n"


def refused():
    return httpx.ConnectError("refused")


def distrusted():
    try:
        try:
            raise ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED")
        except ssl.SSLError as inner:
            raise httpx.ConnectError("CERTIFICATE_VERIFY_FAILED") from inner
    except httpx.ConnectError as error:
        return error


def stream(*pieces, kind="text/event-stream", **headers):
    body = httpx.ByteStream(b"".join(pieces))
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, headers={"content-type": kind, **names}, stream=body)


def ask(transport, retry_class="read", **details):
    return run_sync(
        transport.json(Call(path="/v1/x", body={"a": 1}, retry_class=retry_class, **details))
    )


def failure(transport, retry_class="read", **details):
    with pytest.raises(TokenHubError) as caught:
        ask(transport, retry_class, **details)
    return caught.value


def hosts_of(transport):
    return [request.url.host for request in transport.runtime.sent]


async def events(transport):
    answer = await transport.stream(Call(path="/v1/x", body={}, retry_class="chat"))
    async with aclosing(answer.data) as batches:
        async for batch in batches:
            yield batch


def heard(transport):
    return list(iterate_sync(events(transport)))


def cut_off(transport):
    with pytest.raises(TokenHubError) as caught:
        heard(transport)
    return caught.value


# -- hosts ------------------------------------------------------------------------------------


def test_fail_over_is_logged_once(caplog):
    transport = scripted(refused(), *[answer() for _ in range(3)])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            ask(transport)
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"host a\.test marked unavailable for \d+ s", line)


def test_when_both_are_down_the_primarys_error_is_raised_with_the_backups_beside():
    error = failure(scripted(refused(), httpx.ConnectTimeout("slow"), max_retries=0))
    assert error.host == "a.test"
    assert isinstance(error.__context__, APITimeoutError)
    assert "b.test" in error.__notes__[0]


@pytest.mark.parametrize(
    "first",
    [
        httpx.ReadTimeout("silent"),
        httpx.RemoteProtocolError("cut"),
        httpx.ProxyError("407"),
        httpx.PoolTimeout("ours"),
        answer({"error": {"code": "429001", "message": "m"}}, status=429),
        answer({"error": {"code": "503001", "message": "m"}}, status=503),
        answer({"error": {"code": "401001", "message": "m"}}, status=401),
    ],
    ids=["silence", "cut", "proxy", "pool", "429", "503 by the service", "401"],
)
def test_what_is_not_unavailability_never_fails_over(first):
    transport = scripted(first, answer(), answer())
    try:
        ask(transport)
        ask(transport)
    except AuthenticationError:
        pass
    assert set(hosts_of(transport)) == {"a.test"}


def test_an_untrusted_certificate_is_neither_repeated_nor_evaded():
    transport = scripted(distrusted())
    assert isinstance(failure(transport), APIConnectionError)
    assert hosts_of(transport) == ["a.test"]


def test_a_host_whose_name_is_bad_punycode_is_a_wrong_address():
    error = failure(scripted(origins=["https://xn--ls8h.test"]))
    assert (type(error), error.phase) == (InvalidRequestError, "not sent")


def page(status=502):
    return httpx.Response(status, stream=httpx.ByteStream(b"<html>bad gateway</html>"))


def test_two_gateway_pages_send_reads_to_the_backup():
    transport = scripted(page(), page(), answer())
    assert ask(transport).host == "b.test"


def test_gateway_pages_do_not_send_chats_elsewhere():
    transport = scripted(page(), page(), answer())
    assert ask(transport, "chat").host == "a.test"


# -- repetitions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", [httpx.ReadTimeout("silent"), httpx.RemoteProtocolError("cut"), page(500), page(502)]
)
def test_a_submit_whose_outcome_is_unknown_is_one_post(first):
    transport = scripted(first)
    error = failure(transport, "submit")
    assert isinstance(error, SubmissionUnknownError)
    assert len(transport.runtime.sent) == 1
    assert (error.host, error.attempts, error.job) == ("a.test", 1, None)


def test_an_unknown_submit_is_logged(caplog):
    failure(scripted(httpx.ReadTimeout("silent")), "submit")
    assert "may have been accepted" in caplog.text


def test_an_error_inside_a_200_refuses_a_submit():
    body = {"error": {"code": "InternalError", "message": "m"}}
    assert type(failure(scripted(answer(body)), "submit")) is ServerError


def test_a_submit_answered_with_nonsense_is_unknown():
    transport = scripted(stream(b"<html>", kind="text/html"))
    assert isinstance(failure(transport, "submit"), SubmissionUnknownError)


def test_the_same_bytes_are_sent_in_every_attempt_under_one_id():
    transport = scripted(page(502), page(502), answer())
    ask(transport, "chat")
    assert len({request.content for request in transport.runtime.sent}) == 1
    assert len({request.headers["x-client-request-id"] for request in transport.runtime.sent}) == 1


def test_retry_after_is_waited():
    transport = scripted(answer(status=429, retry_after="7"), answer())
    ask(transport)
    assert 7 <= transport.runtime.slept[0] <= 8


def test_the_deadline_ends_the_repetitions():
    transport = scripted(*[page(500) for _ in range(99)], max_retries=99)
    error = failure(transport, deadline=transport.runtime.now() + 20)
    assert transport.runtime.now() <= 1020
    assert error.elapsed <= 20


def test_an_empty_budget_makes_the_first_error_final(caplog):
    transport = scripted(page(500), page(500), max_retries=9)
    while transport.endpoint.budget.withdraw():
        pass
    error = failure(transport)
    assert len(transport.runtime.sent) == 1
    assert "retry budget" in error.__notes__[0]
    assert "retry budget" in caplog.text


def test_a_repetition_renews_the_progress_so_that_an_interruption_need_not_wait():
    send_state = SendState()
    transport = scripted(answer(status=429), answer())
    seen = []
    transport.runtime.sleep = lambda seconds: _note(seen, send_state)
    send_state.is_under_way = True
    ask(transport, "submit", send_state=send_state)
    assert seen == [False]


async def _note(seen, send_state):
    seen.append(send_state.is_under_way)


# -- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused(status):
    """httpx would strip Authorization, and forward the body and custom key headers."""
    transport = scripted(answer(status=status, location="https://evil.test/"))
    assert isinstance(failure(transport, "submit"), InvalidRequestError)
    assert len(transport.runtime.sent) == 1


def test_the_request_id_of_the_header_is_in_the_answer():
    assert ask(scripted(answer(x_request_id="r-1"))).request_id == "r-1"


def test_an_error_says_where_when_and_how_often():
    error = failure(scripted(*[answer(status=500, x_request_id=f"r-{n}") for n in range(3)]))
    assert (error.host, error.attempts, error.request_id) == ("a.test", 3, "r-2")
    assert (error.phase, error.status) == ("answered", 500)
    assert error.elapsed > 0
    assert len(error.client_request_id) == 32


def test_a_long_complaint_is_read_in_part():
    long = httpx.Response(400, stream=httpx.ByteStream(b'{"error": "' + b"x" * 200_000 + b'"}'))
    error = failure(scripted(long))
    assert isinstance(error, InvalidRequestError)
    assert len(error.response.text) <= 65536


# -- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [[], [b": ping\n\n"], [b'data: {"choices": 1}\n\n'], [b'data: {"choices": 1}\n\ndata: {"ch']],
    ids=["nothing", "comments", "no DONE", "inside an event"],
)
def test_a_stream_that_ends_without_done_is_incomplete(pieces):
    """openai 3.54.0 and langchain-openai 1.7.3 end in silence with what they have."""
    transport = scripted(stream(*pieces), max_retries=0)
    assert isinstance(cut_off(transport), IncompleteStreamError)


ERROR_FRAMES = {
    "error": '{"error": {"code": "429001", "message": "slow"}}',
    "Response": '{"Response": {"Error": {"Code": "429001", "Message": "slow"}}}',
    "ErrorMsg alone": '{"ErrorMsg": {"Code": "429001", "Msg": "slow"}}',
    "an event's name": '{"code": "x", "error_code": "429001", "message": "slow"}',
    "beside no choices": '{"choices": [], "error": {"code": "429001", "message": "slow"}}',
    "beside a finish": '{"choices": [{"delta": {"content": ""}, "finish_reason": "error"}],'
    ' "error": {"code": "429001", "message": "slow"}}',
    "beside text": '{"choices": [{"delta": {"content": "b"}}],'
    ' "error": {"code": "429001", "message": "slow"}}',
    "in the choice": '{"choices": [{"delta": {"content": "b"},'
    ' "error": {"code": "429001", "message": "slow"}}]}',
    "by status": '{"choices": [], "error": {"code": 429, "message": "slow"}}',
    "by type": '{"choices": [], "error": {"code": null, "type": "rate_limit_error",'
    ' "message": "slow"}}',
    "ErrorMsg": '{"choices": [], "ErrorMsg": {"Code": "429001", "Msg": "slow"}}',
    "error_code": '{"choices": [], "error_code": "429001", "error_message": "slow"}',
    "an object": '{"object": "error", "code": 429, "message": "slow"}',
}


@pytest.mark.parametrize("frame", ERROR_FRAMES.values(), ids=ERROR_FRAMES)
def test_an_error_frame_has_the_class_of_its_code(frame):
    """openai 3.54.0 knows the first form alone."""
    said = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    name = b"" if frame != ERROR_FRAMES["an event's name"] else b"event: error\n"
    error = cut_off(scripted(stream(said, name, b"data: " + frame.encode() + b"\n\n", DONE)))
    assert isinstance(error, RateLimitError)
    assert (error.status, error.host) == (200, "a.test")
    assert "slow" in error.message


TEXT_ERRORS = {
    "a string": ('{"choices": [], "error": "boom"}', ServerError),
    "true": ('{"choices": [], "error": true, "message": "boom"}', ServerError),
    "base_resp": (
        '{"choices": null, "base_resp": {"status_code": 1008, "status_msg": "boom"}}',
        QuotaExhaustedError,
    ),
}


@pytest.mark.parametrize(("frame", "cls"), TEXT_ERRORS.values(), ids=TEXT_ERRORS)
def test_an_error_in_a_chunk_keeps_its_words(frame, cls):
    for transport in (
        scripted(stream(b"data: " + frame.encode() + b"\n\n", DONE), max_retries=0),
        scripted(answer(json.loads(frame)), max_retries=0),
    ):
        error = cut_off(transport)
        assert type(error) is cls
        assert "boom" in error.message


def test_an_error_event_of_plain_text_keeps_its_words():
    error = cut_off(scripted(stream(b"event: error\ndata: upstream is gone\n\n"), max_retries=0))
    assert "upstream is gone" in error.message
    assert type(error) is ServerError


NO_ERRORS = [
    '"error": null',
    '"error": {}',
    '"error": ""',
    '"error": {"code": null, "message": ""}',
    '"error": {"code": 0, "message": "success"}',
    '"error": {"code": "0"}',
    '"base_resp": {"status_code": 0, "status_msg": ""}',
    '"error_code": 0',
]


def test_what_says_that_there_is_no_error_is_none():
    for field in NO_ERRORS:
        chunk = f'{{"choices": [{{"delta": {{"content": "a"}}}}], {field}}}'
        assert heard(scripted(stream(f"data: {chunk}\n\n".encode(), DONE))) == [[json.loads(chunk)]]
        assert ask(scripted(answer(json.loads(chunk)))).data == json.loads(chunk)


# -- events that nobody asked for ----------------------------------------------------------


CHUNKS = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n' * 2


def test_an_error_after_events_instead_of_json_comes_with_them():
    frame = b'data: {"error": {"code": "429001", "message": "m"}}\n\n'
    data = ask(scripted(stream(CHUNKS, frame)), "chat").data
    assert (len(data.values), type(data.failure)) == (2, RateLimitError)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "1"}\n\ndata: [DONE]\n\n',
        b'{\n  "id": "1"\n}\ndata: [DONE]\n',
        b'data: {"id": "1"}\n\n',
        b'event: message\ndata: {"id": "1"}\n\ndata: [DONE]\n\n',
        b': ping\n\n\n{"id": "1"}',
    ],
)
def test_one_value_in_an_event_is_the_answer(body):
    assert ask(scripted(stream(body)), "submit").data == {"id": "1"}


def test_events_with_the_content_type_of_json_are_a_stream_all_the_same():
    assert len(heard(scripted(stream(CHUNKS, DONE, kind="application/json")))[0]) == 2


def test_json_with_the_content_type_of_events_is_one_value():
    whole = b'{"choices": [{"message": {"content": "a"}}]}'
    said = iterate_sync(events(scripted(stream(whole))))
    assert next(said) == [json.loads(whole)]


def test_nothing_is_repeated_after_the_first_event():
    transport = scripted(stream(b'data: {"choices": 1}\n\n'))
    error = cut_off(transport)
    assert len(transport.runtime.sent) == 1
    assert (error.attempts, error.phase) == (1, "streaming")
    assert error.elapsed is not None


class Slow(httpx.AsyncByteStream):
    """Comments, and a clock that goes on between them."""

    def __init__(self, pieces, seconds):
        self.pieces, self.seconds, self.runtime = pieces, seconds, None

    async def __aiter__(self):
        for piece in self.pieces:
            self.runtime.time += self.seconds
            yield piece


def slow(pieces, seconds, status=200):
    body = Slow(pieces, seconds)
    response = httpx.Response(status, headers={"content-type": "text/event-stream"}, stream=body)
    transport = scripted(response, max_retries=0)
    body.runtime = transport.runtime
    return transport


EMPTY = {
    "the role alone": {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    "nothing": {"choices": [{"delta": {}}]},
    "no choice": {"choices": []},
    "nulls": {"choices": [{"delta": {"content": None, "reasoning_content": None}}]},
    "empty parts": {"choices": [{"delta": {"content": [{"type": "text", "text": ""}]}}]},
    "the same call": {
        "choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}}]
    },
    "the same usage": {"choices": [], "usage": {"total_tokens": 3}},
    "a ping": {"type": "ping"},
}


@pytest.mark.parametrize("chunk", EMPTY.values(), ids=EMPTY)
def test_events_without_content_do_not_keep_a_stream_alive(chunk):
    frame = f"data: {json.dumps(chunk)}\n\n".encode()
    assert isinstance(cut_off(slow([frame] * 999, 10.0)), APITimeoutError)


def test_heartbeats_that_take_turns_do_not_keep_a_stream_alive():
    frames = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in EMPTY.values()]
    assert isinstance(cut_off(slow(frames * 99, 10.0)), APITimeoutError)


SAID = {
    "text": {"content": " "},
    "reasoning": {"reasoning_content": "a"},
    "details": {"reasoning_details": [{"type": "reasoning.text", "text": "a"}]},
    "arguments": {"tool_calls": [{"index": 0, "function": {"arguments": "1"}}]},
}


@pytest.mark.parametrize("delta", SAID.values(), ids=SAID)
def test_a_stream_with_content_may_take_as_long_as_it_likes(delta):
    frame = f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode()
    assert len(heard(slow([*[frame] * 99, DONE], 100.0))) == 99


def test_usage_that_grows_is_progress():
    frames = [
        f'data: {{"choices": [], "usage": {{"completion_tokens": {n}}}}}\n\n'.encode()
        for n in range(1, 99)
    ]
    assert len(heard(slow([*frames, DONE], 100.0))) == 98


@pytest.mark.parametrize("retry_class", ["chat", "submit"])
def test_a_whole_answer_that_drips_comes_to_an_end(retry_class):
    transport = slow([b" "] * 99_999, 0.25)
    error = failure(transport, retry_class, timeouts=Timeouts(read=10.0))
    assert 1030 < transport.runtime.now() < 1031
    assert error.phase == "answered"
    assert isinstance(error, SubmissionUnknownError if retry_class == "submit" else APITimeoutError)


def test_the_head_of_an_answer_has_a_limit_of_its_own():
    transport = scripted(answer(), stream(b'data: {"choices": 1}\n\n', DONE))
    ask(transport, timeouts=Timeouts(read=10.0))
    heard(transport)
    assert [r.head_timeout for r in transport.runtime.sent] == [30.0, 300.0]


def test_the_readers_own_time_is_not_the_streams_silence():
    transport = slow([b'data: {"choices": 1}\n\n', b": ping\n\n", DONE], 1.0)
    said = iterate_sync(events(transport))
    next(said)
    transport.runtime.time += 10_000
    assert list(said) == []


# -- what an error holds ----------------------------------------------------------------------


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


WAYS = {
    "refused": lambda: [refused(), refused()],
    "silence": lambda: [
        httpx.ReadTimeout(f"key {CANARY}", request=httpx.Request("GET", "https://x"))
    ],
    "401 that echoes the key": lambda: [answer({"error": {"message": f"no {CANARY}"}}, status=401)],
    "401 in a header": lambda: [answer(status=401, x_echo=CANARY)],
    "html that echoes the key": lambda: [stream(f"<b>{CANARY}".encode(), kind="text/html")],
    "200 that echoes the key": lambda: [answer({"error": {"code": "c", "message": CANARY}})],
    "untrusted": lambda: [distrusted()],
}


@pytest.mark.parametrize("retry_class", ["read", "submit"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_error_holds_no_key_and_nothing_of_the_http_library(way, retry_class):
    """Errors of openai 3.54.0 hold the request with its live Authorization header."""
    error = failure(scripted(*way(), max_retries=0), retry_class)
    shown = "".join(
        traceback.TracebackException.from_exception(error, capture_locals=True).format()
    )
    data = pickle.dumps(error)
    assert CANARY not in shown
    assert CANARY not in repr((error, error.args, vars(error)))
    assert CANARY.encode() not in data
    assert b"httpx" not in data
    modules = {type(each).__module__.split(".")[0] for each in chain(error)}
    assert modules == {"langchain_tokenhub"}


def test_a_key_that_looks_like_none_is_cut_too():
    transport = scripted(answer({"error": {"message": "no such key: plain-key-7"}}, status=401))
    object.__setattr__(transport.endpoint, "key", lambda: "plain-key-7")
    assert "plain-key-7" not in str(failure(transport))


def test_the_users_headers_cannot_double_the_authorization():
    transport = scripted(answer())
    object.__setattr__(transport.endpoint, "headers", {"authorization": "Bearer x", "X-A": "b"})
    ask(transport)
    (request,) = transport.runtime.sent
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    assert request.headers["x-a"] == "b"


def test_an_address_that_is_none_is_refused_as_our_error():
    transport = scripted(origins=["https://h.test:port"])
    assert isinstance(failure(transport), InvalidRequestError)


def test_each_attempt_is_a_line_for_the_debugger_without_query_and_key(caplog):
    with caplog.at_level(logging.DEBUG, "langchain_tokenhub.transport"):
        ask(scripted(page(502), answer()))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("POST /v1/x at a.test: 502 in ")
    assert CANARY not in caplog.text
