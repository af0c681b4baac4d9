"""The caller's own clients, and proxies from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import sys
import threading
import time
import traceback

import httpx
import httpx2
import pytest

from langchain_tokenhub import (
    APIConnectionError,
    APITimeoutError,
    IncompleteStreamError,
    InvalidRequestError,
    SubmissionUnknownError,
)
from langchain_tokenhub.transport import (
    AsyncRuntime,
    Call,
    SyncRuntime,
    Timeouts,
    Transport,
    decoding,
    run_sync,
)
from langchain_tokenhub.transport.http import sockets
from tests.conftest import Budget, Endpoint, Hosts, sync


async def plain(connection, request):
    await connection.json({"choices": [{"message": {"content": "hi"}}]})


class Own:
    """A caller's clients of one library, used in one face."""

    def __init__(self, http, *, is_async):
        self.http, self.is_async = http, is_async
        self.field = "http_async_client" if is_async else "http_client"

    def use(self, make, *verbs, **options):
        """Make a client, call `verbs` of what `make` makes with it, and close it."""
        return (
            asyncio.run(self._ause(make, verbs, options))
            if self.is_async
            else self._use(make, verbs, options)
        )

    def _use(self, make, verbs, options):
        with self.http.Client(**options) as client:
            found = [sync(make(http_client=client), verb, "q") for verb in verbs]
            assert not client.is_closed
        return found

    async def _ause(self, make, verbs, options):
        async with self.http.AsyncClient(**options) as client:
            results = [getattr(make(http_async_client=client), f"a{verb}")("q") for verb in verbs]
            found = [await (collect(r) if hasattr(r, "__aiter__") else r) for r in results]
            assert not client.is_closed
        return found


async def collect(stream):
    return [item async for item in stream]


@pytest.fixture(params=["httpx-sync", "httpx-async", "httpx2-sync", "httpx2-async"])
def own(request):
    library, _, face = request.param.partition("-")
    return Own({"httpx": httpx, "httpx2": httpx2}[library], is_async=face == "async")


def said(chunks):
    return "".join(chunk.content for chunk in chunks)


def test_the_callers_client_is_used_as_it_is_and_never_closed(own, model, peer):
    def make(**client):
        with model(**client) as chat:
            return chat

    answer, chunks = own.use(make, "invoke", "stream", headers={"X-Gate": "1"}, cookies={"c": "2"})
    assert (answer.content, said(chunks)) == ("hi", "hi")
    headers = peer.requests[0].headers
    assert (headers["x-gate"], headers["cookie"]) == ("1", "c=2")
    assert headers["authorization"].endswith("sk-canary-0123456789")


async def silence(connection, request):
    await connection.until_gone()


@pytest.mark.parametrize("timeout", [None, 0.2], ids=["the client's timeout", "the model's"])
def test_the_callers_client_has_its_own_timeout_unless_the_model_has_one(
    timeout, own, model, peers
):
    make = functools.partial(model, base_url=peers(silence).url, timeout=timeout)
    with pytest.raises(APITimeoutError) as caught:
        own.use(make, "invoke", timeout=0.2 if timeout is None else 600.0)
    assert caught.value.phase == "sent"


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_timeout_of_either_library_is_taken(http, model, peers, call):
    chat = model(base_url=peers(silence).url, timeout=http.Timeout(5, read=0.2))
    with pytest.raises(APITimeoutError):
        call(chat, "invoke", "q")


async def drip(connection, request):
    await connection.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not connection.gone.is_set():
        await connection.send(b"x")
        await asyncio.sleep(0.05)


async def drip_body(connection, request, status=b"200 OK", kind=b"application/json", begin=b""):
    """Send a chunk whose size never ends: no piece of the body comes."""
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s1;"
    await connection.send(head % (status, kind, begin))
    while not connection.gone.is_set():
        await connection.send(b"x")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("answer", "said"), [(drip, "head"), (drip_body, "not complete")])
def test_an_answer_that_drips_to_the_callers_client_comes_to_an_end(
    answer, said, own, model, peers
):
    make = functools.partial(model, base_url=peers(answer).url, max_retries=0)
    with pytest.raises(APITimeoutError, match=said):
        own.use(make, "invoke", timeout=own.http.Timeout(5, read=0.2))


def test_an_error_whose_body_drips_is_raised_all_the_same(own, model, peers, monkeypatch):
    async def refuse(connection, request):
        await drip_body(connection, request, b"400 X")

    monkeypatch.setattr(decoding, "ERROR_BODY_SECONDS", 0.2)
    with pytest.raises(InvalidRequestError, match="HTTP 400"):
        own.use(functools.partial(model, base_url=peers(refuse).url), "invoke")


HI = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
STREAMS = {
    name: functools.partial(drip_body, kind=b"text/event-stream", begin=begin)
    for name, begin in {"at once": b"", "after content": b"%x\r\n%s\r\n" % (len(HI), HI)}.items()
}


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_drips_to_the_callers_client_comes_to_an_end(answer, own, model, peers):
    make = functools.partial(model, base_url=peers(answer).url, timeout=0.2, max_retries=0)
    with pytest.raises(APITimeoutError, match=r"no content for 0\.2 s"):
        own.use(make, "stream")


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_drips_comes_to_an_end(answer, model, peers, call):
    chat = model(base_url=peers(answer).url, timeout=0.2, max_retries=0)
    with pytest.raises(APITimeoutError, match=r"no content for 0\.2 s"):
        call(chat, "stream", "q")


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_drips_through_a_proxy_comes_to_an_end(
    answer, *, distant, secure, proxy, call, monkeypatch
):
    secure.answer = answer
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(APITimeoutError, match=r"no content for 0\.2 s"):
        call(distant(timeout=0.2, max_retries=0), "stream", "q")


@pytest.mark.parametrize("answer", [drip, drip_body])
def test_an_answer_that_drips_comes_to_an_end(answer, model, peers, call):
    with pytest.raises(APITimeoutError):
        call(model(base_url=peers(answer).url, timeout=0.2, max_retries=0), "invoke", "q")


def test_a_submit_whose_answers_head_drips_to_the_callers_client_is_unknown(own, peers):
    with pytest.raises(SubmissionUnknownError, match="no answer in time"):
        own.use(asking(peers(drip)), "ask")


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_client_without_a_timeout_does_not_cut_a_model_that_thinks(http, model):
    """The default of both libraries is 5 s."""
    with http.Client() as client:
        assert model(http_client=client)._sync().runtime.timeout is None
    with http.Client(timeout=7) as client:
        assert model(http_client=client)._sync().runtime.timeout == httpx.Timeout(7)


def test_a_closed_client_is_told_as_such(own, model):
    closed = own.http.AsyncClient() if own.is_async else own.http.Client()
    asyncio.run(closed.aclose()) if own.is_async else closed.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        own.use(lambda **_: model(**{own.field: closed}), "invoke")


def test_a_client_of_the_other_face_is_refused(own, model):
    other = own.http.Client() if own.is_async else own.http.AsyncClient()
    with pytest.raises(ValueError, match=r"instance of httpx\.\w+ or httpx2\."):
        model(**{own.field: other})


def test_streams_over_the_callers_client_use_one_connection(own, model, peer):
    assert [said(chunks) for chunks in own.use(model, *["stream"] * 10)] == ["hi"] * 10
    assert len(peer.connections) == 1


def test_a_stream_whose_end_never_comes_is_left_although_the_client_would_wait(
    own, model, peer, raw
):
    async def serve(connection, request):
        await connection.send(raw.STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.chunks(raw.event("hi", "stop"), raw.DONE)
        await connection.until_gone()

    peer.answer = serve
    (chunks,) = own.use(model, "stream", timeout=3.0)
    assert said(chunks) == "hi"
    assert peer.connections[0].gone.wait(10)


def test_the_callers_client_follows_no_redirect_for_us(own, model, peers):
    thief = peers()

    async def redirect(connection, request):
        await connection.json({}, status=307, Location=thief.url)

    make = functools.partial(model, base_url=peers(redirect).url)
    with pytest.raises(InvalidRequestError, match="redirects"):
        own.use(make, "invoke", follow_redirects=True)
    assert thief.connections == []


def test_a_transport_of_the_callers_without_sockets_works(own, model):
    def answer(request):
        return own.http.Response(200, json={"choices": [{"message": {"content": "mock"}}]})

    (found,) = own.use(model, "invoke", transport=own.http.MockTransport(answer))
    assert found.content == "mock"


class Asking:
    """A submit over a caller's client, in two faces."""

    call = Call(path="/x", body={}, retry_class="submit", timeouts=Timeouts(read=0.3))

    def __init__(self, *origins, http_client=None, http_async_client=None):
        self.clients, hosts = (http_client, http_async_client), Hosts(origins)
        self.endpoint = Endpoint(hosts=hosts, budget=Budget(), key=lambda: "sk", max_retries=0)

    def ask(self, _):
        return run_sync(Transport(self.endpoint, SyncRuntime(self.clients[0])).json(self.call))

    async def aask(self, _):
        return await Transport(self.endpoint, AsyncRuntime(self.clients[1])).json(self.call)


def asking(*peers):
    return functools.partial(Asking, *[getattr(peer, "url", peer) for peer in peers])


def test_a_connection_that_the_callers_client_cannot_make_was_not_sent(own, peer, refused):
    assert own.use(asking(refused, peer), "ask")[0].attempts == 2


def test_a_submit_over_the_callers_client_without_an_answer_is_one_post(no_answer, own, peers):
    primary, backup = peers(no_answer), peers()
    with pytest.raises(SubmissionUnknownError) as caught:
        own.use(asking(primary, backup), "ask")
    assert (len(primary.requests), len(backup.requests)) == (1, 0)
    assert caught.value.phase in {"sent", "answered"}


def test_a_stream_over_the_callers_client_that_is_cut_is_incomplete(own, model, peer, raw):
    async def serve(connection, request):
        await connection.send(raw.STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.chunks(raw.event("word"))
        connection.writer.close()

    peer.answer = serve
    with pytest.raises(IncompleteStreamError):
        own.use(model, "stream")


def test_a_certificate_that_the_callers_client_refuses_goes_to_no_backup(own, peers):
    secure, backup = peers(tls=True), peers()
    with pytest.raises(APIConnectionError, match="VERIFY_FAILED"):
        own.use(asking(secure, backup), "ask")
    assert backup.connections == []


def test_an_error_that_a_hook_of_the_callers_raises_is_mapped(own, model, peer):
    async def refuse(connection, request):
        await connection.json({}, status=500)

    def hook(response):
        response.raise_for_status()

    async def async_hook(response):
        response.raise_for_status()

    peer.answer = refuse
    hooks = {"response": [async_hook if own.is_async else hook]}
    with pytest.raises(APIConnectionError):
        own.use(functools.partial(model, max_retries=0), "invoke", event_hooks=hooks)


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
        ("ftp://me:canary-password@127.0.0.1:1", "not of the type http"),
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
        with pytest.raises(APIConnectionError, match="is not SOCKS") as caught:
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


class Submit:
    """A submit over connections of our own, in two faces."""

    def __init__(self, url, timeouts, *, retries=0, seconds=None):
        self.endpoint = Endpoint(
            hosts=Hosts((url,)), budget=Budget(), key=lambda: "sk", max_retries=retries
        )
        deadline = None if seconds is None else time.monotonic() + seconds
        self.call = Call(
            path="/x", body={}, retry_class="submit", timeouts=timeouts, deadline=deadline
        )

    def ask(self):
        return run_sync(Transport(self.endpoint, SyncRuntime()).json(self.call))

    async def aask(self):
        return await Transport(self.endpoint, AsyncRuntime()).json(self.call)


@pytest.mark.parametrize("answer", [never, denies])
def test_a_submit_that_stays_in_the_proxys_tunnel_was_not_sent(
    answer, peers, secure, call, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", peers(answer).url)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its phase is the claim
        call(Submit(secure.url, Timeouts(connect=0.3, read=0.3), retries=1), "ask")
    assert (caught.value.phase, caught.value.attempts) == ("not sent", 2)


@pytest.mark.parametrize(
    ("tunnel", "answer", "phase"),
    [(drip, plain, "not sent"), (None, drip, "sent"), (None, drip_body, "answered")],
    ids=["the tunnel's head", "the answer's head", "the answer's body"],
)
def test_an_answer_that_drips_through_a_proxy_comes_to_an_end(
    tunnel, answer, phase, *, peers, secure, proxy, call, monkeypatch
):
    proxy = peers(tunnel) if tunnel else proxy
    secure.answer = answer
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    submit = Submit(secure.url, Timeouts(connect=0.1, read=0.2, write=0.1), seconds=1.0)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its phase is the claim
        call(submit, "ask")
    assert caught.value.phase == phase
    assert proxy.connections[0].gone.wait(10)
