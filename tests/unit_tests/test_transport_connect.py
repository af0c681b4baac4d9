"""Hosts with several addresses: some refuse, are silent, or answer too late."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace

import httpx
import pytest

from langchain_tokenhub.transport.http import connect
from langchain_tokenhub.transport.http.connect import Target, connect_async, connect_sync
from langchain_tokenhub.transport.http.sockets import AsyncStream, SyncStream


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


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


def sync(target, limit=1.0):
    return connect_sync(target, limit)


def asynchronous(target, limit=1.0):
    async def main():
        async with asyncio.timeout(limit):
            return await connect_async(target)

    return asyncio.run(main())


both = pytest.mark.parametrize("connecting", [sync, asynchronous])


@both
def test_an_address_needs_no_resolver(connecting, listener):
    port = listener.getsockname()[1]
    with connecting(Target("127.0.0.1", port, None)) as sock:
        assert sock.getpeername()[1] == port
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@both
def test_an_address_that_refuses_gives_way_to_the_next(connecting, named, listener, refused_port):
    port = listener.getsockname()[1]
    with connecting(named(refused_port, port)) as sock:
        assert sock.getpeername()[1] == port


@both
def test_an_address_that_is_silent_gives_way_to_the_next(connecting, named, listener, silent_port):
    """Python's own sync connection gives the first address the whole limit."""
    port = listener.getsockname()[1]
    with connecting(named(silent_port, port)) as sock:
        assert sock.getpeername()[1] == port


@both
def test_the_last_failure_is_raised_where_all_addresses_refuse(connecting, named, refused_port):
    with pytest.raises(ConnectionRefusedError):
        connecting(named(refused_port, refused_port))


@pytest.mark.parametrize("stream", [SyncStream, AsyncStream])
def test_an_address_that_this_machine_cannot_use_hides_no_refusal(
    stream, named, refused_port, monkeypatch
):
    """As of IPv6 where it is switched off: the host is down all the same."""
    target, resolve = named(refused_port), socket.getaddrinfo
    strange = (65000, socket.SOCK_STREAM, 6, "", ("::1", 1))

    def with_strange(*where, **how):
        return [strange, *resolve(*where, **how), strange]

    monkeypatch.setattr(socket, "getaddrinfo", with_strange)
    with pytest.raises(httpx.ConnectError, match=r"refused|Connect call failed"):
        asyncio.run(stream.open(target, 1.0))


@both
def test_an_address_of_an_unknown_family_gives_way_to_the_next(
    connecting, named, listener, monkeypatch
):
    target, resolve = named(listener.getsockname()[1]), socket.getaddrinfo
    strange = (65000, socket.SOCK_STREAM, 6, "", ("::1", 1))

    def strange_first(*where, **how):
        return [strange, *resolve(*where, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", strange_first)
    with connecting(target) as sock:
        assert sock.getpeername()


@both
def test_given_addresses_are_tried_one_after_another_and_nobody_is_asked(connecting, listener):
    port = listener.getsockname()[1]
    target = Target("hub.test", port, None, addresses=("127.0.0.2", "127.0.0.1"))
    with connecting(target) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)


@both
def test_a_host_whose_addresses_are_given_is_never_resolved(connecting, named, listener):
    target = named(listener.getsockname()[1])._replace(addresses=("no address",))
    with pytest.raises(socket.gaierror):
        connecting(target)


def test_a_sync_address_has_its_part_of_the_time_that_is_left(named, monkeypatch):
    parts, clock = [], [0.0]

    def connect_one(_address, timeout):
        parts.append(timeout)
        if len(parts) == 1:
            raise ConnectionRefusedError
        clock[0] += timeout
        raise TimeoutError

    monkeypatch.setattr(connect, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(connect, "_connect", connect_one)
    with pytest.raises(TimeoutError):
        connect_sync(named(1, 2, 3), 0.3)
    assert parts == pytest.approx([0.1, 0.15, 0.15])


@both
def test_a_name_without_addresses_is_reported_as_such(connecting, named):
    with pytest.raises(OSError, match="no address"):
        connecting(named())


@pytest.fixture
def opened(monkeypatch):
    """The sockets that were opened."""
    found, open_socket = [], connect.open_socket

    def record(address):
        found.append(open_socket(address))
        return found[-1]

    monkeypatch.setattr(connect, "open_socket", record)
    return found


@both
def test_the_sockets_of_other_addresses_are_closed(
    connecting, named, listener, silent_port, refused_port, *, opened
):
    with connecting(named(silent_port, refused_port, listener.getsockname()[1])) as sock:
        assert [other.fileno() for other in opened if other is not sock] == [-1, -1]
    assert len(opened) == 3


@pytest.mark.parametrize("count", [1, 3])
async def test_a_connect_that_is_cancelled_closes_all_sockets(
    count, named, silent_port, opened, monkeypatch
):
    monkeypatch.setattr(connect, "CONNECTION_ATTEMPT_DELAY", 0.001)
    connecting = asyncio.ensure_future(connect_async(named(*[silent_port] * count)))
    for _ in range(5000):
        await asyncio.sleep(0.001)
        if len(opened) == count:
            break
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert [sock.fileno() for sock in opened] == [-1] * count


async def test_a_connect_that_is_cancelled_at_any_point_closes_its_socket(named, listener, opened):
    """asyncio 3.11's own race leaves a socket open where one had just connected."""
    port = listener.getsockname()[1]
    for turns in range(12):
        connecting = asyncio.ensure_future(connect_async(named(port, port)))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await connecting).close()
    await asyncio.sleep(0)
    assert {sock.fileno() for sock in opened} <= {-1}
