"""A server whose answers a test scripts byte by byte, and short pauses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from langchain_tokenhub.jobs import media_file, service
from langchain_tokenhub.transport import retry
from langchain_tokenhub.transport.http import pool, sockets
from tests.integration_tests.answers import close, garbage, half, reset, silence

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""A certificate for localhost and its key, made for these tests alone."""
CHUNK = {"id": "c-1", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {}}]}


def event(text: str = "", finish: str | None = None) -> bytes:
    """Return a chunk of a completion as an event."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({**CHUNK, "choices": [choice]}).encode() + b"\n\n"


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
DONE = b"data: [DONE]\n\n"
HEAD = {"authorization": "Bearer any"}
WHOLE = {**CHUNK, "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Connection:
    """One connection of a peer, seen from the server."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: threading.Event = field(default_factory=threading.Event)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, data: Any, status: int = 200, **headers: str) -> None:
        body = json.dumps(data).encode()
        names = {"Content-Type": "application/json", "Content-Length": len(body), **headers}
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in names.items()]
        await self.send(f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode() + body)

    async def chunks(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    async def stream(self, *pieces: bytes) -> None:
        await self.send(STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        await self.chunks(*pieces)
        await self.send(b"0\r\n\r\n")

    async def until_gone(self) -> None:
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass
        self.gone.set()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Peer:
    """A server in a thread; `answer` is a coroutine function of a connection and a request."""

    def __init__(self, answer: Any = None, *, tls: bool = False) -> None:
        self.answer = answer or plain
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.arrived = threading.Event()
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = (
            f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pause(self, until: threading.Event) -> None:
        """Neither read nor write until the event, or for five seconds."""
        self._loop.call_soon_threadsafe(until.wait, 5)

    async def _start(self) -> asyncio.Server:
        context = None
        if self._tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(CERTIFICATE)
        return await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=context, backlog=4096, limit=1 << 24
        )

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(len(self.connections), reader, writer)
        self.connections.append(connection)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                request = await self._request(connection)
                self.requests.append(request)
                self.arrived.set()
                await self.answer(connection, request)
        writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()  # `gone` means that the socket is closed
        connection.gone.set()

    async def _request(self, connection: Connection) -> Request:
        head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        body = await connection.reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split(" ")
        return Request(method, path, headers, body, connection.number)

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


async def plain(connection: Connection, request: Request) -> None:
    """Answer a chat: whole, or as a stream of three events."""
    if b'"stream":true' in request.body:
        await connection.stream(event("h"), event("i"), event(finish="stop"), DONE)
    else:
        await connection.json(WHOLE)


NO_ANSWER = {answer.__name__: answer for answer in (silence, close, reset, half, garbage)}


@pytest.fixture(params=NO_ANSWER.values(), ids=NO_ANSWER)
def no_answer(request):
    """An answer of a peer that is none, or not all of one."""
    return request.param


@pytest.fixture
def peer():
    """A peer that chats; set `peer.answer` to make it do something else."""
    with Peer() as server:
        yield server


@pytest.fixture
def peers():
    """Make further peers: `peers(answer, tls=False)`."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Peer(*args, **kwargs))


@pytest.fixture
def raw():
    """The pieces that peers are made of."""
    return RAW


class RAW:
    event, DONE, STREAM, WHOLE = staticmethod(event), DONE, STREAM, WHOLE
    certificate = CERTIFICATE


@pytest.fixture(autouse=True)
def _own_connections(monkeypatch):
    """Begin with no idle connection, TLS context and proxy, and leave none behind."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    pool.sync_pool().close()
    sockets.tls_context.cache_clear()
    yield
    pool.sync_pool().close()
    sockets.tls_context.cache_clear()


@pytest.fixture
def client(hub):
    """A plain HTTP client of the emulator, with a key."""
    with httpx.Client(base_url=hub.url, headers=HEAD, trust_env=False) as made:
        yield made


@pytest.fixture
def trusted(monkeypatch):
    """Trust the certificate of peers that use TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.fixture
def black_hole(silent_port):
    """An address whose connections are never accepted."""
    return f"http://127.0.0.1:{silent_port}"


@pytest.fixture
def refused(refused_port):
    """An address where nobody listens."""
    return f"http://127.0.0.1:{refused_port}"


@pytest.fixture
def model(peer):
    """Make a chat model on the peer: `model(max_retries=0)`."""
    from langchain_tokenhub import ChatTokenHub

    def make(**fields: Any) -> Any:
        defaults = {"model": "m", "api_key": "sk-canary-0123456789", "base_url": peer.url}
        return ChatTokenHub(**{**defaults, **fields})

    make.peer = peer
    return make


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll and try again soon; unit tests cover how long the pauses are."""
    monkeypatch.setattr(service, "add_jitter", lambda seconds: min(seconds, 0.02))
    monkeypatch.setattr(retry, "MAX_BACKOFF", 0.02)
    monkeypatch.setattr(media_file, "PAUSE", 0.01)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget what this process knows, as another one would."""
    return lambda: monkeypatch.setattr("langchain_tokenhub.jobs.history._recent_by_owner", {})


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Lose the connection to a ledger's database after each commit; returns what was repeated."""
    from sqlalchemy import exc

    from langchain_tokenhub.jobs import ledger_sql

    transact = ledger_sql._transact
    lost: list[object] = []

    def losing(engine: Any, work: Any) -> Any:
        is_repeated = work in lost
        lost.append(work)
        done = transact(engine, work)
        if is_repeated:
            return done
        raise exc.OperationalError("", {}, Exception("cut"))

    monkeypatch.setattr(ledger_sql, "_transact", losing)
    return lost
