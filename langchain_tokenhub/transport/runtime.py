"""The difference between sync and async, and the only place that waits.

Everything above is written once, as `async def`, over a `Runtime`. The sync methods run the same
coroutine with a single `send(None)`: over a `SyncRuntime` nothing in it ever suspends.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
)
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar, cast

import httpx

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport.http.pool import async_pool, sync_pool
from langchain_tokenhub.transport.send_state import SendState
from langchain_tokenhub.transport.sync_bridge import finish

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_WORKERS = 16
"""Threads of a process that poll and fetch for sync callers, however many jobs there are."""
INTERRUPT_GRACE = 10.0
"""Seconds that an interrupted submit may take to receive its job id."""


class Runtime(Protocol):
    """What the transport needs of its surroundings: time, connections, threads."""

    @property
    def timeout(self) -> httpx.Timeout | None:
        """The timeout of the caller's own client, if the caller set one."""
        ...

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def plain(self) -> Runtime:
        """Return a runtime without the caller's client, whose headers may hold a key."""
        ...

    def send(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:
        """Send, and return the answer with its body not yet read."""
        ...

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, still encoded."""
        ...

    async def close(self, response: httpx.Response) -> None:
        """Release the connection, or close it if the body was not read to its end."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Return the addresses of `host`."""
        ...

    async def blocking(self, work: Callable[[], T]) -> T:
        """Run a blocking function (files, a user's store) where it blocks nothing else."""
        ...

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` in the background; of a sync process at most `MAX_WORKERS` run at once.

        Cancelling the future stops the work where it can be stopped.
        """
        ...

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:
        """Wait at most `seconds` for `future`. Return True if it is done.

        An interrupted wait cancels `future`.
        """
        ...

    async def shielded(
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        """Run `work`; once its first byte was sent, an interruption waits for its result.

        It waits at most `INTERRUPT_GRACE`, and further interruptions do not shorten that in async.
        Returns the result, and the interruption, which the caller raises once the result is safe.
        """
        ...


class SyncRuntime:
    """Waits by blocking the thread."""

    def __init__(self, client: httpx.Client | None = None) -> None:
        self._client = client

    @property
    def timeout(self) -> httpx.Timeout | None:  # noqa: D102
        return _timeout(self._client)

    def now(self) -> float:  # noqa: D102
        return time.monotonic()

    def plain(self) -> Runtime:  # noqa: D102
        return SyncRuntime()

    def send(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:  # noqa: D102
        return sync_pool().send(request) if self._client is None else self._send_by_client(request)

    async def _send_by_client(self, request: httpx.Request) -> httpx.Response:
        client = cast("httpx.Client", self._client)
        request.extensions["progress"].hand()
        request = _client_request(client, request, request.extensions["progress"].note)
        return client.send(request, stream=True, follow_redirects=False)

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        if self._client is None:
            return _async_chunks(response)
        return _sync_chunks(cast("Iterable[bytes]", response.stream))

    async def close(self, response: httpx.Response) -> None:  # noqa: D102
        if self._client is None:
            await response.aclose()
        else:
            response.close()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        time.sleep(seconds)  # noqa: ASYNC251 - this is the sync runtime

    async def resolve(self, host: str) -> tuple[Address, ...]:  # noqa: D102
        return _addresses(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    async def blocking(self, work: Callable[[], T]) -> T:  # noqa: D102
        return work()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:  # noqa: D102
        context = contextvars.copy_context()
        future = _executor(os.getpid()).submit(context.run, finish, work)
        future.add_done_callback(lambda ended: work.close() if ended.cancelled() else None)
        return future

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        try:
            concurrent.futures.wait([future], seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        if threading.current_thread() is not threading.main_thread():
            return finish(work), None  # Ctrl-C is raised in the main thread only
        worker = _Worker(work)
        try:
            worker.start()  # inside: it may have sent everything before this thread runs again
            worker.join(None)
        except BaseException as interruption:  # Ctrl-C, or what the caller's signal handler raises
            send_state.abandoned = True  # before `under_way` is read: see `SendState`
            if not send_state.under_way:
                worker.discard()
                raise
            worker.join(INTERRUPT_GRACE)
            return worker.result(interruption), interruption
        return worker.result(None), None


@functools.cache
def _executor(_process: int) -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads of this process that poll and fetch for sync callers."""
    return concurrent.futures.ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="tokenhub")


class _Worker:
    """Runs a coroutine on a thread of its own and stores its outcome."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self._ended: Future[Any] = Future()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def discard(self) -> None:
        """Close work that was never started, so that Python does not warn about it."""
        if self._thread.ident is None:
            with contextlib.suppress(ValueError):  # it is starting now, and will be abandoned
                self._work.close()

    def _run(self) -> None:
        try:
            self._ended.set_result(finish(self._work))
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._ended.set_exception(error)

    def join(self, seconds: float | None) -> None:
        # not `Thread.join`: before Python 3.13 a Ctrl-C in it marks the thread as ended
        concurrent.futures.wait([self._ended], seconds)

    def result(self, interruption: BaseException | None) -> Any:
        return self._ended.result() if interruption is None else _outcome(self._ended, interruption)


class AsyncRuntime:
    """Waits by suspending the task."""

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._client = client

    @property
    def timeout(self) -> httpx.Timeout | None:  # noqa: D102
        return _timeout(self._client)

    def now(self) -> float:  # noqa: D102
        return time.monotonic()

    def plain(self) -> Runtime:  # noqa: D102
        return AsyncRuntime()

    def send(self, request: httpx.Request) -> Coroutine[Any, Any, httpx.Response]:  # noqa: D102
        return async_pool().send(request) if self._client is None else self._send_by_client(request)

    async def _send_by_client(self, request: httpx.Request) -> httpx.Response:
        client = cast("httpx.AsyncClient", self._client)
        state, limit = request.extensions["progress"], request.extensions.get("head_timeout")
        state.hand()
        timeout = asyncio.timeout(None)

        async def trace(name: str, info: dict[str, Any]) -> None:
            state.note(name, info)
            if limit is not None and state.body_sent and timeout.when() is None:
                timeout.reschedule(asyncio.get_running_loop().time() + limit)

        try:
            async with timeout:
                theirs = _client_request(client, request, trace)
                return await client.send(theirs, stream=True, follow_redirects=False)
        except TimeoutError as late:
            if not timeout.expired():
                raise
            raise httpx.ReadTimeout("the answer's head was not complete in time") from late

    def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:  # noqa: D102
        return _async_chunks(response)

    async def close(self, response: httpx.Response) -> None:  # noqa: D102
        await response.aclose()

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(seconds)

    async def resolve(self, host: str) -> tuple[Address, ...]:  # noqa: D102
        loop = asyncio.get_running_loop()
        return _addresses(await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM))

    async def blocking(self, work: Callable[[], T]) -> T:  # noqa: D102
        return await asyncio.shield(asyncio.to_thread(work))  # a begun thread cannot be cancelled

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:  # noqa: D102
        return asyncio.run_coroutine_threadsafe(work, asyncio.get_running_loop())

    async def wait(self, future: Future[Any], seconds: float | None) -> bool:  # noqa: D102
        twin = asyncio.wrap_future(future)
        try:
            await asyncio.wait({twin}, timeout=seconds)
        except BaseException:
            future.cancel()
            raise
        return future.done()

    async def shielded(  # noqa: D102
        self, work: Coroutine[Any, Any, T], send_state: SendState
    ) -> tuple[T, BaseException | None]:
        task = _SubmitTask(work, send_state)
        try:
            return await asyncio.shield(task), None
        except asyncio.CancelledError as interruption:
            send_state.abandoned = True
            task.add_done_callback(_consume_exception)
            if task.cancelled() or not send_state.under_way:
                task.cancel()
                raise
            try:
                await _wait_uncancelled(task, INTERRUPT_GRACE)
            finally:
                task.release()
            return _outcome(task, interruption), interruption


async def _wait_uncancelled(task: asyncio.Task[Any], seconds: float) -> None:
    """Wait at most `seconds` for `task`, whoever cancels the wait meanwhile.

    anyio cancels again on every turn of the loop; inside a shielded scope it does not. A second
    cancellation in asyncio comes from another timeout or task group, and changes nothing.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    anyio = sys.modules.get("anyio")  # a scope of it can exist only where it is loaded
    with contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True):
        while not task.done() and (left := until - loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=left)


class _SubmitTask(asyncio.Task[T]):
    """A task that others cannot cancel while its submit is under way.

    A loop that ends cancels all tasks, and so do programs that shut down. The timeouts inside the
    task cancel it too; those come from the task itself or from a callback of the loop. A loop that
    ends although an interruption waits already (a second Ctrl-C) does cancel it.
    """

    def __init__(self, work: Coroutine[Any, Any, T], send_state: SendState) -> None:
        self._send_state = send_state
        self._is_held = True
        self._is_cancel_due = False
        super().__init__(work, loop=asyncio.get_running_loop())

    def cancel(self, msg: Any | None = None) -> bool:
        if self._is_held and self._send_state.under_way and self._is_cancelled_by_others():
            self._is_cancel_due = True
            return False
        return super().cancel(msg)

    def _is_cancelled_by_others(self) -> bool:
        loop = self.get_loop()
        if not loop.is_running():
            return not self._send_state.abandoned
        return asyncio.current_task(loop) not in (None, self)

    def release(self) -> None:
        """Allow cancellation, and cancel if somebody asked for it meanwhile."""
        self._is_held = False
        if self._is_cancel_due:
            self.cancel()


def _async_chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    body = aiter(cast("AsyncIterable[bytes]", response.stream))
    return body if isinstance(body, AsyncGenerator) else _generated(body)


async def _generated(body: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    async for chunk in body:
        yield chunk


async def _sync_chunks(body: Iterable[T]) -> AsyncGenerator[T, None]:
    for chunk in body:
        yield chunk


_UNSET = httpx.Timeout(5.0)
"""httpx's default timeout, which the caller did not choose; too short for a model that thinks."""


def _timeout(client: httpx.Client | httpx.AsyncClient | None) -> httpx.Timeout | None:
    return None if client is None or client.timeout == _UNSET else client.timeout


def _client_request(
    client: httpx.Client | httpx.AsyncClient, request: httpx.Request, trace: Callable[..., Any]
) -> httpx.Request:
    """Return `request` with the headers and cookies of the caller's own client."""
    if client.is_closed:
        raise InvalidRequestError(
            "the given httpx client is closed",
            phase="not sent",
            hint="pass an open one as http_client or http_async_client, or none",
        )
    return client.build_request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content,
        extensions={"timeout": request.extensions["timeout"], "trace": trace},
    )


def _outcome(task: asyncio.Future[T] | Future[T], interruption: BaseException) -> T:
    """Return the result of `task`, or raise `interruption` with a note of why there is none."""
    if not task.done():
        interruption.add_note(
            f"the submit under way had no answer after {INTERRUPT_GRACE:g} s; "
            "it may have been charged"
        )
        raise interruption
    if (error := task.exception()) is not None:
        interruption.add_note(f"the submit under way failed: {error}")
        raise interruption
    return task.result()


def _consume_exception(task: asyncio.Future[Any] | Future[Any]) -> None:
    """Retrieve an error that nothing awaits: asyncio logs those that are never retrieved."""
    if not task.cancelled():
        task.exception()


def _addresses(found: list[Any]) -> tuple[Address, ...]:
    names = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return tuple(ipaddress.ip_address(name) for name in names)


def limit_reads(response: httpx.Response, seconds: float) -> bool:
    """Limit each further read of an HTTP/1.1 answer to `seconds`. Return False if that cannot be.

    httpx fixes the read timeout when the body is begun; its network stream is the only place where
    a shorter one can still be set.
    """
    if (limit := response.extensions.get("hurry")) is not None:  # a connection of our own
        limit(seconds)
        return True
    stream = response.extensions.get("network_stream")
    if stream is None or response.http_version != "HTTP/1.1":
        return False
    read = stream.read
    stream.read = lambda size, timeout=None: read(size, timeout=min(seconds, timeout or seconds))
    return True


def restore_reads(response: httpx.Response) -> None:
    """Undo `limit_reads`, for the next request on the connection."""
    if (stream := response.extensions.get("network_stream")) is not None:
        vars(stream).pop("read", None)


atexit.register(lambda: finish(sync_pool().close()))  # those through a proxy; `sockets` ends others
