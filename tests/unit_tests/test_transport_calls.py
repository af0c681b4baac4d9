"""Calls, and the requests and responses between the transport and its connections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport import Call, run_sync
from langchain_tokenhub.transport.calls import URL, HTTPRequest, HTTPResponse, SendState, parse_url
from langchain_tokenhub.transport.decoding import decode_headers
from langchain_tokenhub.transport.http.client import SyncCallerClient

LIMITS = dict.fromkeys(("connect", "read", "write", "pool"), 5.0)


def request(**headers):
    url = parse_url("https://a.test/x?q-signature=canary")
    return HTTPRequest("POST", url, headers, LIMITS, 5.0, SendState(), content=b"canary prompt")


def test_no_report_of_local_variables_shows_key_prompt_or_signature():
    """Sentry's expands sequences and mappings, and takes the `repr` of everything else."""
    asked = request(authorization="canary")
    values = [asked, asked.url, HTTPResponse(200, {"set-cookie": "canary"}, None)]
    assert "canary" not in repr(values)
    assert not any(isinstance(value, Sequence | Mapping) for value in values)


def test_a_url_has_the_parts_that_a_connection_needs():
    name = "xn--fsqu00a.xn--0zwm56d"
    url = parse_url("https://例子.测试/a b?c=d#e")
    assert url == URL(url.text, "https", name, 443, name, "/a%20b?c=d")
    url = parse_url("http://[::1]:8080")
    assert url == URL(url.text, "http", "::1", 8080, "[::1]:8080", "/")


def test_equal_headers_are_joined():
    headers = [(b"A", b"1"), (b"b", b"2"), (b"a", "é".encode()), (b"C", b"\xe9")]
    assert decode_headers(headers) == {"a": "1, é", "b": "2", "c": "é"}


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=8))))
def test_headers_are_read_as_httpx_reads_those_in_ascii(headers):
    ascii_only = [(k, v) for k, v in headers if (k + v).isascii()]
    assert decode_headers(ascii_only) == dict(httpx.Headers(ascii_only).items())


@pytest.mark.parametrize("name", ["x-trace", "x-träce"])
def test_a_header_that_is_not_ascii_is_not_sent_through_a_callers_client(name):
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    with pytest.raises(httpx.LocalProtocolError):
        run_sync(SyncCallerClient(client).send(request(**{name: "ä"})))


def test_the_users_host_replaces_that_of_the_address_and_the_length_is_ours():
    headers = request(**{"host": "gateway.test", "content-length": "3"}).all_headers()
    assert headers == {"host": "gateway.test", "content-length": "13"}


def test_an_encoding_error_of_the_callers_transport_is_no_proof_that_nothing_was_sent():
    def answer(_):
        return "é".encode("ascii")

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with pytest.raises(UnicodeEncodeError):
        run_sync(SyncCallerClient(client).send(request()))


def test_a_request_is_written_as_utf_8():
    assert Call(path="/", body={"a": "你好"}).content == '{"a":"你好"}'.encode()


def test_half_an_emoji_is_sent_as_its_escape():
    assert Call(path="/", body={"a": "\ud83d"}).content == rb'{"a":"\ud83d"}'


def test_the_bytes_of_a_request_are_made_once():
    call = Call(path="/", body={"a": 1})
    assert call.content is call.content


@pytest.mark.parametrize("value", [math.nan, object(), {1, 2}])
def test_what_json_cannot_say_is_refused_before_it_is_sent(value):
    with pytest.raises(InvalidRequestError, match="JSON"):
        Call(path="/", body={"a": value})


def test_a_path_cannot_change_the_host():
    with pytest.raises(InvalidRequestError, match="slash"):
        Call(path=".evil.test/v1")


def test_a_call_shows_no_prompt():
    assert "secret prompt" not in repr(Call(path="/", body={"prompt": "secret prompt"}))
