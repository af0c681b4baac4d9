"""Requests and responses between the transport and its connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenhub.transport import run_sync
from langchain_tokenhub.transport.calls import SendState
from langchain_tokenhub.transport.http.client import SyncCallerClient
from langchain_tokenhub.transport.http.messages import (
    URL,
    HTTPRequest,
    HTTPResponse,
    decode_headers,
    parse_url,
)

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
