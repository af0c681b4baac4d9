"""Bytes to values: odd JSON, and compression that must not burst."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenhub.errors import ServerError
from langchain_tokenhub.transport import iterate_sync, run_sync
from langchain_tokenhub.transport.decoding import parse, parse_event, read_body, read_error_body
from tests.conftest import unread

MIB = 1024 * 1024


def test_what_a_fast_parser_refuses_is_parsed():
    """A model streams half an emoji over two deltas."""
    assert parse(rb'{"a": "\ud83d"}') == {"a": "\ud83d"}
    assert parse(b'{"a": "x\ty"}') == {"a": "x\ty"}
    assert parse(b"\xef\xbb\xbf[1]") == [1]
    assert math.isnan(parse(b"NaN"))


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_not_json_is_a_typed_error(data):
    """A depth of 2 000 is a bare RecursionError in the standard library."""
    with pytest.raises(ServerError, match="not JSON"):
        parse(data)


def test_an_unreadable_body_is_quoted_short_and_without_control_characters():
    with pytest.raises(ServerError) as caught:
        parse(b"\x1b[31m" + b"x" * 5000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.binary(max_size=200))
def test_any_bytes_give_values_or_a_typed_error(data):
    with contextlib.suppress(ServerError):
        parse_event(data)


def test_data_lines_that_stand_alone_are_values_of_their_own():
    assert parse_event(b'{"a": 1}\n{"b": 2}') == [{"a": 1}, {"b": 2}]


def test_one_value_over_several_data_lines_is_one_value():
    assert parse_event(b'{"a":\n1}') == [{"a": 1}]


class Body(httpx.AsyncByteStream):
    """A body that arrives in pieces."""

    def __init__(self, pieces):
        self.pieces = pieces

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece


def inflating(encoding, *pieces):
    headers = {"content-encoding": encoding}
    return iterate_sync(
        read_body(unread(httpx.Response(200, headers=headers, stream=Body(pieces))))
    )


def inflated(encoding, *pieces):
    return list(inflating(encoding, *pieces))


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_compression_is_undone_byte_by_byte(encoding, pack):
    packed = pack(b"hello " * 100)
    pieces = [packed[i : i + 1] for i in range(len(packed))]
    assert b"".join(inflated(encoding, *pieces)) == b"hello " * 100


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
def test_nothing_is_lost_where_a_step_ends(size):
    assert sum(map(len, inflated("gzip", gzip.compress(b"x" * size)))) == size


def test_a_bomb_comes_in_small_steps():
    """httpx 0.28.1 hands out 64 MiB at once."""
    bomb = gzip.compress(b"\0" * (64 * MIB))
    assert len(bomb) < MIB // 10
    assert max(map(len, inflated("gzip", bomb))) <= MIB


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip, deflate", "gzip, deflate"])
def test_an_encoding_nobody_asked_for_is_refused(encoding):
    with pytest.raises(ServerError, match="unrequested encoding"):
        inflated(encoding)


def test_all_members_of_a_gzip_file_are_undone_and_zeros_after_them_are_nothing():
    packed = gzip.compress(b"one ") + gzip.compress(b"two") + bytes(3)
    assert b"".join(inflated("gzip", packed)) == b"one two"
    assert (
        b"".join(inflated("gzip", *(packed[i : i + 1] for i in range(len(packed))))) == b"one two"
    )


def test_compression_that_is_cut_is_a_cut():
    plain = inflating("gzip", gzip.compress(b"hello " * 100)[:-9])
    assert next(plain)
    with pytest.raises(httpx.RemoteProtocolError, match="compressed data is truncated"):
        next(plain)


@pytest.mark.parametrize("body", [b"", gzip.compress(b"")], ids=["no byte", "packed"])
def test_an_empty_body_is_not_cut(body):
    assert inflated("gzip", body) == []


def test_broken_compression_is_a_typed_error():
    with pytest.raises(ServerError, match="invalid"):
        inflated("gzip", b"not gzip at all")


@given(st.binary(max_size=200))
def test_any_bytes_are_inflated_or_a_typed_error(data):
    with contextlib.suppress(ServerError, httpx.RemoteProtocolError):
        inflated("gzip", data)


def test_an_error_body_for_which_no_time_is_left_gets_none():
    response = unread(httpx.Response(400, stream=Body([b"x"])))
    assert run_sync(read_error_body(response, lambda: 0.0, 0.0)) == b"x"
    assert response.body.limits == [0.0]
