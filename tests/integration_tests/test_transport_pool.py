"""Connections on real sockets: reused, closed at once, independent, per loop and per process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import ssl
import sys
import threading

import httpx
import pytest

from langchain_tokenhub.transport import run_sync
from langchain_tokenhub.transport.http import pool, sockets
from tests.integration_tests.answers import Client, silence, submit

STORM = 2_000


def streamed(model):
    return "".join(chunk.content for chunk in model.stream("q"))


async def astreamed(model):
    return "".join([chunk.content async for chunk in model.astream("q")])


def sync(model, count):
    return [streamed(model()) for _ in range(count)]


def asynchronous(model, count):
    async def main():
        return [await astreamed(model()) for _ in range(count)]

    return asyncio.run(main())


both = pytest.mark.parametrize("streams", [sync, asynchronous])
"""Streams one after another, in one thread or one loop."""


# -- reuse ------------------------------------------------------------------------------------


def test_a_stream_that_the_garbage_collector_ends_leaves_no_closed_connection(model, peer, raw):
    async def serve(connection, request):
        await connection.stream(raw.event("hi"), raw.event("", "stop"), raw.DONE)

    peer.answer = serve
    cycle = [model().stream("q")]
    cycle.append(cycle)
    next(cycle[0])
    del cycle
    gc.collect()
    assert streamed(model()) == "hi"


@both
def test_twenty_streams_use_one_connection(streams, model, peer):
    """openai 3.54.0, langchain-openai 1.7.3 and mistralai 3.7.0 open twenty."""
    assert streams(model, 20) == ["hi"] * 20
    assert len(peer.connections) == 1


def test_models_and_keys_share_connections(model, peer):
    for number in range(5):
        model(api_key=f"sk-{number}-key").invoke("q")
    assert len(peer.connections) == 1
    assert len({request.headers["authorization"] for request in peer.requests}) == 5


@pytest.mark.parametrize("tail", [b"", b": bye\n\n"], ids=["nothing", "a comment"])
def test_what_follows_done_at_once_does_not_cost_the_connection(model, peer, raw, tail):
    async def serve(connection, request):
        await connection.stream(
            raw.event("hi", "stop"), raw.DONE, *[piece for piece in [tail] if piece]
        )

    peer.answer = serve
    assert [streamed(model()) for _ in range(3)] == ["hi"] * 3
    assert len(peer.connections) == 1


def test_a_stream_whose_end_never_comes_is_left_after_its_last_word(model, peer, raw):
    """A client that waits for the body's end hangs here until its read timeout of 60 s."""

    async def serve(connection, request):
        await connection.send(raw.STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.chunks(raw.event("hi", "stop"), raw.DONE)
        await connection.until_gone()

    peer.answer = serve
    assert streamed(model()) == "hi"
    assert peer.connections[0].gone.wait(5)


@both
def test_the_short_timeout_of_a_streams_end_is_taken_back(streams, model, peer, raw):
    async def serve(connection, request):
        if len(peer.requests) > 1:
            await asyncio.sleep(0.25)  # longer than the end of a stream may take
        await connection.stream(raw.event("hi", "stop"), raw.DONE)

    peer.answer = serve
    assert streams(lambda: model(max_retries=0), 2) == ["hi", "hi"]
    assert len(peer.connections) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(model, peer):
    async def serve(connection, request):
        await connection.json({"choices": [{"message": {"content": "hi"}}]})
        connection.writer.close()

    peer.answer = serve
    for _ in range(3):
        model(max_retries=0).invoke("q")
        assert peer.connections[-1].gone.wait(5)
    assert len(peer.connections) == 3


def test_what_a_server_says_beyond_its_answer_answers_no_other_request(model, peer, raw, call):
    """httpx 0.28.1 takes it for the next answer."""
    body = json.dumps({"choices": [{"message": {"content": "for someone else"}}]}).encode()
    stray = b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def serve(connection, request):
        whole = json.dumps(raw.WHOLE).encode()
        head = b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(whole)
        await connection.send(head + whole + stray)

    peer.answer = serve
    assert [call(model(), "invoke", "q").content for _ in range(3)] == ["hi"] * 3


def test_a_paid_submit_takes_no_connection_that_the_server_may_be_closing(peer, monkeypatch):
    """Every client with a pool sends on it, and meets "disconnected without a response"."""
    client = Client(peer.url)
    client.ask(submit())
    client.ask(submit())
    assert len(peer.connections) == 1
    monkeypatch.setattr(pool, "MAX_IDLE_SUBMIT", 0.0)
    client.ask(submit())
    assert len(peer.connections) == 2


def test_idle_connections_expire(model, peer, monkeypatch):
    monkeypatch.setattr(pool, "MAX_IDLE", 0.0)
    monkeypatch.setattr(pool, "SWEEP_INTERVAL", 0.0)
    for _ in range(3):
        model().invoke("q")
    assert len(peer.connections) == 3
    assert all(connection.gone.wait(5) for connection in peer.connections[:2])


def test_idle_connections_are_capped(model, peer, monkeypatch):
    monkeypatch.setattr(pool, "MAX_IDLE_CONNECTIONS", 3)
    limiter = asyncio.Barrier(12)

    async def serve(connection, request):
        await limiter.wait()
        await connection.json({"choices": [{"message": {"content": "hi"}}]})

    peer.answer = serve
    threads = [threading.Thread(target=model().invoke, args=("q",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(idle) for idle in pool.sync_pool()._idle.values()) == 3


def test_closing_gives_connections_back_and_a_later_call_opens_new_ones(model, peer):
    with model() as chat:
        chat.invoke("q")
    assert peer.connections[0].gone.wait(5)
    assert chat.invoke("q").content == "hi"


# -- leaving early ----------------------------------------------------------------------------


async def endless(connection, raw):
    await connection.send(raw.STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
    await connection.chunks(raw.event("word"))
    await connection.until_gone()


@pytest.fixture
def talker(peer, raw):
    async def serve(connection, request):
        await endless(connection, raw)

    peer.answer = serve
    return peer


def test_a_break_frees_the_socket_at_once(model, talker):
    for chunk in model().stream("q"):
        assert chunk.content == "word"
        break
    assert talker.connections[0].gone.wait(5)


async def test_a_break_frees_the_socket_within_a_few_turns(model, talker):
    async for chunk in model().astream("q"):
        assert chunk.content == "word"
        break
    del chunk
    gc.collect()
    for _ in range(50):
        await asyncio.sleep(0)
    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)


async def test_closing_an_async_stream_frees_the_socket(model, talker):
    stream = model().astream("q")
    await anext(stream)
    await stream.aclose()
    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)


async def test_closing_v3_events_frees_the_socket(model, talker):
    events = await model().astream_events("q", version="v3")
    async for _ in events:
        break
    await events.aclose()
    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)


async def test_a_cancelled_call_closes_its_connection_and_no_other(model, talker, peer):
    streams = [model().astream("q") for _ in range(3)]
    for stream in streams:
        await anext(stream)
    task = asyncio.ensure_future(anext(streams[0]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)
    assert not talker.connections[1].gone.is_set()
    for stream in streams[1:]:
        await stream.aclose()


async def test_after_a_storm_of_cancellations_calls_work(model, peer):
    """httpx 0.28.1 (so langchain-mistralai 1.1.6) has no slot left: PoolTimeout."""
    answer = peer.answer
    peer.answer = silence
    chat = model(max_retries=0)

    async def one(turns):
        task = asyncio.ensure_future(chat.ainvoke("q"))
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for begin in range(0, STORM, 200):
        await asyncio.gather(*[one(begin + number) for number in range(200)])
    peer.answer = answer
    answers = await asyncio.gather(*[chat.ainvoke("q") for _ in range(30)])
    assert [found.content for found in answers] == ["hi"] * 30


# -- loops, threads, processes ----------------------------------------------------------------


def test_one_model_serves_loop_after_loop(model, peer):
    """langchain-openai 1.7.3, langchain-mistralai 1.1.6: "Event loop is closed" in the second."""
    chat = model()
    assert [asyncio.run(chat.ainvoke("q")).content for _ in range(3)] == ["hi"] * 3
    assert [asyncio.run(astreamed(chat)) for _ in range(2)] == ["hi"] * 2
    assert all(connection.gone.wait(5) for connection in peer.connections)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_ended_badly_leaves_the_next_one_alone(model, peer):
    chat = model()
    for _ in range(2):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(chat.ainvoke("q")).content == "hi"
        loop.close()  # without shutdown_asyncgens: asyncio warns of transports left open
    assert asyncio.run(chat.ainvoke("q")).content == "hi"
    gc.collect()
    assert all(connection.gone.wait(5) for connection in peer.connections)


def in_threads(work, count=8):
    found = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_share_a_model(model):
    chat = model()
    assert in_threads(lambda: [streamed(chat) for _ in range(10)]) == [["hi"] * 10] * 8


def test_loops_that_begin_in_many_threads_disturb_nobody(model):
    chat, before = model(), sys.getswitchinterval()

    async def many():
        found = await asyncio.gather(*[chat.ainvoke("q") for _ in range(5)])
        return [message.content for message in found]

    sys.setswitchinterval(1e-6)
    try:
        found = in_threads(lambda: [asyncio.run(many()) for _ in range(5)])
    finally:
        sys.setswitchinterval(before)
    assert found == [[["hi"] * 5] * 5] * 8


def test_sync_calls_work_inside_a_running_loop(model):
    async def main():
        return streamed(model()), model().invoke("q").content

    assert asyncio.run(main()) == ("hi", "hi")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_uses_no_connection_of_its_parent(model, peer):
    """In langchain-openai 1.7.3 and httpx 0.28.1 each child speaks on its parent's."""
    chat = model()
    chat.invoke("q")
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if chat.invoke("q").content == "hi" else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert chat.invoke("q").content == "hi"
    assert [request.connection for request in peer.requests].count(0) == 2
    assert len(peer.connections) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_a_lock_is_held_does_not_hang_the_child(model):
    chat = model()
    endpoint = chat._endpoint()
    with endpoint.hosts._lock, endpoint.budget._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if chat.invoke("q").content == "hi" else 1)
    assert os.waitpid(child, 0)[1] == 0


async def test_the_connections_of_a_loop_go_with_it(model):
    chat = model()

    def once():
        asyncio.run(chat.ainvoke("q"))

    for _ in range(20):
        await asyncio.to_thread(once)
    await chat.ainvoke("q")
    assert len([loop for loop in pool._by_loop if loop.is_closed()]) == 0


# -- TLS --------------------------------------------------------------------------------------


@both
def test_tls_streams_use_one_connection_and_one_context(streams, model, peers, trusted):
    secure = peers(tls=True)
    assert streams(lambda: model(base_url=secure.url), 5) == ["hi"] * 5
    assert len(secure.connections) == 1
    assert sockets.tls_context() is sockets.tls_context()


def test_an_untrusted_certificate_is_refused_without_a_second_try(model, peers, call):
    from langchain_tokenhub import APIConnectionError

    secure, backup = peers(tls=True), peers()
    chat = model(base_url=[secure.url, backup.url])
    with pytest.raises(APIConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        call(chat, "invoke", "q")
    assert (caught.value.attempts, backup.connections) == (1, [])


class Wire:
    """A stream to a TLS server in memory."""

    is_idle = True

    def __init__(self, certificate):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        self.received, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(self.received, self.to_send, server_side=True)

    async def write(self, data, limit):
        self.received.write(data)

    async def read(self, limit):
        with contextlib.suppress(ssl.SSLError):
            self.server.do_handshake()
        return self.to_send.read()

    async def time_out(self, limit):
        raise httpx.ReadTimeout("timed out")

    def close(self):
        self.server = None


@pytest.fixture
def wire(raw, trusted):
    made = Wire(raw.certificate)
    made.stream = run_sync(sockets.TLSStream.open(made, "localhost", 1.0))
    run_sync(made.stream.write(b"hello", 1.0))
    made.server.do_handshake()
    assert made.server.read(10) == b"hello"
    return made


def test_a_handshake_without_an_answer_is_no_connection_in_time(raw, trusted):
    wire = Wire(raw.certificate)
    wire.read = wire.time_out
    with pytest.raises(httpx.ConnectTimeout, match="the TLS handshake was not complete"):
        run_sync(sockets.TLSStream.open(wire, "localhost", 1.0))


def test_records_that_arrived_together_are_read_together(wire):
    wire.server.write(b"answer")
    wire.server.write(b"stray")
    assert run_sync(wire.stream.read(1.0)) == b"answerstray"
    assert wire.stream.is_idle


@pytest.mark.parametrize("notifies", [True, False], ids=["close_notify", "none"])
def test_the_end_of_a_stream_over_another_is_nothing(notifies, wire):
    if notifies:
        send_close_notify(wire)
    assert [run_sync(wire.stream.read(1.0)) for _ in range(2)] == [b"", b""]


BROKEN = b"\x17\x03\x03\x00\x20" + b"x" * 32


def test_bytes_after_the_servers_end_are_not_read(wire):
    wire.server.write(b"answer")
    send_close_notify(wire)
    wire.to_send.write(BROKEN)
    assert [run_sync(wire.stream.read(1.0)) for _ in range(3)] == [b"answer", b"", b""]


def send_broken_record(wire):
    wire.to_send.write(BROKEN)


def send_fatal_alert(wire):
    wire.received.write(BROKEN)
    with pytest.raises(ssl.SSLError):
        wire.server.read(1)


def send_close_notify(wire):
    with contextlib.suppress(ssl.SSLWantReadError):
        wire.server.unwrap()


@pytest.mark.parametrize("end", [send_broken_record, send_fatal_alert, send_close_notify])
def test_a_connection_whose_tls_ended_with_the_answer_carries_no_other_request(end, wire):
    wire.server.write(b"answer")
    end(wire)
    assert run_sync(wire.stream.read(1.0)) == b"answer"
    assert not wire.stream.is_idle


@pytest.mark.parametrize("fail", [send_broken_record, send_fatal_alert])
def test_what_came_before_a_failure_of_tls_is_read_first(fail, wire):
    """OpenSSL reports the failure once, and afterwards an end: a cut file would seem whole."""
    wire.server.write(b"answer")
    fail(wire)
    assert run_sync(wire.stream.read(1.0)) == b"answer"
    for _ in range(2):
        with pytest.raises(httpx.ReadError, match="BAD_RECORD_MAC"):
            run_sync(wire.stream.read(1.0))
