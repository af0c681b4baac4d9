"""What an async stream makes of the calls of its event loop, each order by hand."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from langchain_tokenhub.transport import run_sync
from langchain_tokenhub.transport.http import sockets
from langchain_tokenhub.transport.http.sockets import AsyncStream, SyncStream


class Transport:
    """A transport of asyncio that does what a test says."""

    def __init__(self, *, fails=False):
        self.fails, self.closing, self.calls = fails, False, []

    def get_extra_info(self, name):
        return None

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.calls.append(bytes(data))
        self.closing = self.fails

    def __getattr__(self, name):
        return lambda: self.calls.append(name)


def opened(**how):
    made = AsyncStream(asyncio.get_running_loop())
    made._transport = Transport(**how)
    return made, made._transport


async def begun(work):
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    return task


async def test_a_connection_that_is_lost_when_all_has_left_was_no_failed_write():
    """Else a paid request that arrived would count as not sent, and be sent again."""
    made, _ = opened()
    made.pause_writing()
    writing = await begun(made.write(b"x", 1.0))
    made.resume_writing()  # all has left
    made.connection_lost(ConnectionResetError("reset"))
    await writing
    with pytest.raises(httpx.ReadError):
        await made.read(1.0)


async def test_a_connection_that_is_lost_before_all_has_left_is_a_failed_write():
    made, _ = opened()
    made.pause_writing()
    writing = await begun(made.write(b"x", 1.0))
    made.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(httpx.WriteError, match="reset"):
        await writing


async def test_a_write_that_the_system_refuses_is_a_failed_write():
    made, _ = opened(fails=True)
    writing = await begun(made.write(b"x", 1.0))
    made.connection_lost(BrokenPipeError("broken"))
    with pytest.raises(httpx.WriteError, match="broken"):
        await writing


async def test_bytes_that_come_do_not_lengthen_the_timeout_of_a_write():
    made, _ = opened()
    made.pause_writing()
    writing = await begun(made.write(b"x", 0.1))
    for _ in range(1000):
        made.data_received(b"x")
        if (await asyncio.wait({writing}, timeout=0.01))[0]:
            break
    assert isinstance(writing.exception(), httpx.WriteTimeout)


async def test_nothing_is_written_after_the_servers_end():
    made, transport = opened()
    made.eof_received()
    with pytest.raises(httpx.WriteError):
        await made.write(b"x", 1.0)
    assert transport.calls == []


async def test_what_came_before_the_end_is_read_first():
    made, _ = opened()
    made.data_received(b"a")
    made.data_received(b"b")
    made.connection_lost(ConnectionResetError("reset"))
    assert await made.read(1.0) == b"ab"
    with pytest.raises(httpx.ReadError):
        await made.read(1.0)


async def test_the_end_is_nothing():
    made, _ = opened()
    made.eof_received()
    assert await made.read(1.0) == b""


async def test_a_reader_who_is_late_makes_the_server_wait():
    made, transport = opened()
    for _ in range(2):
        made.data_received(b"x" * sockets._MAX_BUFFER)
    assert transport.calls == ["pause_reading"]
    assert len(await made.read(1.0)) == 2 * sockets._MAX_BUFFER
    assert transport.calls == ["pause_reading", "resume_reading"]


async def test_one_timer_serves_many_waits_and_the_shortest_of_them():
    made, _ = opened()
    for _ in range(3):
        reading = await begun(made.read(60.0))
        made.data_received(b"x")
        assert await reading == b"x"
    first = made._timer
    reading = await begun(made.read(0.01))
    assert made._timer is not first
    with pytest.raises(httpx.ReadTimeout):
        await reading
    made.close()


async def test_a_wait_outlasts_the_timer_of_an_earlier_one():
    made, _ = opened()
    reading = await begun(made.read(0.02))
    made.data_received(b"x")
    await reading
    reading = await begun(made.read(60.0))
    await asyncio.sleep(0.05)
    made.data_received(b"y")
    assert await reading == b"y"
    made.close()


class Socket:
    """A socket that records its timeouts."""

    def __init__(self):
        self.limits = []

    def gettimeout(self):
        return 5.0

    def settimeout(self, limit):
        self.limits.append(limit)

    def recv(self, size):
        return b"x"

    def close(self):
        pass


def test_a_sync_stream_sets_its_timeout_only_when_it_changes():
    sock = Socket()
    made = SyncStream(sock)
    for limit in (5.0, 5.0, 7.0, 7.0, None):
        assert run_sync(made.read(limit)) == b"x"
    assert sock.limits == [7.0, None]
    made.close()
