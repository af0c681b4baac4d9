"""Send requests through a caller's own client, of httpx or of httpx2, within limits of time.

These libraries limit each read but not their sum, so a response in small pieces might never end.
Errors are converted to httpx's; httpx2 is not imported.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport.calls import (
    MAX_TIMEOUT,
    Body,
    HTTPRequest,
    HTTPResponse,
    SendState,
    SubmitCancelledError,
)
from langchain_tokenhub.transport.decoding import decode_headers
from langchain_tokenhub.transport.http.sockets import WRITE_SIZE
from langchain_tokenhub.transport.runtime import run_on_thread

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
Trace = Callable[[str, dict[str, Any]], None]
AsyncTrace = Callable[[str, dict[str, Any]], Awaitable[None]]

DEFAULT_TIMEOUT = httpx.Timeout(5.0).as_dict()
"""The default timeout of a client, which is too short for a reasoning model."""
_SENT = ".send_request_body.complete"
"""End of the name of the event that the whole request was sent."""


class CallerClient:
    """Base class of a caller's sync and async clients."""

    def __init__(
        self, client: httpx.Client | httpx.AsyncClient | httpx2.Client | httpx2.AsyncClient
    ) -> None:
        self._client: Any = client

    @property
    def timeout(self) -> httpx.Timeout | None:
        """The client's timeout; None if the caller did not set one."""
        limits = self._client.timeout.as_dict()
        return None if limits == DEFAULT_TIMEOUT else httpx.Timeout(**limits)

    def _send(self, request: HTTPRequest, trace: Trace | AsyncTrace) -> Any:
        """Send a request with the client's own headers and cookies, without following redirects."""
        if self._client.is_closed:
            raise InvalidRequestError(
                "the HTTP client that was passed is closed",
                phase="not sent",
                hint="pass an open one as http_client or http_async_client, or none",
            )
        try:
            own = self._client.build_request(
                request.method,
                request.url.text,
                headers=request.all_headers(),
                content=request.content,
                extensions={"timeout": request.timeouts, "trace": trace},
            )
        except UnicodeEncodeError:
            raise httpx.LocalProtocolError("the request is not valid HTTP") from None
        return self._client.send(own, stream=True, follow_redirects=False)


class SyncCallerClient(CallerClient):
    """A caller's sync client."""

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request."""
        request.send_state.mark_started(is_traced=False)
        with _map_errors():
            response = send_in_time(partial(self._send, request), request)
        return _convert(response, _SyncBody(response))


class AsyncCallerClient(CallerClient):
    """A caller's async client."""

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request."""
        request.send_state.mark_started(is_traced=False)
        with _map_errors():
            response = await _send_in_time_async(partial(self._send, request), request)
        return _convert(response, _AsyncBody(response))


def _convert(response: Any, body: Body) -> HTTPResponse:
    return HTTPResponse(response.status_code, decode_headers(response.headers.raw), body)


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


# -- the head ---------------------------------------------------------------------------------


def send_in_time(send: Callable[[Trace], T], request: HTTPRequest) -> T:
    """Return the response of `send`, called on another thread; a late response is closed.

    Raises:
        httpx.TimeoutException: The request was not sent, or the head not complete, in time.
    """
    send_state = request.send_state
    until = time.monotonic() + _seconds_until_head(request)
    head_seconds = _seconds_until_head(request, is_sent=True)
    future, lock = Future[T](), threading.Lock()

    def trace(name: str, info: dict[str, Any]) -> None:
        nonlocal until
        with lock:
            if future.cancelled():
                raise SubmitCancelledError("the request timed out")
            send_state.record_event(name, info)
        if name.endswith(_SENT) and send_state.is_body_sent:
            until = time.monotonic() + _seconds_until_head(request, is_sent=True)

    try:
        run_on_thread(partial(send, trace), future, lambda response: response.close())
    except RuntimeError as error:  # too many threads, or the interpreter ends
        raise httpx.PoolTimeout(str(error)) from error
    try:
        while not future.done() and (left := until - time.monotonic()) > 0:
            wait([future], min(left, head_seconds))  # `until` is earlier once all is sent
    finally:
        with lock:  # from now on the thread begins no request and records nothing
            future.cancel()
    if future.cancelled():
        raise _timeout_error(send_state)
    return future.result()


async def _send_in_time_async(
    send: Callable[[AsyncTrace], Awaitable[T]], request: HTTPRequest
) -> T:
    """Return the response of `send`; raise as `send_in_time`."""
    send_state = request.send_state

    async def trace(name: str, info: dict[str, Any]) -> None:
        send_state.record_event(name, info)
        if name.endswith(_SENT) and send_state.is_body_sent:
            seconds = _seconds_until_head(request, is_sent=True)
            timeout.reschedule(asyncio.get_running_loop().time() + seconds)

    try:
        async with asyncio.timeout(_seconds_until_head(request)) as timeout:
            return await send(trace)
    except TimeoutError as error:
        raise _timeout_error(send_state) from error


def _seconds_until_head(request: HTTPRequest, *, is_sent: bool = False) -> float:
    """Return the seconds until the head is complete, sending included: a trace may be missing."""
    limits, parts = request.timeouts, [request.head_timeout]
    if not is_sent:
        pieces = 1 + len(request.content) // WRITE_SIZE
        parts += [limits["pool"], limits["connect"], *[limits["write"]] * pieces]
    total = sum(MAX_TIMEOUT if part is None else part for part in parts)
    left = total if request.deadline is None else request.deadline - time.monotonic()
    return min(total, left, threading.TIMEOUT_MAX)


def _timeout_error(send_state: SendState) -> httpx.TimeoutException:
    if send_state.is_body_sent or not send_state.is_traced:
        return httpx.ReadTimeout("the answer's head was not complete in time")
    if send_state.is_under_way:
        return httpx.WriteTimeout("the request was not sent in time")
    return httpx.ConnectTimeout("the connection was not ready in time")


# -- the body ---------------------------------------------------------------------------------


class _SyncBody:
    """A body; once its time is limited, another thread shuts the socket down at the deadline.

    A body without a socket of its own (HTTP/2, a transport that is no network) has no limit here.
    """

    def __init__(self, response: Any) -> None:
        self._response, self._socket = response, _own_socket(response.extensions)
        self._deadline: float | None = None
        self._is_late, self._is_ended, self._changed = False, False, threading.Condition()

    def limit(self, seconds: float) -> bool:
        if self._socket is None:
            return False
        with self._changed:
            before, self._deadline = self._deadline, time.monotonic() + seconds
            if before is not None and self._deadline < before:
                self._changed.notify()
        if before is None:
            try:
                run_on_thread(partial(self._shut_down_late, self._socket), Future[None]())
            except RuntimeError as error:
                raise httpx.ReadError(str(error)) from error
        return True

    async def read(self) -> AsyncGenerator[bytes, None]:
        with _map_errors():
            try:
                for piece in self._response.stream:
                    yield piece
            except Exception:
                if not self._is_late:
                    raise
            finally:
                self._end()
        if self._is_late:  # the socket's end may look like the body's
            raise _body_timeout_error()

    def _shut_down_late(self, own: socket.socket) -> None:
        with self._changed:
            while not self._is_ended and (left := (self._deadline or 0.0) - time.monotonic()) > 0:
                self._changed.wait(left)
            if not self._is_ended:
                self._is_late = True
                with suppress(OSError):  # of the base class: TLS may be reading on its thread
                    socket.socket.shutdown(own, socket.SHUT_RDWR)

    def _end(self) -> None:
        """From now on another request may use the socket."""
        with self._changed:
            self._is_ended = True
            self._changed.notify()

    async def aclose(self) -> None:
        self._end()
        self._response.close()


def _own_socket(extensions: Mapping[str, Any]) -> socket.socket | None:
    """Return the socket that carries nothing but this response, if there is one."""
    stream = extensions.get("network_stream")
    if stream is None or extensions.get("http_version") == b"HTTP/2":
        return None
    found = stream.get_extra_info("socket")
    return found if isinstance(found, socket.socket) else None


class _AsyncBody:
    """A body in an event loop."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._deadline: float | None = None

    def limit(self, seconds: float) -> bool:
        self._deadline = asyncio.get_running_loop().time() + seconds
        return True

    async def read(self) -> AsyncGenerator[bytes, None]:
        pieces = aiter(self._response.stream)
        try:
            with _map_errors():
                while (piece := await self._next(pieces)) is not None:
                    yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(pieces, None)
        except TimeoutError:
            raise _body_timeout_error() from None

    async def aclose(self) -> None:
        await self._response.aclose()


def _body_timeout_error() -> httpx.ReadTimeout:
    return httpx.ReadTimeout("the answer was not complete in time")
