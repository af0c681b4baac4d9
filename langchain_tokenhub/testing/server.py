"""The emulator as a running server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from langchain_tokenhub.testing.app import build_app
from langchain_tokenhub.testing.errors import Era
from langchain_tokenhub.testing.media_hub import MediaHub


class Emulator(MediaHub):
    """A TokenHub on this machine: chat, images, videos and 3D over real HTTP.

    Example:
        ```python
        with Emulator(speed=20) as hub:
            model = ChatTokenHub(model="hy3", base_url=hub.url, api_key="any")
        ```

    Args:
        speed: Divides every wait. At 1 an image takes about 8 s, a video 20 s, a 3D model 30 s.
            At 0 jobs stand still and move only with `advance`, and streams do not wait.
        seed: Same seed, same ids, times and pictures.
        api_key: The only good key or keys; `None` takes any that does not begin with "wrong".
        quotas: Whether jobs in flight are limited per key and model, as by the service.
        era: "today" for the service as it is known to answer, "guide" for the words of the
            guide of 2026-04-03.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        seed: int = 0,
        api_key: str | Sequence[str] | None = None,
        quotas: bool = True,
        era: Era = "today",
    ) -> None:
        super().__init__(speed=speed, seed=seed, api_key=api_key, quotas=quotas, era=era)
        self._address = (host, port)
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """The base URL, without `/v1`.

        Raises:
            RuntimeError: When the emulator is not running.
        """
        if self._running is None:
            raise RuntimeError("The emulator is not running: use `with Emulator() as hub:`.")
        return self._running.url

    def start(self) -> Self:
        """Start to listen."""
        if self._running is None:
            self._running = _Running(self, *self._address)
        return self

    def stop(self) -> None:
        """Stop, whatever is still going on."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)


class _Running:
    """A server on a thread of its own."""

    def __init__(self, hub: MediaHub, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{listener.getsockname()[1]}"
        self._server = _Server(_config(hub))
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name="tokenhub-emulator", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise RuntimeError("The emulator could not start.")

    def _serve(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[listener]))
        finally:
            self._server.ready.set()

    def stop(self) -> None:
        self._server.wake()
        self._thread.join()


def _config(hub: MediaHub) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(hub),
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
    """Hands the transport to the application, which has to be able to hang up."""

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # narrowed by the base class too
    ) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server(uvicorn.Server):
    """Leaves on a signal of ours, and leaves nobody behind."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for `wake`; the base class looks ten times a second."""
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self.ready.set()
        await self._leave.wait()

    def wake(self) -> None:
        """End `main_loop` from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drop the connections and the requests in hand."""
        del sockets  # closed with their servers
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self.servers:
            await server.wait_closed()
