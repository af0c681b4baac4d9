"""The emulator that users start, its routes, and the server on its own thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from langchain_tokenhub.testing import chat_routes, media_routes
from langchain_tokenhub.testing.chat_script import Reply
from langchain_tokenhub.testing.errors import Fault, FaultKind, RefusedError
from langchain_tokenhub.testing.http import Exchange, Handler, authorise, respond
from langchain_tokenhub.testing.state import EmulatorState, ReceivedRequest

ReplyFunction: TypeAlias = "Callable[[ReceivedRequest], Reply]"
_BACKLOG = 2048


@dataclass(kw_only=True, eq=False, repr=False)
class Emulator(EmulatorState):
    """A TokenHub on this machine: chat, embeddings, images, videos and 3D over real HTTP.

    Example:
        ```python
        with Emulator(speed=20) as hub:
            model = ChatTokenHub(model="hy3", base_url=hub.url, api_key="any")
        ```

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        speed: Divides every wait. At 1 an image takes about 8 s, a video 20 s, a 3D model 30 s.
            At 0 jobs advance only with `advance`, and streams do not wait.
        seed: Same seed and same requests, same answers: ids, times of jobs, images.
        api_key: The only accepted key or keys; None accepts any that does not begin with "wrong".
        models: Further model ids, served for chat, embeddings and media; unknown ids are refused,
            except `ep-...`.
        quotas: Whether jobs in flight are limited per key and model, as by the service.
        rpm: Chat requests a minute per key and model; one more is refused with 429002.
        tpm: Tokens a minute per key and model; more are refused with 429003.
        latency: Real seconds before every answer, or the range of them.
        era: "today" for the service as it is known to answer, "guide" for the errors and
            spellings of the guide of 2026-04-03.

    Attributes:
        requests: The received requests, in order.
        jobs: The accepted jobs by id.
        cost: Estimated credits of the accepted jobs; failed ones are free.
        streams: The number of open chat streams.

    Raises:
        ValueError: A setting is out of range.
        TypeError: `models` are not ids.
    """

    host: str = "127.0.0.1"
    port: int = 0
    _server: Server | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """The base URL, without `/v1`.

        Raises:
            RuntimeError: The emulator is not running.
        """
        if self._server is None:
            raise RuntimeError("The emulator is not running: use `with Emulator() as hub:`.")
        return self._server.url

    def start(self) -> Self:
        """Start to listen.

        Raises:
            OSError: The port is in use.
        """
        if self._server is None:
            self._server = Server(_build_app(self), self.host, self.port)
            if self.is_unreachable:
                self._server.block()
        return self

    def stop(self) -> None:
        """Stop, and drop open connections."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def reply(self, reply: Reply | Sequence[Reply | ReplyFunction] | ReplyFunction) -> None:
        """Script the next answers of chat models; without a script answers are computed.

        Args:
            reply: A text, an `AIMessage` (with `tool_calls`, `reasoning_content` in
                `additional_kwargs`, `usage_metadata` as you like) or a dict in the form of the
                service's messages answers one request. A list answers one request with each
                entry. A function is given the request (see `requests`) and returns a text, an
                `AIMessage` or a dict: it answers every request that nothing else is scripted
                for, in a list one request; what it raises is answered with HTTP 500. `recover`
                removes what is left.

        Raises:
            TypeError: The reply is of another type.
        """
        self.script.add(reply)

    def fail(
        self,
        kind: FaultKind = "status",
        *,
        status: int | None = None,
        code: str = "",
        message: str = "made by the emulator on request",
        retry_after: float | str | None = None,
        body: str | None = None,
        after: int = 0,
        seconds: float = 1.0,
        times: int = 1,
        path: str | None = None,
    ) -> None:
        """Make the next requests fail in a chosen way.

        Args:
            kind: `status` (an HTTP error), `reset` (the connection is reset without an answer),
                `hang` (never answered), `drip` (the answer comes in tiny pieces), `garbage` (200
                with HTML), `error-in-200`; in a chat stream `cut` (closed after some events),
                `stall` (silence), `keep-alive` (comments only), `bad-sse` (a frame that is no
                JSON), `duplicate` (a frame comes twice); for media `job` (the next job fails),
                `refuse` (the submit is refused inside HTTP 200), `lost-answer` (the job is made,
                the answer never comes). `black-hole` is not for single requests: until `recover`
                the host is unreachable, and connecting to it times out.
            status: HTTP status, else that of the code, else 500.
            code: Code of the error.
            message: Text of the error.
            retry_after: The header, seconds or a date.
            body: Sent in place of a JSON error.
            after: Events of a stream (counted from the end where negative) or bytes of a file
                before the failure.
            seconds: Duration of a drip.
            times: Number of requests.
            path: Only for paths that begin with it.

        Raises:
            ValueError: The kind is unknown.
        """
        fault = Fault(kind, status, code, message, retry_after, body, after, seconds, times, path)
        if fault.kind != "black-hole":
            self.faults.inject(fault)
        elif not self.is_unreachable:
            self.is_unreachable = True
            if self._server is not None:
                self._server.block()

    def recover(self) -> None:
        """Remove injected faults and scripted answers, and be reachable again."""
        self.faults.clear()
        self.script.clear()
        was_unreachable, self.is_unreachable = self.is_unreachable, False
        if was_unreachable and self._server is not None:
            self._server.unblock()

    def advance(self, seconds: float) -> None:
        """Move the clock of jobs, links and rate limits forward by `seconds`."""
        with self._lock:
            self._advanced += seconds

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)


# -- routes -------------------------------------------------------------------------------------


_GET, _POST = ("GET", "HEAD"), ("POST",)
_KINDS = ("image", "video", "3d")
_ROUTES: dict[str, tuple[tuple[str, ...], Handler]] = {
    "/v1/chat/completions": (_POST, chat_routes.chat),
    "/v1/models": (_GET, chat_routes.models),
    "/v1/embeddings": (_POST, chat_routes.embeddings),
    "/v1/api/image/lite": (_POST, media_routes.lite),
    **{f"/v1/api/{kind}/submit": (_POST, media_routes.submit) for kind in _KINDS},
    **{f"/v1/api/{kind}/query": (_POST, media_routes.query) for kind in _KINDS},
    "/files/": (_GET, media_routes.serve_file),
}


def _build_app(hub: EmulatorState) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await respond(hub, _route, Request(scope, receive))
        await response(scope, receive, send)

    return app


async def _route(x: Exchange) -> Response:
    """Answer a request by its path; links to files need no key."""
    path = x.received.path
    is_file = path.startswith("/files/")
    methods, handler = _ROUTES.get("/files/" if is_file else path, ((), None))
    if handler is None or x.received.method not in methods:
        raise RefusedError("405001" if methods else "404001", "No such path or method.")
    if not is_file:
        authorise(x)
    return await handler(x)


# -- server -------------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """A server on a thread. It stops on an event, and drops connections instead of waiting."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            timeout_keep_alive=75,
        )
        super().__init__(config)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # connections inherit it; else each answer waits 40 ms for its headers to be acknowledged
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listener.getsockname()[1]}"
        self._fillers: list[socket.socket] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run_loop, name="tokenhub-emulator", daemon=True
        )
        self._thread.start()
        self._ready.wait()

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self.serve(sockets=[self._listener.dup()]))

    async def main_loop(self) -> None:
        """Wait for `stop`; the base class polls ten times a second."""
        await self.on_tick(0)
        self._ready.set()
        await self._stopping.wait()

    def stop(self) -> None:
        """End the server and close the socket."""
        self._close_fillers()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._listener.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drop the connections and cancel the requests."""
        del sockets  # closed with their servers
        await self._stop_listening()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        requests = list(self.server_state.tasks)
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)

    async def _stop_listening(self) -> None:
        """Accept no more connections; open ones stay.

        A server that is closed while it accepts a connection leaves its socket open.
        """
        while accepts := [
            task
            for task in asyncio.all_tasks()
            if getattr(task.get_coro(), "__name__", "") == "_accept_connection2"
        ]:
            await asyncio.wait(accepts)
        for server in self.servers:
            server.close()

    def block(self) -> None:
        """Accept nothing and fill the backlog: to a client the host drops every packet."""
        self._call(self._stop_listening())
        self._listener.listen(0)
        with suppress(TimeoutError):
            while True:
                client = socket.socket(self._listener.family)
                self._fillers.append(client)
                client.settimeout(0.05)
                client.connect(self._listener.getsockname())

    def unblock(self) -> None:
        """Accept connections again."""
        self._close_fillers()
        self._listener.listen(_BACKLOG)
        self._call(self.startup(sockets=[self._listener.dup()]))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _close_fillers(self) -> None:
        while self._fillers:
            self._fillers.pop().close()


class _Protocol(H11Protocol):
    """Passes the transport to the application, which has to close connections."""

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # narrowed by the base class too
    ) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
