"""How a request leaves: in one write if it is small, in pieces that each have time if not."""

from __future__ import annotations

import asyncio

import httpcore
import pytest

from langchain_tokenhub.transport import lane


class Written(httpcore.NetworkStream, httpcore.AsyncNetworkStream):
    """A stream that keeps what is written."""

    def __init__(self):
        self.writes = []

    def write(self, buffer, timeout=None):
        self.writes.append((bytes(buffer), timeout))


class AsyncWritten(Written):
    async def write(self, buffer, patience=None):
        super().write(buffer, patience)

    async def read(self, max_bytes, patience=None):
        await asyncio.Event().wait()


async def asynchronous(*parts):
    stream = AsyncWritten()
    whole = lane._AsyncWhole(stream)
    for part in parts:
        await whole.write(part, 7.0)
    return stream.writes


async def sync(*parts):
    stream = Written()
    whole = lane._Whole(stream)
    for part in parts:
        whole.write(part, 7.0)
    return stream.writes


@pytest.mark.parametrize("wrote", [sync, asynchronous])
async def test_head_and_body_leave_in_one_write(wrote):
    assert await wrote(b"head", b"body", b"") == [(b"headbody", 7.0)]


@pytest.mark.parametrize("wrote", [sync, asynchronous])
async def test_a_large_request_leaves_in_pieces_that_each_have_the_whole_patience(wrote):
    """One write of 20 MB has 30 s in all on asyncio, however steadily the server reads."""
    writes = await wrote(b"head", b"x" * 3 * lane.PIECE, b"")
    assert len(writes) == 4
    assert all(len(piece) <= lane.PIECE and timeout == 7.0 for piece, timeout in writes)
    assert b"".join(piece for piece, _ in writes) == b"head" + b"x" * 3 * lane.PIECE
