"""The emulator as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from langchain_tokenhub.testing.errors import Era
from langchain_tokenhub.testing.media_state import MediaHub
from langchain_tokenhub.testing.running import Running
from langchain_tokenhub.testing.state import Latency, Settings


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
        seed: Same seed and same requests, same answers: ids, times of jobs, pictures.
        api_key: The only good key or keys; `None` takes any that does not begin with "wrong".
        quotas: Whether jobs in flight are limited per key and model, as by the service.
        rpm: Chat requests a minute per key and model; beyond it comes 429002.
        tpm: Tokens a minute per key and model; beyond it comes 429003.
        latency: Real seconds before every answer, or the least and the most of them.
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
        rpm: int | None = None,
        tpm: int | None = None,
        latency: Latency = 0.0,
        era: Era = "today",
    ) -> None:
        super().__init__(
            Settings(
                speed=speed,
                seed=seed,
                keys=frozenset([api_key] if isinstance(api_key, str) else api_key or ()),
                quotas=quotas,
                rpm=rpm,
                tpm=tpm,
                latency=latency,
                era=era,
            )
        )
        self._address = (host, port)
        self._running: Running | None = None

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
        """Start to listen.

        Raises:
            OSError: When the port is taken.
        """
        if self._running is None:
            self._running = Running(self, *self._address)
            if self.unreachable:
                self._running.shut()
        return self

    def stop(self) -> None:
        """Stop, whatever is still going on."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def recover(self) -> None:
        """Forget all orders to fail, and be reachable again."""
        if self.unreachable and self._running:
            self._running.open()
        super().recover()

    def _vanish(self) -> None:
        if not self.unreachable and self._running:
            self._running.shut()
        super()._vanish()

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
