"""Limit how long another HTTP library takes to send a request and to read its response's head.

Such libraries limit each read, and not their sum: a head that drips would never end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
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
    """Return what `send` returns on another thread; a response that comes late is closed.

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
                raise SubmitCancelledError("the time is over")
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
        raise _failure(send_state)
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
        raise _failure(send_state) from error


def _seconds_to_send(request: httpx.Request) -> float:
    """Return the seconds until all is sent, or until the head where no trace reports the former."""
    limits, pieces = request.extensions["timeout"], 1 + len(request.content) // WRITE_SIZE
    parts = limits["pool"], limits["connect"], *[limits["write"]] * pieces
    return _seconds(request, *parts, request.extensions.get("head_timeout"))


def _seconds_for_head(request: httpx.Request) -> float:
    return _seconds(request, request.extensions.get("head_timeout"))


def _seconds(request: httpx.Request, *parts: float | None) -> float:
    """Return the sum of `parts`, or what is left until the deadline of the call."""
    total = sum(MAX_TIMEOUT if part is None else part for part in parts)
    deadline = request.extensions.get("deadline")
    left = total if deadline is None else deadline - time.monotonic()
    return min(total, left, threading.TIMEOUT_MAX)


def _failure(send_state: SendState) -> httpx.TimeoutException:
    if send_state.body_sent or not send_state.traced:
        return httpx.ReadTimeout("the answer's head was not complete in time")
    if send_state.started:
        return httpx.WriteTimeout("the request was not sent in time")
    return httpx.ConnectTimeout("the connection was not ready in time")
