"""The caller's own clients, and proxies from the environment."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import logging
import socket
import threading
import time
import traceback

import httpx
import httpx2
import pytest

from langchain_tokenhub import (
    APIConnectionError,
    APITimeoutError,
    CertificateError,
    IncompleteStreamError,
    InvalidRequestError,
    SubmissionUnknownError,
)
from langchain_tokenhub.transport import Timeouts, decoding
from tests.conftest import sync
from tests.integration_tests.answers import (
    Client,
    drip_chunk,
    drip_head,
    redirect,
    silence,
    submit,
)


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


@pytest.mark.parametrize(("answer", "said"), [(drip_head, "head"), (drip_chunk(), "not complete")])
def test_an_answer_that_drips_to_the_callers_client_comes_to_an_end(
    answer, said, own, model, peers
):
    make = functools.partial(model, base_url=peers(answer).url, max_retries=0)
    with pytest.raises(APITimeoutError, match=said):
        own.use(make, "invoke", timeout=own.http.Timeout(5, read=0.2))


def test_an_error_whose_body_drips_is_raised_all_the_same(own, model, peers, monkeypatch):
    monkeypatch.setattr(decoding, "ERROR_BODY_SECONDS", 0.2)
    make = functools.partial(model, base_url=peers(drip_chunk(b"400 X")).url)
    with pytest.raises(InvalidRequestError, match="HTTP 400"):
        own.use(make, "invoke")


HI = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
STREAMS = {
    "at once": drip_chunk(kind=b"text/event-stream"),
    "after content": drip_chunk(kind=b"text/event-stream", body=HI),
}


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_drips_to_the_callers_client_comes_to_an_end(answer, own, model, peers):
    make = functools.partial(model, base_url=peers(answer).url, timeout=0.2, max_retries=0)
    with pytest.raises(APITimeoutError, match=r"no content for 0\.2 s"):
        own.use(make, "stream")


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "through a proxy"])
@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_drips_comes_to_an_end(
    answer, is_proxied, *, distant, secure, proxy, call, monkeypatch
):
    secure.answer = answer
    monkeypatch.setenv("HTTPS_PROXY", proxy.url if is_proxied else "")
    with pytest.raises(APITimeoutError, match=r"no content for 0\.2 s"):
        call(distant(timeout=0.2, max_retries=0), "stream", "q")


def test_a_submit_whose_answers_head_drips_to_the_callers_client_is_unknown(own, peers):
    with pytest.raises(SubmissionUnknownError, match="no answer in time"):
        own.use(submitting(peers(drip_head)), "submit")


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_client_without_a_timeout_does_not_cut_a_model_that_thinks(http, model):
    """The default of both libraries is 5 s."""
    with http.Client() as client:
        assert model(http_client=client)._sync().runtime.timeout is None
    with http.Client(timeout=7) as client:
        assert model(http_client=client)._sync().runtime.timeout == httpx.Timeout(7)


def test_a_closed_client_is_reported_as_such(own, model):
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
        await asyncio.sleep(0.2)  # the limit of the body is set, and then shortened
        await connection.chunks(raw.event("hi", "stop"), raw.DONE)
        await connection.until_gone()

    peer.answer = serve
    (chunks,) = own.use(model, "stream", timeout=600.0)
    assert said(chunks) == "hi"
    assert peer.connections[0].gone.wait(10)


def test_the_callers_client_follows_no_redirect_for_us(own, model, peers):
    thief = peers()
    make = functools.partial(model, base_url=peers(redirect(thief.url)).url)
    with pytest.raises(InvalidRequestError, match="redirects"):
        own.use(make, "invoke", follow_redirects=True)
    assert thief.connections == []


def test_a_transport_of_the_callers_without_sockets_works(own, model):
    def answer(request):
        return own.http.Response(200, json={"choices": [{"message": {"content": "mock"}}]})

    (found,) = own.use(model, "invoke", transport=own.http.MockTransport(answer))
    assert found.content == "mock"


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_stream_whose_time_cannot_be_limited_is_not_read_after_its_end(http, model):
    """A sync body without a socket of its own (a mock, HTTP/2) might block for ever."""

    def body():
        yield from (HI, b"data: [DONE]\n\n")
        raise AssertionError("read after the end")

    def answer(_):
        return http.Response(200, headers={"Content-Type": "text/event-stream"}, content=body())

    with http.Client(transport=http.MockTransport(answer)) as client:
        assert said(model(http_client=client).stream("q")) == "hi"


class Submitting(Client):
    """A submit over a caller's client, in two faces."""

    def submit(self, _):
        return self.ask(submit(timeouts=Timeouts(read=0.3)))

    async def asubmit(self, _):
        return await self.aask(submit(timeouts=Timeouts(read=0.3)))


def submitting(*peers):
    urls = [getattr(peer, "url", peer) for peer in peers]
    return functools.partial(Submitting, *urls, max_retries=0)


def test_a_connection_that_the_callers_client_cannot_make_was_not_sent(own, peer, refused):
    assert own.use(submitting(refused, peer), "submit")[0].attempts == 2


def test_a_submit_over_the_callers_client_without_an_answer_is_one_post(no_answer, own, peers):
    primary, backup = peers(no_answer), peers()
    with pytest.raises(SubmissionUnknownError) as caught:
        own.use(submitting(primary, backup), "submit")
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
        own.use(submitting(secure, backup), "submit")
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
    """A proxy's answer: it forwards plain requests and opens tunnels to this machine.

    Args:
        pause: Seconds before the tunnel is open, and again before it forwards.
        drips: Returns whether what the server sends is forwarded byte by byte.
    """

    def __init__(self, pause=0.0, drips=lambda: False):
        self.asked, self.pause, self.drips = [], pause, drips

    async def __call__(self, connection, request):
        self.asked.append((request.method, request.path))
        if request.method == "CONNECT":
            await self.tunnel(connection, request)
        else:
            await plain(connection, request)

    async def tunnel(self, connection, request):
        _, port = request.path.split(":")
        reader, writer = await asyncio.open_connection("localhost", int(port))
        await asyncio.sleep(self.pause)
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.sleep(self.pause)
        try:
            back = copy(reader, connection.writer, self.drips)
            await asyncio.gather(copy(connection.reader, writer), back)
        finally:
            writer.transport.abort()


async def copy(reader, writer, drips=lambda: False):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            size = 1 if drips() else len(data)
            for begin in range(0, len(data), size):
                writer.write(data[begin : begin + size])
                await writer.drain()
                await asyncio.sleep(0.02 if drips() else 0)
    writer.close()


@pytest.fixture
def proxy(peers):
    answer = Proxy()
    server = peers(answer)
    server.asked = answer.asked
    return server


@pytest.fixture
def secure(peers, trusted):
    """A TLS peer, its certificate trusted."""
    return peers(tls=True)


@pytest.fixture
def distant(model, secure):
    """Make a model on the TLS peer."""
    return functools.partial(model, base_url=secure.url)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY=", "HTTPS_PROXY=http://", "ALL_PROXY=http://"])
def test_the_environments_proxy_is_used_and_sees_no_key(
    variable, distant, proxy, call, monkeypatch
):
    variable, _, scheme = variable.partition("=")
    monkeypatch.setenv(variable, scheme + proxy.url.removeprefix("http://"))
    assert call(distant(), "invoke", "q").content == "hi"
    assert said(call(distant(), "stream", "q")) == "hi"
    assert {method for method, _ in proxy.asked} == {"CONNECT"}
    assert "authorization" not in proxy.requests[0].headers


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
    ("scheme", "host", "said"),
    [
        ("ftp", "127.0.0.1", "not a valid URL of the type http"),
        ("http", "a..b", "not a valid URL"),
        ("socks5", "h" * 64 + ".test", "not a valid URL"),
        ("socks5", "127.0.0.1", "check HTTPS_PROXY"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    scheme, host, said, *, distant, call, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://me:canary-password@{host}:1")
    with pytest.raises(APIConnectionError, match=said) as caught:
        call(distant(max_retries=0), "invoke", "q")
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.phase == "not sent"


class Socks:
    """A SOCKS proxy that sends its answers in pieces, and takes one password or none."""

    def __init__(self, password=None):
        self.password, self.asked = password, []

    async def __call__(self, reader, writer):
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:  # also if the test has ended
            writer.transport.abort()

    async def serve(self, reader, writer):
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = 2 if self.password and 2 in methods else 255 if self.password else 0
        await self.send(writer, b"\5", bytes([method]))
        if method == 2:
            _, size = await reader.readexactly(2)
            user = await reader.readexactly(size)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            await self.send(writer, b"\1", bytes([(user, password) != (b"me", self.password)]))
        _, _, _, kind = await reader.readexactly(4)
        address = await reader.readexactly(4 if kind == 1 else (await reader.readexactly(1))[0])
        host = socket.inet_ntoa(address) if kind == 1 else address.decode()
        port = int.from_bytes(await reader.readexactly(2))
        self.asked.append(host)
        server = await asyncio.open_connection(host, port)
        try:
            await self.send(writer, b"\5\0\0", b"\3\4host\0\1")
            await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))
        finally:
            server[1].transport.abort()

    async def send(self, writer, *pieces):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)


@pytest.fixture
def socks(peer):
    """Start a SOCKS proxy, and return its port."""

    servers = []

    def start(proxy):
        starting = asyncio.start_server(proxy, "127.0.0.1", 0)
        servers.append(asyncio.run_coroutine_threadsafe(starting, peer._loop).result())
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for server in servers:
        peer._loop.call_soon_threadsafe(server.close)


@pytest.mark.parametrize("password", [None, b"p:w"], ids=["open", "with a password"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_tunnel_is_opened_through_a_socks_proxy(
    password, host, *, socks, distant, secure, call, monkeypatch
):
    proxy = Socks(password)
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://me:p%3Aw@127.0.0.1:{socks(proxy)}")
    chat = distant(base_url=secure.url.replace("localhost", host))
    assert said(call(chat, "stream", "q")) == "hi"
    assert proxy.asked == [host]


@pytest.mark.parametrize("user", ["", "me:wrong@"])
def test_a_socks_proxy_that_refuses_the_password_is_named(user, socks, distant, call, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://{user}127.0.0.1:{socks(Socks(b'pw'))}")
    with pytest.raises(APIConnectionError, match="proxy refuses") as caught:
        call(distant(max_retries=0), "invoke", "q")
    assert caught.value.phase == "not sent"


def test_a_host_that_is_too_long_for_socks_is_an_error_of_the_proxy(
    socks, distant, call, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{socks(Socks())}")
    host = ".".join(["a" * 60] * 5)
    with pytest.raises(APIConnectionError, match="at most 255 bytes") as caught:
        call(distant(base_url=f"https://{host}", max_retries=0), "invoke", "q")
    assert caught.value.phase == "not sent"


def test_a_proxy_may_use_tls_and_a_password_itself(peers, distant, secure, call, monkeypatch):
    answer = Proxy()
    proxy = peers(answer, tls=True)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:p%3Aw@"))
    assert [said(call(distant(), "stream", "q" * 400_000)) for _ in range(2)] == ["hi", "hi"]
    assert len(proxy.connections) == (1 if call is sync else 2)  # one a loop
    token = base64.b64encode(b"me:p:w").decode()
    assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {token}"
    assert "proxy-authorization" not in secure.requests[0].headers


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_that_closes_its_tunnel_at_once_is_not_the_hosts_fault(
    tls, peers, distant, call, monkeypatch
):
    async def open_and_close(connection, request):
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.writer.close()

    monkeypatch.setenv("HTTPS_PROXY", peers(open_and_close, tls=tls).url)
    begun = time.monotonic()
    with pytest.raises(APIConnectionError) as caught:
        call(distant(max_retries=0), "invoke", "q")
    assert (caught.value.phase, caught.value.host_unavailable) == ("not sent", False)
    assert time.monotonic() - begun < 4


def test_what_answers_as_no_socks_proxy_does_is_reported_as_such(distant, call, monkeypatch):
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


def test_a_signed_link_through_a_proxy_is_in_no_log(
    distant, secure, proxy, call, *, caplog, monkeypatch
):
    secure.answer = redirect("https://a.test/?q-signature=canary")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidRequestError, match="redirects"):
        call(distant(), "invoke", "q")
    assert "canary" not in caplog.text


def test_a_dead_proxy_is_not_the_hosts_fault(model, secure, refused, call, monkeypatch):
    """fal_client 1.0.3 counts it as the host's and goes to its backup domain."""
    monkeypatch.setenv("HTTPS_PROXY", refused)
    chat = model(base_url=[secure.url, model.peer.url], max_retries=0)
    with pytest.raises(APIConnectionError) as caught:
        call(chat, "invoke", "q")
    assert (caught.value.attempts, caught.value.phase) == (1, "not sent")
    assert model.peer.connections == []


@pytest.mark.parametrize("tls", [False, True])
def test_a_certificate_for_another_host_is_refused_through_a_proxy(
    tls, peers, distant, *, secure, call, caplog, monkeypatch
):
    """On CPython 3.11, TLS over TLS of asyncio raises a TypeError and logs it."""
    proxy = peers(Proxy(), tls=tls)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    chat = distant(base_url=secure.url.replace("localhost", "hub.test"))
    with pytest.raises(CertificateError, match=r"not valid for 'hub\.test'") as caught:
        call(chat, "invoke", "q")
    assert (caught.value.phase, caught.value.attempts) == ("not sent", 1)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def ask_by_each(proxies, chat, monkeypatch):
    for proxy in proxies:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        await chat.ainvoke("q")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_new_proxy_is_used_while_a_connection_through_the_old_one_is_idle(
    is_async, distant, peers, monkeypatch
):
    old, new = peers(Proxy()), peers(Proxy())
    proxies = [old.url, new.url, old.url.replace("://", "://me:pw@"), old.url]
    if is_async:
        asyncio.run(ask_by_each(proxies, distant(), monkeypatch))
    for proxy in () if is_async else proxies:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        distant().invoke("q")
    assert (len(old.connections), len(new.connections)) == (2, 1)


QUICK = Timeouts(connect=0.3, read=0.2, write=0.1)


async def denies(connection, request):
    await connection.send(
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize("answer", [silence, denies])
def test_a_submit_that_stays_in_the_proxys_tunnel_was_not_sent(
    answer, peers, secure, call, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", peers(answer).url)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its phase is the claim
        call(Client(secure.url, max_retries=1), "ask", submit(timeouts=QUICK))
    assert (caught.value.phase, caught.value.attempts) == ("not sent", 2)


async def test_a_blocked_loop_does_not_use_up_the_time_for_a_tunnel(secure, peers, monkeypatch):
    """As when thousands of calls start at once."""
    proxy = peers(Proxy(pause=0.1))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    asyncio.get_running_loop().call_later(0.05, time.sleep, 1.0)
    job = submit(timeouts=Timeouts(connect=0.3))
    assert (await Client(secure.url, max_retries=0).aask(job)).attempts == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_submit_whose_tunnel_is_open_after_its_deadline_is_not_sent(
    tls, peers, secure, call, monkeypatch
):
    """Each step is in time, the sum of them is not."""
    proxy = peers(Proxy(pause=0.4), tls=tls)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    job = submit(timeouts=Timeouts(connect=5.0), deadline=time.monotonic() + 0.6)
    with pytest.raises(APITimeoutError) as caught:
        call(Client(secure.url, max_retries=0), "ask", job)
    assert (caught.value.phase, caught.value.host_unavailable) == ("not sent", False)
    assert proxy.connections[0].gone.wait(10)
    assert secure.requests == []


def test_a_submit_whose_host_is_resolved_after_its_deadline_is_not_sent(peer, monkeypatch):
    """A blocking resolver cannot be interrupted."""
    resolve = socket.getaddrinfo

    def resolve_late(host, port, *where, flags=0, **how):
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        time.sleep(0.2)
        return resolve("127.0.0.1", port, *where, **how)

    client = Client(peer.url.replace("127.0.0.1", "localhost"), max_retries=0)
    monkeypatch.setattr(socket, "getaddrinfo", resolve_late)
    with pytest.raises(APITimeoutError) as caught:
        client.ask(submit(deadline=time.monotonic() + 0.1))
    assert caught.value.phase == "not sent"
    client.ask(submit())
    assert len(peer.requests) == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_handshake_that_drips_through_a_proxy_comes_to_an_end(
    tls, peers, secure, call, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", peers(Proxy(drips=lambda: True), tls=tls).url)
    with pytest.raises(APITimeoutError) as caught:
        call(Client(secure.url, max_retries=0), "ask", submit(timeouts=QUICK))
    assert caught.value.phase == "not sent"


@pytest.mark.parametrize("tls", [False, True])
def test_tls_records_that_drip_through_a_proxy_come_to_an_end(
    tls, peers, secure, call, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", peers(Proxy(drips=secure.arrived.is_set), tls=tls).url)
    job = submit(timeouts=Timeouts(connect=5.0, read=0.2))
    with pytest.raises(SubmissionUnknownError, match="no answer in time"):
        call(Client(secure.url, max_retries=0), "ask", job)


@pytest.mark.parametrize(
    ("tunnel", "answer", "phase"),
    [
        (drip_head, plain, "not sent"),
        (None, drip_head, "sent"),
        (None, drip_chunk(), "answered"),
    ],
    ids=["the tunnel's head", "the answer's head", "the answer's body"],
)
def test_an_answer_that_drips_through_a_proxy_comes_to_an_end(
    tunnel, answer, phase, *, peers, secure, proxy, call, monkeypatch
):
    proxy = peers(tunnel) if tunnel else proxy
    secure.answer = answer
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    job = submit(timeouts=QUICK, deadline=time.monotonic() + 1.0)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its phase is the claim
        call(Client(secure.url, max_retries=0), "ask", job)
    assert caught.value.phase == phase
    assert proxy.connections[0].gone.wait(10)
