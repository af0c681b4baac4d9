"""Hosts that cannot be reached, and paid submits that may have arrived, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import threading
import time

import pytest

from langchain_tokenhub import (
    APIConnectionError,
    APITimeoutError,
    ChatTokenHub,
    InvalidRequestError,
    ModelNotAvailableError,
    ServerError,
    SubmissionUnknownError,
)
from langchain_tokenhub.transport import Call, Timeouts
from langchain_tokenhub.transport.http import connect, pool
from langchain_tokenhub.transport.http.sockets import AsyncStream
from tests.integration_tests.answers import (
    Client,
    drip,
    redirect,
)

QUICK = Timeouts(connect=0.3, connect_backed=0.3, read=0.3)


def a_call(retry_class="read", **details):
    return Call(path="/v1/x", body={}, retry_class=retry_class, timeouts=QUICK, **details)


def test_a_black_holed_primary_costs_one_connect_timeout(call, black_hole, peer):
    """fal_client 1.0.3 pays it for each of five submits; the others have no backup."""
    client = Client(black_hole, peer.url)
    answers = [call(client, "ask", a_call("submit")) for _ in range(5)]
    assert [answer.attempts for answer in answers] == [2, 1, 1, 1, 1]


def test_a_connection_that_takes_too_long_says_so(call, black_hole):
    with pytest.raises(APITimeoutError, match="no connection in time: timed out"):
        call(Client(black_hole), "ask", a_call(deadline=time.monotonic() + 0.2))


def test_a_refused_primary_fails_over_and_stays_there(call, refused, peer):
    client = Client(refused, peer.url)
    answers = [call(client, "ask", a_call("submit")) for _ in range(3)]
    assert [answer.attempts for answer in answers] == [2, 1, 1]
    assert {answer.host for answer in answers} == {peer.url.removeprefix("http://")}


def test_a_name_that_nobody_knows_fails_over(call, peer):
    client = Client("http://nobody.invalid", peer.url)
    assert call(client, "ask", a_call()).attempts == 2


@contextlib.contextmanager
def no_tls(answer):
    """Serve without TLS: after the first bytes `answer` a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        thread.join()


NO_TLS = {
    "the end": lambda _: None,
    "a reset": lambda conn: conn.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    ),
    "plain HTTP": lambda conn: conn.sendall(b"HTTP/1.1 400 X\r\n\r\n"),
    "silence": lambda conn: conn.recv(1),
}


@pytest.mark.parametrize("answer", NO_TLS.values(), ids=NO_TLS)
def test_a_host_that_does_not_finish_the_handshake_of_tls_fails_over(answer, call, peer):
    with no_tls(answer) as url:
        assert call(Client(url, peer.url), "ask", a_call("submit")).attempts == 2


def test_without_a_backup_a_refused_connection_is_reported(call, refused):
    with pytest.raises(APIConnectionError) as caught:
        call(Client(refused), "ask", a_call())
    assert (caught.value.phase, caught.value.attempts) == ("not sent", 3)


def test_a_job_is_polled_on_the_host_that_took_it(call, peers):
    primary, backup = peers(), peers()
    client = Client(primary.url, backup.url)
    for _ in range(3):
        call(client, "ask", a_call(prefer=backup.url.removeprefix("http://")))
    assert (len(primary.requests), len(backup.requests)) == (0, 3)


def test_a_submit_without_an_answer_is_exactly_one_post(no_answer, call, peers):
    """openai 3.54.0 and runwayml 5.24.0 send three, fal_client 1.0.3 six and more."""
    primary, backup = peers(no_answer), peers()
    with pytest.raises(SubmissionUnknownError) as caught:
        call(Client(primary.url, backup.url), "ask", a_call("submit"))
    assert (len(primary.requests), len(backup.requests)) == (1, 0)
    assert caught.value.phase in {"sent", "answered"}


def test_a_read_that_is_cut_is_repeated(call, peers):
    flaky = peers()

    async def serve(connection, request):
        if len(flaky.requests) < 3:
            return connection.reset()
        return await connection.json({"ok": 1})

    flaky.answer = serve
    assert call(Client(flaky.url), "ask", a_call()).data == {"ok": 1}


def test_a_redirect_to_another_site_gets_neither_key_nor_body(call, peers):
    """openai 3.54.0, langchain-groq 1.1.3 and mistralai 3.7.0 carry the prompt there."""
    thief = peers()
    with pytest.raises(InvalidRequestError, match="redirects"):
        call(Client(peers(redirect(thief.url)).url), "ask", a_call("submit"))
    assert thief.connections == []


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
        b"HTTP/1.1 500 X\r\nContent-Length: 999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
    ],
    ids=["a body", "a complaint", "a head"],
)
def test_an_answer_that_trickles_past_the_deadline_is_left(begun, call, peers):
    server = peers(drip(begun, b" ", 0.02))
    with pytest.raises((APITimeoutError, ServerError)):
        call(Client(server.url, max_retries=0), "ask", a_call(deadline=time.monotonic() + 0.3))
    assert server.connections[0].gone.wait(5)


def test_a_machine_that_can_open_no_more_blames_no_host(call, peers, monkeypatch):
    """Its backup cannot be connected to either."""

    def exhausted(address):
        raise OSError(errno.EMFILE, "Too many open files")

    backup = peers()
    client = Client(peers().url, backup.url, max_retries=0)
    monkeypatch.setattr(connect, "open_socket", exhausted)
    with pytest.raises(APIConnectionError, match="open files") as caught:
        call(client, "ask", a_call("submit"))
    assert (caught.value.phase, caught.value.attempts) == ("not sent", 1)
    monkeypatch.undo()
    call(client, "ask", a_call())
    assert backup.connections == []


async def test_a_connect_that_is_cancelled_during_tls_leaves_no_connection(
    peers, trusted, monkeypatch
):
    """asyncio by itself waits up to 30 s for the server's farewell."""
    server, opened, done = peers(tls=True), [], threading.Event()
    made = AsyncStream.connection_made

    def and_cancel(self, transport):
        made(self, transport)
        opened.append(transport.get_extra_info("socket"))
        server.pause(done)
        task.cancel()

    monkeypatch.setattr(AsyncStream, "connection_made", and_cancel)
    task = asyncio.ensure_future(Client(server.url).aask(a_call()))
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    handles = [socket.fileno() for socket in opened]
    done.set()
    assert handles == [-1]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_loop_that_is_held_up_while_it_connects_blames_no_host(peers, trusted, tls):
    """As when thousands of calls begin at once; with `asyncio.timeout` the connect times out."""
    server, backup = peers(tls=tls), peers()
    client = Client(server.url, backup.url)
    hurried = Timeouts(connect=0.1, connect_backed=0.1)
    for turns in range(12):
        call = Call(path="/v1/x", body={}, retry_class="read", timeouts=hurried)
        asking = asyncio.ensure_future(client.aask(call))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.12)  # noqa: ASYNC251 - somebody holds the loop up
        assert (await asking).attempts == 1
        pool.async_pool().close()
    assert backup.connections == []


def test_certificates_that_cannot_be_read_are_told_and_blame_no_host(
    peers, call, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    server, backup = peers(tls=True), peers()
    client = Client(server.url, backup.url)
    with pytest.raises(InvalidRequestError, match=r"nowhere\.pem.* cannot be read") as caught:
        call(client, "ask", a_call("submit"))
    assert "SSL_CERT_FILE" in str(caught.value)
    assert server.connections == backup.connections == []


def test_an_emulator_that_does_not_run_is_said_to(refused, call):
    model = ChatTokenHub(model="hy3", api_key="sk-test", base_url=refused, max_retries=0)
    with pytest.raises(APIConnectionError, match="tokenhub emulator"):
        call(model, "invoke", "hi")


def test_a_host_that_cannot_be_reached_says_what_to_check(call):
    model = ChatTokenHub(
        model="hy3", api_key="sk-test", base_url="https://a.invalid", max_retries=0
    )
    with pytest.raises(APIConnectionError, match=r"HTTPS_PROXY.*TOKENHUB_SITE"):
        call(model, "invoke", "hi")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("deepsek-v4-flash", "did you mean 'deepseek-v4-flash'"), ("hy9", "Check the spelling")],
)
def test_a_model_that_the_service_does_not_know_may_be_misspelt(hub, call, name, nearest):
    with pytest.raises(ModelNotAvailableError, match=nearest):
        call(ChatTokenHub(model=name), "invoke", "hi")
