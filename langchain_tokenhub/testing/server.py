"""The emulator that users start: its settings, its routes, and the server on its own thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from langchain_tokenhub.testing import chat_routes, embedding_routes, media_routes
from langchain_tokenhub.testing.errors import RefusedError
from langchain_tokenhub.testing.http import Exchange, Handler, endpoint, refusal
from langchain_tokenhub.testing.state import EmulatorState

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

    def _set_unreachable(self, *, value: bool) -> None:
        """Stop or start to accept connections."""
        if self._server and value != self.is_unreachable:
            (self._server.block if value else self._server.unblock)()
        super()._set_unreachable(value=value)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)


# -- routes -------------------------------------------------------------------------------------


def _build_app(hub: EmulatorState) -> Starlette:
    def route(method: str, path: str, handler: Handler, *, needs_key: bool = True) -> Route:
        return Route(path, endpoint(hub, handler, needs_key=needs_key), methods=[method])

    async def not_found(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404

        async def refuse(_: Exchange) -> Response:
            raise RefusedError(f"{status}001", "No such path or method.")

        return await endpoint(hub, refuse, needs_key=False)(request)

    async def crashed(_: Request, error: Exception) -> Response:
        failure = RefusedError("500001", f"The emulator itself failed: {error!r}")
        return refusal(hub, hub.rng_for(b"crashed"), failure)

    kinds = ("image", "video", "3d")
    routes = [
        route("POST", "/v1/chat/completions", chat_routes.chat),
        route("GET", "/v1/models", chat_routes.models),
        route("POST", "/v1/embeddings", embedding_routes.embeddings),
        route("POST", "/v1/api/image/lite", media_routes.lite),
        *(route("POST", f"/v1/api/{kind}/submit", media_routes.submit) for kind in kinds),
        *(route("POST", f"/v1/api/{kind}/query", media_routes.query) for kind in kinds),
        route("GET", "/files/{name}", media_routes.serve_file, needs_key=False),
    ]
    app = Starlette(
        routes=routes, exception_handlers={404: not_found, 405: not_found, Exception: crashed}
    )
    app.router.redirect_slashes = False
    return app


# -- server -------------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """A server on a thread. It stops on an event, and drops connections instead of waiting."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
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
        # asyncio only does so itself where the listening socket names its protocol; without it
        # every answer waits 40 ms for an acknowledgement of its headers
        client = transport.get_extra_info("socket")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
