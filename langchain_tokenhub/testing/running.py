"""The emulator's server, on a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from langchain_tokenhub.testing.app import build_app
from langchain_tokenhub.testing.media_state import MediaHub

_BACKLOG = 2048


class Running:
    """A server on a thread of its own, and the door through which clients come."""

    def __init__(self, hub: MediaHub, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._door = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._before_the_door: list[socket.socket] = []
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._door.getsockname()[1]}"
        self._server = _Server(_config(hub))
        self._thread = threading.Thread(target=self._serve, name="tokenhub-emulator", daemon=True)
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise RuntimeError("The emulator could not start.")

    def _serve(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._door.dup()]))
        finally:
            self._server.ready.set()

    def shut(self) -> None:
        """Let nobody in: nothing is accepted and the queue before the door is full.

        To a client this is a host that drops every packet.
        """
        self._server.do(self._server.leave_the_door())
        self._door.listen(0)
        while self._knock():
            continue

    def _knock(self) -> bool:
        """Try to connect, and tell whether there was still room to stand."""
        client = socket.socket(self._door.family)
        self._before_the_door.append(client)
        client.settimeout(0.05)
        try:
            client.connect(self._door.getsockname())
        except TimeoutError:
            return False
        return True

    def open(self) -> None:
        """Let them in again."""
        self._send_away()
        self._door.listen(_BACKLOG)
        self._server.do(self._server.startup(sockets=[self._door.dup()]))

    def _send_away(self) -> None:
        for client in self._before_the_door:
            client.close()
        self._before_the_door.clear()

    def stop(self) -> None:
        """End the server and close the door."""
        self._send_away()
        self._server.wake()
        self._thread.join()
        self._door.close()


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
        # asyncio only does so itself where the listening socket names its protocol; without it
        # every answer waits 40 ms for an acknowledgement of its headers
        client = transport.get_extra_info("socket")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something on the server's loop from another thread."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def leave_the_door(self) -> None:
        """Accept no more; who is inside stays."""
        for server in self.servers:
            server.close()

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
