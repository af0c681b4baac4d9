"""What a peer may answer instead of a chat, and a transport of two faces that asks it."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_tokenhub.transport import (
    Answer,
    AsyncRuntime,
    Call,
    SyncRuntime,
    Transport,
    run_sync,
)
from langchain_tokenhub.transport.download import fetch
from tests.conftest import Budget, Endpoint, Hosts


async def silence(connection: Any, request: Any) -> None:
    await connection.until_gone()


async def close(connection: Any, request: Any) -> None:
    connection.writer.close()


async def reset(connection: Any, request: Any) -> None:
    connection.reset()


async def half(connection: Any, request: Any) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    connection.writer.close()


async def garbage(connection: Any, request: Any) -> None:
    await connection.send(b"\x00\x01\x02 not http\r\n\r\n")
    connection.writer.close()


def redirect(location: str) -> Any:
    async def answer(connection: Any, request: Any) -> None:
        await connection.json({}, status=307, Location=location)

    return answer


def drip(begin: bytes, data: bytes = b"x", seconds: float = 0.05) -> Any:
    """Answer `begin`, and then `data` over and over."""

    async def answer(connection: Any, request: Any) -> None:
        await connection.send(begin)
        while not connection.gone.is_set():
            await connection.send(data)
            await asyncio.sleep(seconds)

    return answer


drip_head = drip(b"HTTP/1.1 200 OK\r\nX-Long: ")


def drip_chunk(
    status: bytes = b"200 OK", kind: bytes = b"application/json", body: bytes = b""
) -> Any:
    """Answer a chunk whose size never ends, so that no further piece of the body comes."""
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s1;"
    chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return drip(head % (status, kind, chunk))


class Client:
    """A transport in two faces, over our connections or the caller's clients."""

    def __init__(
        self,
        *origins: str,
        max_retries: int = 2,
        http_client: Any = None,
        http_async_client: Any = None,
    ) -> None:
        endpoint = Endpoint(
            hosts=Hosts(origins), budget=Budget(), key=lambda: "sk-test", max_retries=max_retries
        )
        self.sync = Transport.sync(endpoint, http_client)
        self.asynchronous = Transport.asynchronous(endpoint, http_async_client)

    def ask(self, call: Call) -> Answer:
        return run_sync(self.sync.json(call))

    async def aask(self, call: Call) -> Answer:
        return await self.asynchronous.json(call)


class Link:
    """A file on loopback."""

    def __init__(self, url):
        self.url = url

    async def _bytes(self, runtime):
        fetched = await fetch(runtime, self.url, allow_loopback=True)
        return b"".join([piece async for piece in fetched.pieces])

    def read(self):
        return run_sync(self._bytes(SyncRuntime()))

    async def aread(self):
        return await self._bytes(AsyncRuntime())


def submit(**details: Any) -> Call:
    return Call(path="/submit", body={}, retry_class="submit", **details)
