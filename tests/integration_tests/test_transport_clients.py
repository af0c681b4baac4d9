"""The caller's own clients, and proxies from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import sys
import threading
import traceback

import httpx
import pytest

from langchain_tokenhub import APIConnectionError, APITimeoutError, InvalidRequestError
from langchain_tokenhub.transport.http import sockets


async def plain(connection, request):
    await connection.json({"choices": [{"message": {"content": "hi"}}]})


def test_the_callers_client_is_used_as_it_is_and_never_closed(model, peer):
    with httpx.Client(headers={"X-Gate": "1"}, cookies={"c": "2"}) as own:
        with model(http_client=own) as chat:
            assert chat.invoke("q").content == "hi"
        assert not own.is_closed
        assert "".join(chunk.content for chunk in chat.stream("q")) == "hi"
    headers = peer.requests[0].headers
    assert (headers["x-gate"], headers["cookie"]) == ("1", "c=2")
    assert headers["authorization"].endswith("sk-canary-0123456789")


async def test_the_callers_async_client_is_used_as_it_is_and_never_closed(model, peer):
    async with httpx.AsyncClient(headers={"X-Gate": "1"}) as own:
        async with model(http_async_client=own) as chat:
            assert (await chat.ainvoke("q")).content == "hi"
        assert not own.is_closed
        assert "".join([chunk.content async for chunk in chat.astream("q")]) == "hi"
    assert peer.requests[0].headers["x-gate"] == "1"


async def silence(connection, request):
    await connection.until_gone()


@pytest.mark.parametrize("said", [None, 0.2], ids=["the client's timeout", "the model's"])
def test_the_callers_client_says_how_patient_to_be_unless_the_model_does(said, model, peers):
    theirs = 0.2 if said is None else 600.0
    with httpx.Client(timeout=theirs) as own, pytest.raises(APITimeoutError):
        model(http_client=own, base_url=peers(silence).url, timeout=said).invoke("q")


async def test_the_callers_async_client_says_how_patient_to_be(model, peers):
    async with httpx.AsyncClient(timeout=0.2) as own:
        with pytest.raises(APITimeoutError):
            await model(http_async_client=own, base_url=peers(silence).url).ainvoke("q")


async def test_a_head_that_drips_to_the_callers_async_client_comes_to_an_end(model, peers):
    async def drip(connection, request):
        await connection.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not connection.gone.is_set():
            await connection.send(b"x")
            await asyncio.sleep(0.05)

    async with httpx.AsyncClient(timeout=0.2) as own:
        with pytest.raises(APITimeoutError, match="head"):
            await model(http_async_client=own, base_url=peers(drip).url).ainvoke("q")


def test_a_client_that_says_nothing_of_patience_does_not_cut_a_model_that_thinks(model):
    """httpx's default is 5 s."""
    with httpx.Client() as own:
        runtime = model(http_client=own)._sync().runtime
    assert runtime.timeout is None


def test_a_closed_client_is_told_as_such(model):
    with httpx.Client() as own:
        pass
    with pytest.raises(InvalidRequestError, match="closed"):
        model(http_client=own).invoke("q")


async def test_a_closed_async_client_is_told_as_such(model):
    async with httpx.AsyncClient() as own:
        pass
    with pytest.raises(InvalidRequestError, match="closed"):
        await model(http_async_client=own).ainvoke("q")


def test_streams_over_the_callers_client_use_one_connection(model, peer):
    with httpx.Client() as own:
        for _ in range(10):
            list(model(http_client=own).stream("q"))
    assert len(peer.connections) == 1


def test_the_callers_client_follows_no_redirect_for_us(model, peers):
    thief = peers()

    async def redirect(connection, request):
        await connection.json({}, status=307, Location=thief.url)

    with (
        httpx.Client(follow_redirects=True) as own,
        pytest.raises(InvalidRequestError, match="redirects"),
    ):
        model(http_client=own, base_url=peers(redirect).url).invoke("q")
    assert thief.connections == []


def test_a_transport_of_the_callers_without_sockets_works(model):
    def answer(request):
        return httpx.Response(200, json={"choices": [{"message": {"content": "mock"}}]})

    with httpx.Client(transport=httpx.MockTransport(answer)) as own:
        assert model(http_client=own).invoke("q").content == "mock"


# -- proxies ----------------------------------------------------------------------------------


class Proxy:
    """A proxy's answer: it forwards plain requests and opens tunnels."""

    def __init__(self):
        self.asked = []

    async def __call__(self, connection, request):
        self.asked.append((request.method, request.path))
        if request.method == "CONNECT":
            await self.tunnel(connection, request)
        else:
            await plain(connection, request)

    async def tunnel(self, connection, request):
        host, port = request.path.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(copy(connection.reader, writer), copy(reader, connection.writer))
        finally:
            writer.transport.abort()


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def proxy(peers):
    answer = Proxy()
    server = peers(answer)
    server.asked = answer.asked
    return server


@pytest.fixture
def secure(peers, raw, monkeypatch):
    """A TLS peer, its certificate trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(raw.certificate))
    sockets.tls.cache_clear()
    yield peers(tls=True)
    sockets.tls.cache_clear()


@pytest.fixture
def distant(model, secure):
    """Make a model on the TLS peer."""
    return functools.partial(model, base_url=secure.url)


@pytest.mark.parametrize("said", ["HTTPS_PROXY=", "HTTPS_PROXY=http://", "ALL_PROXY=http://"])
def test_the_environments_proxy_is_used(said, distant, proxy, call, monkeypatch):
    variable, _, scheme = said.partition("=")
    monkeypatch.setenv(variable, scheme + proxy.url.removeprefix("http://"))
    assert call(distant(), "invoke", "q").content == "hi"
    assert [method for method, _ in proxy.asked] == ["CONNECT"]


def test_no_proxy_sees_a_request_to_loopback_with_its_key(model, proxy, call, monkeypatch):
    """httpx 0.28.1 hands it over in plain text."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    assert call(model(), "invoke", "q").content == "hi"
    assert (len(model.peer.requests), proxy.requests) == (1, [])


@pytest.mark.parametrize("bypass", ["localhost", "*", "example.com,localhost"])
def test_no_proxy_is_honoured(bypass, distant, proxy, call, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", bypass)
    assert call(distant(), "invoke", "q").content == "hi"
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("socks5://me:canary-password@127.0.0.1:1", "pip install"),
        ("ftp://me:canary-password@127.0.0.1:1", "none of http"),
    ],
    ids=["SOCKS without its package", "no proxy at all"],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    address, said, distant, call, monkeypatch
):
    monkeypatch.setitem(sys.modules, "socksio", None)  # whether or not it is installed here
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(APIConnectionError, match=said) as caught:
        call(distant(max_retries=0), "invoke", "q")
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.phase == "not sent"


def test_what_answers_as_no_socks_proxy_does_is_told_as_such(distant, call, monkeypatch):
    """httpcore 1.0.9 lets the error of its SOCKS package pass."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=say_http, args=(listener,))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(APIConnectionError, match="no SOCKS proxy") as caught:
            call(distant(max_retries=0), "invoke", "q")
        thread.join()
    assert caught.value.phase == "not sent"


def say_http(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(64)
        connection.sendall(b"HTTP/1.1 400 nope\r\n\r\n")


def test_a_tunnel_is_opened_through_the_proxy(model, secure, proxy, call, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    chat = model(base_url=secure.url)
    assert call(chat, "invoke", "q").content == "hi"
    assert "".join(chunk.content for chunk in call(chat, "stream", "q")) == "hi"
    assert {method for method, _ in proxy.asked} == {"CONNECT"}
    assert len(secure.requests) == 2


def test_the_proxy_sees_no_key_of_a_tunnel(model, secure, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    model(base_url=secure.url).invoke("q")
    assert "authorization" not in proxy.requests[0].headers


def test_a_signed_link_is_in_no_line_of_the_proxys_engine(
    distant, secure, proxy, call, *, caplog, monkeypatch
):
    async def redirect(connection, request):
        await connection.json({}, status=307, Location="https://a.test/?q-signature=canary")

    secure.answer = redirect
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidRequestError, match="redirects"):
        call(distant(), "invoke", "q")
    assert "canary" not in caplog.text
    assert "[redacted]" in caplog.text


def test_a_dead_proxy_is_not_the_hosts_fault(model, secure, refused, call, monkeypatch):
    """fal_client 1.0.3 counts it as the host's and goes to its backup domain."""
    monkeypatch.setenv("HTTPS_PROXY", refused)
    chat = model(base_url=[secure.url, model.peer.url], max_retries=0)
    with pytest.raises(APIConnectionError) as caught:
        call(chat, "invoke", "q")
    assert (caught.value.attempts, caught.value.phase) == (1, "not sent")
    assert model.peer.connections == []


async def never(connection, request):
    await connection.until_gone()


async def denies(connection, request):
    await connection.send(
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize("answer", [never, denies])
def test_a_submit_that_stays_in_the_proxys_tunnel_was_not_sent(
    answer, peers, secure, call, monkeypatch
):
    from langchain_tokenhub.transport import (
        AsyncRuntime,
        Call,
        SyncRuntime,
        Timeouts,
        Transport,
        finish,
    )
    from tests.conftest import Budget, Endpoint, Hosts

    class Client:
        endpoint = Endpoint(
            hosts=Hosts((secure.url,)), budget=Budget(), key=lambda: "sk", max_retries=1
        )
        what = Call(
            path="/v1/x", body={}, retry_class="submit", timeouts=Timeouts(connect=0.3, read=0.3)
        )

        def ask(self):
            return finish(Transport(self.endpoint, SyncRuntime()).json(self.what))

        async def aask(self):
            return await Transport(self.endpoint, AsyncRuntime()).json(self.what)

    monkeypatch.setenv("HTTPS_PROXY", peers(answer).url)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its phase is the claim
        call(Client(), "ask")
    assert (caught.value.phase, caught.value.attempts) == ("not sent", 2)
