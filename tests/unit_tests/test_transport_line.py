"""What an async line makes of what its event loop says, each order of events by hand."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from langchain_tokenhub.transport import finish, line
from langchain_tokenhub.transport.line import AsyncLine, SyncLine


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
    made = AsyncLine(asyncio.get_running_loop())
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
    for _ in range(3):
        made.data_received(b"x" * line._ENOUGH)
    assert transport.calls == ["pause_reading"]
    assert len(await made.read(1.0)) == 3 * line._ENOUGH
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


# -- connecting -------------------------------------------------------------------------------


def told(*ports):
    """Return what a resolver says of a host with these ports of loopback."""
    kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
    return [(*kind, ("127.0.0.1", port)) for port in ports]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def plugged(*ports):
    return await line._plugged(asyncio.get_running_loop(), told(*ports))


async def test_an_address_that_refuses_gives_way_to_the_next(listener, refused):
    port = listener.getsockname()[1]
    with await plugged(refused, port) as plug:
        assert plug.getpeername()[1] == port


async def test_an_address_that_is_silent_gives_way_to_the_next(listener, monkeypatch):
    """httpx 0.28.1's sync backend waits for the first until its whole patience is gone."""
    monkeypatch.setattr(line, "_NEXT_ADDRESS", 0.01)
    connected = line._connected

    async def silent(loop, address):
        if address[4][1] == 1:
            await asyncio.Event().wait()
        return await connected(loop, address)

    monkeypatch.setattr(line, "_connected", silent)
    port = listener.getsockname()[1]
    with await plugged(1, port) as plug:
        assert plug.getpeername()[1] == port


async def test_the_last_failure_is_told_where_all_addresses_refuse(refused):
    with pytest.raises(ConnectionRefusedError):
        await plugged(refused, refused)


async def test_an_attempt_that_comes_too_late_is_closed(monkeypatch):
    """asyncio 3.11's own race leaves its socket open."""
    monkeypatch.setattr(line, "_NEXT_ADDRESS", 0.0)
    made, gate = [], asyncio.Event()

    async def connected(loop, address):
        await gate.wait()
        made.append(socket.socket())
        return made[-1]

    monkeypatch.setattr(line, "_connected", connected)
    racing = await begun(plugged(1, 2))
    await asyncio.sleep(0.01)
    gate.set()
    with await racing as plug:
        await asyncio.sleep(0)
        assert [other.fileno() for other in made if other is not plug] == [-1]


class Plug:
    """A socket that counts how often it is told its patience."""

    def __init__(self):
        self.limits = []

    def gettimeout(self):
        return 5.0

    def settimeout(self, limit):
        self.limits.append(limit)

    def recv(self, size):
        return b"x"


def test_a_sync_line_is_told_its_patience_only_when_it_changes():
    plug = Plug()
    made = SyncLine(plug)
    for limit in (5.0, 5.0, 7.0, 7.0, None):
        assert finish(made.read(limit)) == b"x"
    assert plug.limits == [7.0, None]
