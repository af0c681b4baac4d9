"""Send requests through a caller's own client, of httpx or of httpx2.

Responses and errors are converted to httpx's types; httpx2 is never imported here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport.http.send_limits import (
    AsyncTrace,
    Trace,
    send_in_time,
    send_in_time_async,
)
from langchain_tokenhub.transport.http.threads import start_thread

if TYPE_CHECKING:
    import httpx2

DEFAULT_TIMEOUT = httpx.Timeout(5.0).as_dict()
"""The timeout of a client that was made without one: too short for a reasoning model."""


class CallerClient:
    """What sync and async clients share."""

    def __init__(
        self, client: httpx.Client | httpx.AsyncClient | httpx2.Client | httpx2.AsyncClient
    ) -> None:
        self._client: Any = client

    @property
    def timeout(self) -> httpx.Timeout | None:
        """The client's timeout; None if its maker did not set one."""
        limits = self._client.timeout.as_dict()
        return None if limits == DEFAULT_TIMEOUT else httpx.Timeout(**limits)

    def _build(self, request: httpx.Request, trace: Callable[..., Any]) -> Any:
        """Return a request that has the client's own headers and cookies too."""
        if self._client.is_closed:
            raise InvalidRequestError(
                "the HTTP client that was given is closed",
                phase="not sent",
                hint="give an open one as http_client or http_async_client, or none",
            )
        return self._client.build_request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=request.content,
            extensions={"timeout": request.extensions["timeout"], "trace": trace},
        )


class SyncCallerClient(CallerClient):
    """A caller's sync client."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request without following redirects."""
        request.extensions["send_state"].mark_handed_over()

        def send(trace: Trace) -> Any:
            own = self._build(request, trace)
            return self._client.send(own, stream=True, follow_redirects=False)

        with _map_errors():
            response = send_in_time(send, request)
        return _convert(response, _SyncBody(response))


class AsyncCallerClient(CallerClient):
    """A caller's async client."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request without following redirects."""
        request.extensions["send_state"].mark_handed_over()

        async def send(trace: AsyncTrace) -> Any:
            own = self._build(request, trace)
            return await self._client.send(own, stream=True, follow_redirects=False)

        with _map_errors():
            response = await send_in_time_async(send, request)
        return _convert(response, _AsyncBody(response))


class _CallerBody(httpx.AsyncByteStream):
    """The body of a response of the client."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._read_timeout: float | None = None

    def limit_reads(self, seconds: float) -> None:
        """Set a timeout for each further read; the client's own is fixed when the body begins."""
        self._read_timeout = seconds


class _SyncBody(_CallerBody):
    """The body of a sync response: with a read timeout, a thread reads it."""

    def __init__(self, response: Any) -> None:
        super().__init__(response)
        self._reading: Future[bytes | None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _map_errors():
            pieces = iter(self._response.stream)
            while (piece := self._next(pieces)) is not None:
                yield piece

    def _next(self, pieces: Iterator[bytes]) -> bytes | None:
        if self._read_timeout is None:
            return next(pieces, None)
        reading = self._reading = Future[bytes | None]()
        try:
            start_thread(partial(next, pieces, None), reading)
        except RuntimeError as error:  # too many threads, or the interpreter ends
            reading.cancel()
            raise httpx.ReadError(str(error)) from error
        try:
            return reading.result(self._read_timeout)
        except TimeoutError:
            raise httpx.ReadTimeout("the response did not end in time") from None

    async def aclose(self) -> None:
        if self._reading is None:
            self._response.close()
        else:  # at once, unless the thread is still reading
            self._reading.add_done_callback(lambda _: self._response.close())


class _AsyncBody(_CallerBody):
    """The body of an async response."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._response.stream)
        try:
            with _map_errors():
                while (piece := await self._next(pieces)) is not None:
                    yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        if self._read_timeout is None:
            return await anext(pieces, None)
        try:
            async with asyncio.timeout(self._read_timeout):
                return await anext(pieces, None)
        except TimeoutError:
            raise httpx.ReadTimeout("the response did not end in time") from None

    async def aclose(self) -> None:
        await self._response.aclose()


def _convert(response: Any, body: _CallerBody) -> httpx.Response:
    return httpx.Response(
        response.status_code,
        headers=response.headers.raw,
        stream=body,
        extensions={"limit_reads": body.limit_reads},
    )


@contextmanager
def _map_errors() -> Iterator[None]:
    """Raise httpx2's errors as httpx's, which have the same names."""
    try:
        yield
    except Exception as error:
        base = getattr(sys.modules.get("httpx2"), "HTTPError", ())
        if not isinstance(error, base):
            raise
        names = [kind.__name__ for kind in type(error).__mro__]
        known = (getattr(httpx, name) for name in names if hasattr(httpx, name))
        kind = next(kind for kind in known if kind is not httpx.HTTPStatusError)
        raise kind(str(error)) from error
