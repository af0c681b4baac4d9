"""Who answers first: addresses that refuse, are silent, or come too late."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from langchain_tokenhub.transport.http import connect
from langchain_tokenhub.transport.http.connect import Target, connect_async, connect_sync


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def silent():
    """A port whose connections are never taken: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(address)
        time.sleep(0.05)
        yield address[1]
        for filler in fillers:
            filler.close()


@pytest.fixture
def named(monkeypatch):
    """Let a name stand for ports of loopback; both faces ask the same resolver."""
    resolve = socket.getaddrinfo

    def make(*ports):
        def answer(host, port, *where, **how):
            if host != "hub.test":
                return resolve(host, port, *where, **how)
            if how.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "no address")
            kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
            return [(*kind, ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(socket, "getaddrinfo", answer)
        return Target("hub.test", 443, None)

    return make


def sync(goal, limit=5.0):
    return connect_sync(goal, limit)


def asynchronous(goal, limit=5.0):
    async def main():
        async with asyncio.timeout(limit):
            return await connect_async(goal)

    return asyncio.run(main())


both = pytest.mark.parametrize("dialling", [sync, asynchronous])


@both
def test_an_address_needs_no_resolver(dialling, listener):
    port = listener.getsockname()[1]
    with dialling(Target("127.0.0.1", port, None)) as plug:
        assert plug.getpeername()[1] == port
        assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@both
def test_an_address_that_refuses_gives_way_to_the_next(dialling, named, listener, refused):
    port = listener.getsockname()[1]
    with dialling(named(refused, port)) as plug:
        assert plug.getpeername()[1] == port


@both
def test_an_address_that_is_silent_gives_way_to_the_next(dialling, named, listener, silent):
    """httpx 0.28.1's sync connections wait for it until their whole patience is gone."""
    port = listener.getsockname()[1]
    with dialling(named(silent, port)) as plug:
        assert plug.getpeername()[1] == port


@both
def test_the_last_failure_is_told_where_all_addresses_refuse(dialling, named, refused):
    with pytest.raises(ConnectionRefusedError):
        dialling(named(refused, refused))


@both
def test_an_address_that_this_machine_has_no_way_to_hides_no_refusal(
    dialling, named, refused, monkeypatch
):
    """As of IPv6 where it is switched off: the host is down all the same."""
    goal, resolve = named(refused), socket.getaddrinfo
    strange = (65000, socket.SOCK_STREAM, 6, "", ("::1", 1))

    def and_strange(*where, **how):
        return [*resolve(*where, **how), strange]

    monkeypatch.setattr(socket, "getaddrinfo", and_strange)
    with pytest.raises(ConnectionRefusedError):
        dialling(goal)


@both
def test_an_address_of_an_unknown_family_gives_way_to_the_next(
    dialling, named, listener, monkeypatch
):
    goal, resolve = named(listener.getsockname()[1]), socket.getaddrinfo
    strange = (65000, socket.SOCK_STREAM, 6, "", ("::1", 1))

    def strange_first(*where, **how):
        return [strange, *resolve(*where, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", strange_first)
    with dialling(goal) as plug:
        assert plug.getpeername()


@both
def test_patience_is_one_for_all_addresses(dialling, named, silent, monkeypatch):
    """Python's own sync connection has it anew for each."""
    monkeypatch.setattr(connect, "HEAD_START", 0.01)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        dialling(named(*[silent] * 8), 0.3)
    assert time.monotonic() - begun < 2


@both
def test_a_name_without_addresses_is_told_as_such(dialling, named):
    with pytest.raises(OSError, match="no address"):
        dialling(named())


@both
def test_the_losers_of_a_race_are_closed(dialling, named, listener, silent, refused):
    goal = named(silent, refused, listener.getsockname()[1])
    with pytest.MonkeyPatch.context() as patch:
        made, plug_of = [], connect._socket
        patch.setattr(connect, "_socket", lambda address: made.append(plug_of(address)) or made[-1])
        with dialling(goal) as plug:
            assert [other.fileno() for other in made if other is not plug] == [-1, -1]
    assert len(made) == 3


async def test_an_attempt_that_comes_too_late_is_closed(monkeypatch):
    monkeypatch.setattr(connect, "HEAD_START", 0.0)
    made, limiter = [], asyncio.Event()

    async def connected(loop, address):
        await limiter.wait()
        made.append(socket.socket())
        return made[-1]

    monkeypatch.setattr(connect, "_connected", connected)
    loop = asyncio.get_running_loop()
    racing = asyncio.ensure_future(connect._first_connected(loop, ["a", "b"]))
    await asyncio.sleep(0.01)
    limiter.set()
    with await racing as plug:
        await asyncio.sleep(0)
        assert [other.fileno() for other in made if other is not plug] == [-1]


async def test_a_race_that_is_cancelled_closes_all(named, silent, monkeypatch):
    """asyncio 3.11's own race leaves a socket open where one had just connected."""
    monkeypatch.setattr(connect, "HEAD_START", 0.0)
    made, plug_of = [], connect._socket
    monkeypatch.setattr(
        connect, "_socket", lambda address: made.append(plug_of(address)) or made[-1]
    )
    racing = asyncio.ensure_future(connect_async(named(*[silent] * 3)))
    await asyncio.sleep(0.05)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    await asyncio.sleep(0)
    assert [plug.fileno() for plug in made] == [-1, -1, -1]
