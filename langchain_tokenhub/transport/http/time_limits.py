"""Limit how long another HTTP library takes to send a request, and to read its response.

Such libraries limit each read but not their sum, so a response in small pieces might never end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import httpx

from langchain_tokenhub.transport.calls import MAX_TIMEOUT, SendState, SubmitCancelledError
from langchain_tokenhub.transport.http.sockets import WRITE_SIZE
from langchain_tokenhub.transport.http.threads import start_thread


class _Response(Protocol):
    def close(self) -> None: ...


T = TypeVar("T")
R = TypeVar("R", bound=_Response)
Trace = Callable[[str, dict[str, Any]], None]
AsyncTrace = Callable[[str, dict[str, Any]], Awaitable[None]]


def send_in_time(send: Callable[[Trace], R], request: httpx.Request) -> R:
    """Return what `send` returns on another thread; a late response is closed.

    Raises:
        httpx.TimeoutException: The request was not sent, or the head not complete, in time.
    """
    send_state: SendState = request.extensions["send_state"]
    until, head_seconds = time.monotonic() + _seconds_to_send(request), _seconds_for_head(request)
    is_sent, ended, lock = False, Future[R](), threading.Lock()

    def trace(name: str, info: dict[str, Any]) -> None:
        nonlocal is_sent, until
        with lock:
            if ended.cancelled():
                raise SubmitCancelledError("the request timed out")
            send_state.note(name, info)
        if send_state.body_sent and not is_sent:
            is_sent, until = True, time.monotonic() + _seconds_for_head(request)

    try:
        start_thread(partial(send, trace), ended, lambda response: response.close())
    except RuntimeError as error:  # too many threads, or the interpreter ends
        raise httpx.PoolTimeout(str(error)) from error
    try:
        while not ended.done() and (left := until - time.monotonic()) > 0:
            wait([ended], min(left, head_seconds))  # `until` is earlier once all is sent
    finally:
        with lock:  # from now on the thread begins no request and records nothing
            ended.cancel()
    if ended.cancelled():
        raise _timeout_error(send_state)
    return ended.result()


async def send_in_time_async(
    send: Callable[[AsyncTrace], Awaitable[T]], request: httpx.Request
) -> T:
    """Return what `send` returns.

    Raises:
        httpx.TimeoutException: The request was not sent, or the head not complete, in time.
    """
    send_state: SendState = request.extensions["send_state"]
    is_sent = False

    async def trace(name: str, info: dict[str, Any]) -> None:
        nonlocal is_sent
        send_state.note(name, info)
        if send_state.body_sent and not is_sent:
            is_sent = True
            timeout.reschedule(asyncio.get_running_loop().time() + _seconds_for_head(request))

    timeout = asyncio.timeout(_seconds_to_send(request))
    try:
        async with timeout:
            return await send(trace)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise _timeout_error(send_state) from error


class SyncReader:
    """Reads a body; once its time is limited, another thread shuts the socket down at the deadline.

    A body without a socket of its own (HTTP/2, a transport that is no network) has no limit here.

    Args:
        stream: The body.
        extensions: Those of the response, of httpx or httpcore.
    """

    def __init__(self, stream: Iterable[bytes], extensions: Mapping[str, Any]) -> None:
        self.stream = stream
        self._socket = _own_socket(extensions)
        self._deadline: float | None = None
        self._is_late, self._ended, self._lock = False, threading.Event(), threading.Lock()

    def limit_body(self, seconds: float) -> None:
        """Limit the time for the rest of the body, in place of an earlier limit."""
        is_first, self._deadline = self._deadline is None, time.monotonic() + seconds
        if is_first and self._socket is not None:
            try:
                start_thread(partial(self._shut_down_late, self._socket), Future[None]())
            except RuntimeError as error:  # too many threads, or the interpreter ends
                raise httpx.ReadError(str(error)) from error

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raises:
            httpx.ReadTimeout: The body is not complete in time.
        """
        try:
            for piece in self.stream:
                yield piece
        except Exception:
            if not self._is_late:
                raise
        finally:
            with self._lock:  # from now on another request may use the socket
                self._ended.set()
        if self._is_late:  # the socket's end may look like the body's
            raise _body_too_late()

    def _shut_down_late(self, own: socket.socket) -> None:
        while not self._ended.wait((self._deadline or 0.0) - time.monotonic()):
            with self._lock:
                if self._ended.is_set() or (self._deadline or 0.0) > time.monotonic():
                    continue
                self._is_late = True
                with suppress(OSError):  # of the base class: TLS may be reading on its thread
                    socket.socket.shutdown(own, socket.SHUT_RDWR)
                return


def _own_socket(extensions: Mapping[str, Any]) -> socket.socket | None:
    """Return the socket that carries nothing but this response, if there is one."""
    stream = extensions.get("network_stream")
    if stream is None or extensions.get("http_version") == b"HTTP/2":
        return None
    found = stream.get_extra_info("socket")
    return found if isinstance(found, socket.socket) else None


class AsyncReader:
    """Reads a body in an event loop."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self.stream = stream
        self._deadline: float | None = None

    def limit_body(self, seconds: float) -> None:
        """Limit the time for the rest of the body, in place of an earlier limit."""
        self._deadline = asyncio.get_running_loop().time() + seconds

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raises:
            httpx.ReadTimeout: The body is not complete in time.
        """
        pieces = aiter(self.stream)
        try:
            while (piece := await self._next(pieces)) is not None:
                yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        if self._deadline is None:
            return await anext(pieces, None)
        timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                return await anext(pieces, None)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise _body_too_late() from None


def _body_too_late() -> httpx.ReadTimeout:
    return httpx.ReadTimeout("the answer was not complete in time")


def _seconds_to_send(request: httpx.Request) -> float:
    """Return the seconds to send the request, with those for the head: a trace may be missing."""
    limits, pieces = request.extensions["timeout"], 1 + len(request.content) // WRITE_SIZE
    parts = limits["pool"], limits["connect"], *[limits["write"]] * pieces
    return _seconds(request, *parts, request.extensions.get("head_timeout"))


def _seconds_for_head(request: httpx.Request) -> float:
    return _seconds(request, request.extensions.get("head_timeout"))


def _seconds(request: httpx.Request, *parts: float | None) -> float:
    """Return the sum of `parts`, limited by the deadline of the call."""
    total = sum(MAX_TIMEOUT if part is None else part for part in parts)
    deadline = request.extensions.get("deadline")
    left = total if deadline is None else deadline - time.monotonic()
    return min(total, left, threading.TIMEOUT_MAX)


def _timeout_error(send_state: SendState) -> httpx.TimeoutException:
    if send_state.body_sent or not send_state.traced:
        return httpx.ReadTimeout("the answer's head was not complete in time")
    if send_state.started:
        return httpx.WriteTimeout("the request was not sent in time")
    return httpx.ConnectTimeout("the connection was not ready in time")
