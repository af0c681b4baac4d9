"""What all tests share: the emulator, both faces, and a wire whose clock only counts."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from hypothesis import settings

from langchain_tokenhub.transport import Endpoint, Transport
from langchain_tokenhub.transport.calls import HTTPRequest, HTTPResponse
from langchain_tokenhub.transport.decoding import decode_headers
from langchain_tokenhub.transport.retry import Budget, Hosts
from tests.postgres import Postgres, programs

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault
settings.load_profile("unhurried")


async def _collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def sync(thing: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method; a generator comes back as a list."""
    result = getattr(thing, verb)(*args, **kwargs)
    return list(result) if inspect.isgenerator(result) else result


def asynchronous(thing: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Call the async twin `a` + verb in a loop of its own."""
    result = getattr(thing, f"a{verb}")(*args, **kwargs)
    return asyncio.run(_collect(result) if hasattr(result, "__aiter__") else result)


@pytest.fixture(params=[sync, asynchronous])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a verb of a thing in both faces: `call(model, "invoke", "hi")`."""
    return request.param


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """A TokenHub on loopback, quick, with the environment pointing at it."""
    from langchain_tokenhub.testing import Emulator

    with Emulator(speed=1000) as emulator:
        monkeypatch.setenv("TOKENHUB_BASE_URL", emulator.url)
        monkeypatch.setenv("TOKENHUB_API_KEY", "sk-test-canary")
        yield emulator


@pytest.fixture
def refused_port():
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def silent_port():
    """A port whose connections are never accepted: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


@pytest.fixture(scope="session")
def _server():
    if (found := programs()) is None:
        pytest.skip("needs PostgreSQL")
    server = Postgres(found)
    yield server
    server.close()


@pytest.fixture
def postgres(_server: Postgres):
    """A PostgreSQL server that a test may stop; its table is empty."""
    from langchain_tokenhub.jobs import ledger_sql

    ledger_sql.SqlBackend(_server.url).run(ledger_sql.METADATA.drop_all)
    yield _server
    ledger_sql._engine(ledger_sql._parse_url(_server.url), os.getpid()).dispose()
    _server.start()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs_postgres)])
def database(request: pytest.FixtureRequest, tmp_path):
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return request.getfixturevalue("postgres").url


class ScriptedBody:
    """The body of a response of httpx, whose time can be limited; `limits` is what was set."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.limits = stream, []

    async def read(self):
        async with aclosing(aiter(self._stream)) as pieces:
            async for piece in pieces:
                yield piece

    def limit(self, seconds: float) -> bool:
        self.limits.append(seconds)
        return True

    async def aclose(self) -> None:
        await self._stream.aclose()


def unread(response: httpx.Response) -> HTTPResponse:
    """Return a response of httpx as the transport gets it."""
    headers = decode_headers(response.headers.raw)
    return HTTPResponse(response.status_code, headers, ScriptedBody(response.stream))


class ScriptedRuntime:
    """A wire that answers from a script; its clock only counts, nothing waits.

    A script line is an exception to raise or a response to give. `sent` is what was asked.
    """

    def __init__(self, *script: httpx.Response | Exception) -> None:
        self.script = list(script)
        self.sent: list[HTTPRequest] = []
        self.slept: list[float] = []
        self.time = 1000.0

    timeout = None

    def now(self) -> float:
        return self.time

    def plain(self) -> ScriptedRuntime:
        return self

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        self.sent.append(request)
        line = self.script.pop(0)
        if isinstance(line, Exception):
            raise line
        return unread(line)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    async def blocking(self, work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    async def wait(self, future: Any, seconds: float | None) -> bool:
        if not future.done():
            await self.sleep(seconds or 0.0)
        return future.done()

    async def run_shielded(self, work: Any, progress: Any) -> tuple[Any, None]:
        return await work, None


def scripted(
    *script: httpx.Response | Exception,
    origins: Iterable[str] = ("https://a.test", "https://b.test"),
    max_retries: int = 2,
) -> Transport:
    """Return a transport over a scripted wire, with hosts and a budget of its own."""
    endpoint = Endpoint(
        hosts=Hosts(tuple(origins)),
        budget=Budget(),
        key=lambda: "sk-test-canary",
        max_retries=max_retries,
    )
    return Transport(endpoint, ScriptedRuntime(*script))


def answer(data: Any = None, *, status: int = 200, **headers: str) -> httpx.Response:
    """Return a JSON answer as the service would give it, unread."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    whole = httpx.Response(status, json={} if data is None else data, headers=names)
    return httpx.Response(status, headers=whole.headers, stream=httpx.ByteStream(whole.content))
