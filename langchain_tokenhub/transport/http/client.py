"""Send requests through a caller's own client, of httpx or of httpx2.

Responses and errors are converted to httpx's types; httpx2 is not imported.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport.http.time_limits import (
    AsyncReader,
    AsyncTrace,
    SyncReader,
    Trace,
    send_in_time,
    send_in_time_async,
)

if TYPE_CHECKING:
    import httpx2

DEFAULT_TIMEOUT = httpx.Timeout(5.0).as_dict()
"""The default timeout of a client, which is too short for a reasoning model."""


class CallerClient:
    """What sync and async clients share."""

    def __init__(
        self, client: httpx.Client | httpx.AsyncClient | httpx2.Client | httpx2.AsyncClient
    ) -> None:
        self._client: Any = client

    @property
    def timeout(self) -> httpx.Timeout | None:
        """The client's timeout; None if the caller did not set one."""
        limits = self._client.timeout.as_dict()
        return None if limits == DEFAULT_TIMEOUT else httpx.Timeout(**limits)

    def _build(self, request: httpx.Request, trace: Callable[..., Any]) -> Any:
        """Return a request that also has the client's own headers and cookies."""
        if self._client.is_closed:
            raise InvalidRequestError(
                "the HTTP client that was passed is closed",
                phase="not sent",
                hint="pass an open one as http_client or http_async_client, or none",
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

        async def close() -> None:
            response.close()

        return _convert(response, SyncReader(response.stream, response.extensions), close)


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
        return _convert(response, AsyncReader(response.stream), response.aclose)


class _Body(httpx.AsyncByteStream):
    """The body of a response of the client."""

    def __init__(
        self, reader: SyncReader | AsyncReader, close: Callable[[], Awaitable[None]]
    ) -> None:
        self._reader, self._close = reader, close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _map_errors():
            async with aclosing(self._reader.pieces()) as pieces:
                async for piece in pieces:
                    yield piece

    async def aclose(self) -> None:
        await self._close()


def _convert(
    response: Any, reader: SyncReader | AsyncReader, close: Callable[[], Awaitable[None]]
) -> httpx.Response:
    return httpx.Response(
        response.status_code,
        headers=response.headers.raw,
        stream=_Body(reader, close),
        extensions={"limit_body": reader.limit_body},
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
