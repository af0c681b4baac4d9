"""A loopback server that does with each connection exactly what a fault says."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SSE = b"Content-Type: text/event-stream\r\n"
CHUNKED = SSE + b"Transfer-Encoding: chunked\r\n"
DONE = b"data: [DONE]\n\n"
CHUNK = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
WHOLE = {
    **CHUNK,
    "object": "chat.completion",
    "usage": USAGE,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
}


def chunk(text: str, finish: str | None = None) -> bytes:
    """Return a chunk of a chat as JSON; text beyond ASCII stands as it is."""
    delta = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({**CHUNK, "choices": [choice]}, ensure_ascii=False).encode()


def event(text: str, finish: str | None = None) -> bytes:
    return b"data: " + chunk(text, finish) + b"\n\n"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    time: float = field(default_factory=time.monotonic)


@dataclass
class Connection:
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: bool = False

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def begin(self, headers: bytes = CHUNKED) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n")

    async def chunks(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    async def stream(self, *pieces: bytes, headers: bytes = CHUNKED) -> None:
        await self.begin(headers)
        await self.chunks(*pieces)
        await self.send(b"0\r\n\r\n")

    async def json(self, data: Any, status: int = 200, **headers: str) -> None:
        await self.body(
            json.dumps(data).encode(), status, Content_Type="application/json", **headers
        )

    async def body(self, data: bytes, status: int = 200, **headers: str) -> None:
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{''.join(lines)}\r\n"
        await self.send(head.encode() + data)

    async def until_gone(self) -> None:
        while await self.reader.read(65536):
            pass
        self.gone = True


Answer = Callable[[Connection, Request], Awaitable[None]]


async def plain(connection: Connection, request: Request) -> None:
    """Answer a chat: whole, or as a stream of three events."""
    if json.loads(request.body or b"{}").get("stream"):
        await connection.stream(event("h"), event("i"), event("", "stop"), DONE)
    else:
        await connection.json(WHOLE)


class Server:
    """What was asked, over which connection, and how it is answered."""

    def __init__(self, answer: Answer = plain) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.arrived = threading.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(len(self.connections), reader, writer)
        self.connections.append(connection)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                self.requests.append(await request_on(connection))
                self.arrived.set()
                await self.answer(connection, self.requests[-1])
        connection.gone = True
        writer.transport.abort()

    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.requests)


async def request_on(connection: Connection) -> Request:
    head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    body = await connection.reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body, connection.number)


@functools.cache
def the_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that runs in a thread until the process ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def serving(answer: Answer = plain, address: tuple[str, int] = ("127.0.0.1", 0)) -> Server:
    """Return a server that runs until the process ends."""
    server = Server(answer)
    listening = asyncio.start_server(server.serve, *address, backlog=4096, limit=1 << 24)
    made = asyncio.run_coroutine_threadsafe(listening, the_loop()).result()
    host, port = made.sockets[0].getsockname()
    server.url = f"http://{host}:{port}"
    return server


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """Yield an address whose connections are never accepted: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(address)
        time.sleep(0.05)
        yield address
