"""The emulator that users start: its settings, its routes, and the server on its own thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
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
from langchain_tokenhub.testing.http import Exchange, endpoint, refusal
from langchain_tokenhub.testing.media_state import MediaHub

_BACKLOG = 2048


@dataclass(kw_only=True, eq=False, repr=False)
class Emulator(MediaHub):
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
    _server: ServerThread | None = field(default=None, init=False)

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
            self._server = ServerThread(self, self.host, self.port)
            if self.unreachable:
                self._server.block()
        return self

    def stop(self) -> None:
        """Stop, and drop open connections."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _set_unreachable(self, *, value: bool) -> None:
        """Stop or start to accept connections."""
        if self._server and value != self.unreachable:
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


def _build_app(hub: MediaHub) -> Starlette:
    posts = {
        "/v1/chat/completions": chat_routes.chat,
        "/v1/embeddings": embedding_routes.embeddings,
        "/v1/api/image/lite": media_routes.lite,
        **{f"/v1/api/{kind}/submit": media_routes.submit for kind in ("image", "video", "3d")},
        **{f"/v1/api/{kind}/query": media_routes.query for kind in ("image", "video", "3d")},
    }

    async def not_found(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404

        async def refuse(_: Exchange) -> Response:
            raise RefusedError(f"{status}001", "No such path or method.")

        return await endpoint(hub, refuse, needs_key=False)(request)

    async def crashed(_: Request, error: Exception) -> Response:
        failure = RefusedError("500001", f"The emulator itself failed: {error!r}")
        return refusal(hub, hub.rng_for(b"crashed"), failure)

    routes = [Route(path, endpoint(hub, to), methods=["POST"]) for path, to in posts.items()]
    app = Starlette(
        routes=[
            *routes,
            Route("/v1/models", endpoint(hub, chat_routes.models), methods=["GET"]),
            Route(
                "/files/{name}",
                endpoint(hub, media_routes.serve_file, needs_key=False),
                methods=["GET"],
            ),
        ],
        exception_handlers={404: not_found, 405: not_found, Exception: crashed},
    )
    app.router.redirect_slashes = False
    return app


# -- server -------------------------------------------------------------------------------------


class ServerThread:
    """A uvicorn server on a thread, and its listening socket."""

    def __init__(self, hub: MediaHub, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._fillers: list[socket.socket] = []
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listener.getsockname()[1]}"
        self._server = _Server(_config(hub))
        self._thread = threading.Thread(target=self._serve, name="tokenhub-emulator", daemon=True)
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise RuntimeError("The emulator could not start.")

    def _serve(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener.dup()]))
        finally:
            self._server.ready.set()

    def block(self) -> None:
        """Accept nothing and fill the backlog: to a client the host drops every packet."""
        self._server.submit(self._server.stop_listening())
        self._listener.listen(0)
        while self._fill_backlog():
            continue

    def _fill_backlog(self) -> bool:
        """Connect, and return True if the backlog still had room."""
        client = socket.socket(self._listener.family)
        self._fillers.append(client)
        client.settimeout(0.05)
        try:
            client.connect(self._listener.getsockname())
        except TimeoutError:
            return False
        return True

    def unblock(self) -> None:
        """Accept connections again."""
        self._close_fillers()
        self._listener.listen(_BACKLOG)
        self._server.submit(self._server.startup(sockets=[self._listener.dup()]))

    def _close_fillers(self) -> None:
        for client in self._fillers:
            client.close()
        self._fillers.clear()

    def stop(self) -> None:
        """End the server and close the socket."""
        self._close_fillers()
        self._server.wake()
        self._thread.join()
        self._listener.close()


def _config(hub: MediaHub) -> uvicorn.Config:
    return uvicorn.Config(
        _build_app(hub),
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_keep_alive=75,
    )


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


class _Server(uvicorn.Server):
    """Stops on an event, and drops connections instead of waiting for them."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for `wake`; the base class polls ten times a second."""
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self.ready.set()
        await self._stopping.wait()

    def wake(self) -> None:
        """End `main_loop` from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def submit(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the server's loop from another thread."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def stop_listening(self) -> None:
        """Accept no more connections; open ones stay.

        A server that is closed while it accepts a connection leaves its socket open.
        """
        while accepts := {t for t in asyncio.all_tasks() if _is_accept(t)}:
            await asyncio.wait(accepts)
        for server in self.servers:
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drop the connections and cancel the requests."""
        del sockets  # closed with their servers
        await self.stop_listening()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        requests = list(self.server_state.tasks)
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


def _is_accept(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__name__", "") == "_accept_connection2"
