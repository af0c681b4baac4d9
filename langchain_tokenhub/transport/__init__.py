"""The one transport: everything that this package sends, and all of its waiting.

A `Transport` is an `Endpoint` (which hosts, whose key, how patient) over a wire (sync or async).
It knows bytes, JSON and events; it knows nothing of LangChain, of chat or of jobs.
"""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from httpx import AsyncClient, Client, Timeout

from langchain_tokenhub._version import __version__
from langchain_tokenhub.errors import (
    APITimeoutError,
    IncompleteStreamError,
    InvalidRequestError,
    ServerError,
    TokenHubError,
    error_from,
    fault_in,
)
from langchain_tokenhub.transport.bodies import LARGEST_ANSWER, LARGEST_COMPLAINT, Inflater
from langchain_tokenhub.transport.calls import Answer, Call, Endpoint, Patience
from langchain_tokenhub.transport.events import EventDecoder
from langchain_tokenhub.transport.hosts import host_name
from langchain_tokenhub.transport.retry import pause, retry_after
from langchain_tokenhub.transport.verdicts import (
    after,
    final,
    is_stream,
    phase_of,
    readable,
    refusal,
    request_id,
    translated,
    unavailable,
    values_of,
)
from langchain_tokenhub.transport.wire import (
    AsyncWire,
    Progress,
    SyncWire,
    Wire,
    drain,
    finish,
    hasten,
    relax,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncWire",
    "Call",
    "Client",
    "Endpoint",
    "Patience",
    "Progress",
    "SyncWire",
    "Timeout",
    "Transport",
    "Wire",
    "drain",
    "finish",
]

logger = logging.getLogger("langchain_tokenhub.transport")

T = TypeVar("T")

DRAIN_SECONDS = 0.1
"""How long the end of a finished stream may take to come, so that its connection is used again."""

_USER_AGENT = f"langchain-tokenhub/{__version__} python/{platform.python_version()}"


@dataclass(frozen=True)
class Transport:
    """Sends calls to an endpoint over a wire."""

    endpoint: Endpoint
    wire: Wire

    async def json(self, call: Call) -> Answer:
        """Return the answer to `call`.

        Raises:
            TokenHubError: The class that the failure has by the tables of `retry` and
                `error_codes.toml`.
        """
        return await self._repeat(call, functools.partial(self._ask, call))

    async def events(self, call: Call) -> AsyncGenerator[list[Any], None]:
        """Yield the JSON values of the events of a stream, as many at a time as came together.

        Nothing is repeated after the first event. Ends normally only after `[DONE]`, or when the
        service answered whole instead of streaming.

        Raises:
            IncompleteStreamError: The stream ended, or was cut, without `[DONE]`.
            TokenHubError: As for `json`, also for an error that came inside the stream.
        """
        stream, first = await self._repeat(call, functools.partial(self._begin, call))
        async with aclosing(stream):
            yield first
            async for values in stream:
                yield values

    async def _repeat(self, call: Call, attempt: Callable[[str, int], Awaitable[T]]) -> T:
        """Run `attempt` until it works, or may not be repeated."""
        begun = self.wire.now()
        retries = attempts = 0
        while True:
            order = self.endpoint.hosts.order(self.wire.now(), prefer=call.prefer)
            failure: TokenHubError | None = None
            for origin in order:
                attempts += 1
                result, error = await self._try(origin, attempts, attempt)
                if error is None:
                    return result  # type: ignore[return-value]  # there is a result or an error
                failure = after(failure, error)
                if error.phase != "not sent":
                    break
            assert failure is not None  # noqa: S101 - `order` is never empty
            failure.attempts, failure.elapsed = attempts, self.wire.now() - begun
            seconds = self._pause(call, failure, retries)
            if seconds is None:
                raise final(call, failure)
            logger.debug("%s: again in %.2f s after %s", call.path, seconds, type(failure).__name__)
            await self.wire.sleep(seconds)
            retries += 1

    async def _try(
        self, origin: str, number: int, attempt: Callable[[str, int], Awaitable[T]]
    ) -> tuple[T | None, TokenHubError | None]:
        """Make one attempt at one host, and keep its health up to date."""
        hosts, host = self.endpoint.hosts, host_name(origin)
        try:
            result = await attempt(origin, number)
        except TokenHubError as error:
            error.host = error.host or host
            failure = error
        else:
            self.endpoint.budget.earn()
            if hosts.worked(origin):
                logger.warning("host %s answers again", host)
            return result, None
        if unavailable(failure):
            proven = failure.phase == "not sent"
            if hosts.failed(origin, self.wire.now(), proven=proven):
                logger.warning("host %s is unavailable and rests", host)
        elif failure.status is not None:
            hosts.worked(origin)
        return None, failure

    def _pause(self, call: Call, failure: TokenHubError, retries: int) -> float | None:
        left = self._left(call)
        limit = self.endpoint.max_retries
        seconds = pause(call.safety, failure, retries=retries, max_retries=limit, left=left)
        if seconds is None or self.endpoint.budget.spend():
            return seconds
        failure.add_note("not repeated: too many retries lately for this key and site")
        return None

    def _left(self, call: Call) -> float | None:
        return None if call.deadline is None else max(0.001, call.deadline - self.wire.now())

    async def _ask(self, call: Call, origin: str, attempts: int) -> Answer:
        response = await self._send(call, origin, stream=False)
        try:
            body = await self._whole(response, LARGEST_ANSWER)
            data = readable(response, body)
        finally:
            await self.wire.close(response)
        if call.faults and fault_in(data):
            raise refusal(response, data)
        return Answer(
            data=data,
            status=response.status_code,
            host=host_name(origin),
            request_id=request_id(response, data),
            attempts=attempts,
            retry_after=retry_after(response.headers),
        )

    async def _begin(
        self, call: Call, origin: str, _attempts: int
    ) -> tuple[AsyncGenerator[list[Any], None], list[Any]]:
        """Open a stream and read its first event, so that what fails before it can be repeated."""
        response = await self._send(call, origin, stream=True)
        stream = self._values(call, response)
        try:
            return stream, await anext(stream)
        except StopAsyncIteration:
            await stream.aclose()
        except BaseException:
            await stream.aclose()
            raise
        raise ServerError("the stream ended before its first event", phase="answered")

    async def _values(
        self, call: Call, response: httpx.Response
    ) -> AsyncGenerator[list[Any], None]:
        try:
            if is_stream(response):
                async with aclosing(self._events(call, response)) as events:
                    async for values in events:
                        yield values
            else:
                data = readable(response, await self._whole(response, LARGEST_ANSWER))
                if fault_in(data):
                    raise refusal(response, data)
                yield [data]
        except TokenHubError as error:
            error.host = error.host or response.request.url.netloc.decode()
            raise
        finally:
            await self.wire.close(response)

    async def _events(
        self, call: Call, response: httpx.Response
    ) -> AsyncGenerator[list[Any], None]:
        decoder = EventDecoder()
        heard, limit = self.wire.now(), call.patience.first
        async with aclosing(self._pieces(response)) as pieces:
            async for piece in pieces:
                events = decoder.feed(piece)
                if not events:
                    if limit is not None and self.wire.now() - heard > limit:
                        raise APITimeoutError(
                            f"the stream was kept alive for {limit:g} s and said nothing",
                            phase="streaming",
                            hint="raise `timeout` if the model may think that long",
                        )
                    continue
                values, done = values_of(events, response)
                if values:
                    yield values
                if done:
                    await self._drain(response, pieces)
                    return
                heard, limit = self.wire.now(), call.patience.content
        raise IncompleteStreamError(
            "the stream ended without `[DONE]`" + (" inside an event" if decoder.pending else ""),
            phase="streaming",
        )

    async def _drain(self, response: httpx.Response, pieces: AsyncGenerator[bytes, None]) -> None:
        """Read what follows `[DONE]`, so that the connection can be used again."""
        hasten(response, DRAIN_SECONDS)
        try:
            async for _ in pieces:
                break  # more than the end of the body: not worth the wait
        except TokenHubError:
            return  # the answer is whole; only its connection is lost
        finally:
            relax(response)

    async def _send(self, call: Call, origin: str, *, stream: bool) -> httpx.Response:
        """Return a 2xx answer whose body is not yet read."""
        progress = call.progress or Progress()
        request = self._request(call, origin, progress, stream=stream)
        failure: httpx.HTTPError | httpx.InvalidURL
        try:
            response = await self.wire.send(request)
        except (httpx.HTTPError, httpx.InvalidURL) as caught:
            failure = caught
        else:
            response.request = request
            logger.debug("%s %s: %d", request.method, call.path, response.status_code)
            if not response.is_success:
                raise await self._complaint(response)
            return response
        # raised outside `except`: the library's error holds the request and with it the key
        raise translated(failure, phase_of(failure, progress))

    def _request(
        self, call: Call, origin: str, progress: Progress, *, stream: bool
    ) -> httpx.Request:
        headers = {
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",  # a cut gzip stream would end in silence
            "User-Agent": _USER_AGENT,
            **self.endpoint.headers,
            "Authorization": f"Bearer {self.endpoint.key()}",
        }
        if call.content is not None:
            headers["Content-Type"] = "application/json"
        if stream:
            headers["Cache-Control"] = "no-store"
        extensions = {
            "timeout": call.patience.within(self._left(call)),
            "trace": self.wire.trace(progress),
        }
        method = "GET" if call.content is None else "POST"
        return httpx.Request(
            method, origin + call.path, headers=headers, content=call.content, extensions=extensions
        )

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body's plain bytes, with the library's errors as ours."""
        inflater = Inflater(response.headers.get("content-encoding", ""))
        failure: httpx.HTTPError
        try:
            async with aclosing(self.wire.chunks(response)) as chunks:
                async for chunk in chunks:
                    for piece in inflater.feed(chunk):
                        yield piece
        except httpx.HTTPError as caught:
            failure = caught
        else:
            return
        raise translated(failure, "streaming")

    async def _whole(self, response: httpx.Response, most: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async with aclosing(self._pieces(response)) as body:
            async for piece in body:
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise ServerError(f"the answer is larger than {most} bytes", phase="answered")
        return b"".join(pieces)

    async def _complaint(self, response: httpx.Response) -> TokenHubError:
        """Return the error that a non-2xx answer stands for."""
        if response.is_redirect:
            await self.wire.close(response)
            return InvalidRequestError(
                f"the service redirects (HTTP {response.status_code}); that is never followed",
                status=response.status_code,
                hint="set `base_url` to the address that the service really has",
                phase="answered",
            )
        try:
            body = await self._whole(response, LARGEST_COMPLAINT)
        except TokenHubError:
            body = b""  # the status says enough
        finally:
            await self.wire.close(response)
        error = error_from(response.status_code, response.headers, body)
        error.retry_after = retry_after(response.headers)
        return error
