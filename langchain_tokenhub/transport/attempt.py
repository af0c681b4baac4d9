"""One attempt of a call at one host: the request, its answer, and what may be wrong with either."""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from langchain_tokenhub._version import __version__
from langchain_tokenhub.errors import (
    APITimeoutError,
    InvalidRequestError,
    ServerError,
    TokenHubError,
    clean,
    error_from,
    fault_in,
)
from langchain_tokenhub.transport.calls import Answer, Call, Endpoint, Timeouts, cached_property
from langchain_tokenhub.transport.decoding import LARGEST_ANSWER, LARGEST_COMPLAINT, unpacked
from langchain_tokenhub.transport.error_mapping import (
    failure_to_send,
    is_stream,
    readable,
    refusal,
    request_id,
    translated,
    unsendable,
    without,
)
from langchain_tokenhub.transport.failover import ascii_name, host_name
from langchain_tokenhub.transport.retry import retry_after
from langchain_tokenhub.transport.runtime import Runtime, hasten
from langchain_tokenhub.transport.send_state import SendState
from langchain_tokenhub.transport.sse import Batch, StreamReader

logger = logging.getLogger("langchain_tokenhub.transport")

DRAIN_SECONDS = 0.1
"""How long the end of a finished stream may take to come, so that its connection is used again."""
DRAIN_BYTES = 65536
SHORTEST_SECRET = 8
"""Characters of a header of the user's own that errors do not repeat; shorter ones are words."""

_USER_AGENT = f"langchain-tokenhub/{__version__} python/{platform.python_version()}"


class Begun:
    """A stream whose first values are known; closing it frees its connection, read or not."""

    def __init__(self, first: Batch, rest: AsyncGenerator[Batch, None]) -> None:
        self._first = [first]
        self._rest = rest

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        return self._first.pop() if self._first else await anext(self._rest)

    async def aclose(self) -> None:
        """Leave the stream."""
        await self._rest.aclose()


@dataclass
class Attempt:
    """What is sent to `origin` for `call`, as its attempt `number`, the call begun at `begun`."""

    endpoint: Endpoint
    runtime: Runtime
    call: Call
    origin: str
    number: int
    begun: float
    _secrets: tuple[str, ...] = field(default=(), repr=False)
    _server_id: str | None = None

    def mark(self, error: TokenHubError) -> TokenHubError:
        """Write into `error` where and when it happened, and take the key and headers out."""
        error.host = error.host or host_name(self.origin)
        error.request_id = error.request_id or self._server_id
        error.client_request_id = self.call.id
        error.attempts, error.elapsed = self.number, self.runtime.now() - self.begun
        without(error, self._secrets)
        return error

    async def answer(self) -> Answer:
        """Return the whole answer."""
        response = await self._send(stream=False)
        try:
            body = await self._whole(response)
            data = readable(response, body)
        finally:
            await self.runtime.close(response)
        if self.call.faults and fault_in(data):
            raise refusal(response, data)
        return self._answer(response, data, request_id(response, data))

    def _answer(self, response: httpx.Response, data: Any, request_id: str | None) -> Answer:
        return Answer(
            data=data,
            status=response.status_code,
            host=host_name(self.origin),
            request_id=request_id,
            client_request_id=self.call.id,
            attempts=self.number,
            retry_after=retry_after(response.headers),
        )

    async def begin(self) -> Answer:
        """Open a stream and read its first event, so that what fails before it can be repeated."""
        response = await self._send(stream=True)
        stream = self._stream(response)
        try:
            first = await anext(stream)
        except StopAsyncIteration:
            raise ServerError("the stream ended before its first event", phase="answered") from None
        except BaseException:
            await stream.aclose()
            raise
        return self._answer(response, Begun(first, stream), self._server_id)

    # -- the request ------------------------------------------------------------------------

    async def _send(self, *, stream: bool) -> httpx.Response:
        """Return a 2xx answer whose body is not yet read."""
        send_state = self.call.send_state or SendState()
        request = self._request(send_state, stream=stream)
        failure: httpx.HTTPError
        asked = self.runtime.now()
        try:
            response = await self.runtime.send(request)
        except httpx.HTTPError as caught:
            failure = caught
        else:
            response.request = request
            self._server_id = clean(response.headers.get("x-request-id", ""), 200) or None
            self._log(request, f"{response.status_code}", asked)
            if response.is_success:
                return response
            raise await self._complaint(response)
        self._log(request, type(failure).__name__, asked)
        # raised outside `except`: the library's error holds the request and with it the key
        raise failure_to_send(failure, send_state)

    def _log(self, request: httpx.Request, outcome: str, asked: float) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            host, milliseconds = host_name(self.origin), (self.runtime.now() - asked) * 1000
            line = "%s %s at %s: %s in %.0f ms"
            logger.debug(line, request.method, self.call.path, host, outcome, milliseconds)

    def _request(self, send_state: SendState, *, stream: bool) -> httpx.Request:
        call = self.call
        extensions = {
            "timeout": self._patience.within(self._left(), backed=self.endpoint.backed),
            "progress": send_state,
            "fresh": call.retry_class == "submit",
            "deadline": call.deadline,
        }
        method, content = "GET" if call.content is None else "POST", call.content
        failure: Exception
        try:
            url, goal = _target(self.origin + call.path)
            send_state.renew(goal)
            headers = self._headers(stream=stream)
            return httpx.Request(
                method, url, headers=headers, content=content, extensions=extensions
            )
        except (httpx.InvalidURL, UnicodeError) as caught:
            failure = caught
        raise unsendable(failure)

    def _headers(self, *, stream: bool) -> dict[str, str]:
        """Return the headers by lower-case name: the user's own win over ours, the key over all."""
        headers = {
            "accept": "text/event-stream" if stream else "application/json",
            "accept-encoding": "identity",  # a cut gzip stream would end in silence
            "user-agent": _USER_AGENT,
            "x-client-request-id": self.call.id,
        }
        if stream:
            headers["cache-control"] = "no-store"
        headers.update((name.lower(), value) for name, value in self.endpoint.headers.items())
        if self.call.content is not None:
            headers["content-type"] = "application/json"
        key, values = self.endpoint.key(), self.endpoint.headers.values()
        self._secrets = (key, *(value for value in values if len(value) >= SHORTEST_SECRET))
        headers["authorization"] = f"Bearer {key}"
        return headers

    @cached_property
    def _patience(self) -> Timeouts:
        """What the user said, else what their own client says, else what fits the call."""
        ours, theirs = self.call.timeouts, self.runtime.timeout
        return ours if ours.chosen else Timeouts.of(theirs, ours)

    @property
    def _late(self) -> bool:
        return self.call.deadline is not None and self.runtime.now() > self.call.deadline

    def _left(self) -> float | None:
        deadline = self.call.deadline
        return None if deadline is None else max(0.001, deadline - self.runtime.now())

    # -- the answer -------------------------------------------------------------------------

    def _body(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body's plain bytes."""
        encoding = response.headers.get("content-encoding", "")
        return unpacked(self.runtime.chunks(response), encoding)

    async def _whole(self, response: httpx.Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        failure: httpx.HTTPError
        try:
            async with aclosing(self._body(response)) as body:
                async for piece in body:
                    pieces.append(piece)
                    size += len(piece)
                    self._check_size(size)
        except httpx.HTTPError as caught:
            failure = caught
        else:
            return b"".join(pieces)
        raise translated(failure, "answered")

    def _check_size(self, size: int) -> None:
        if size > LARGEST_ANSWER:
            problem = f"the answer is larger than {LARGEST_ANSWER} bytes"
            raise ServerError(problem, phase="answered")
        if self._late:
            problem = "the answer did not come to its end before the deadline"
            raise APITimeoutError(problem, phase="answered")

    async def _complaint(self, response: httpx.Response) -> TokenHubError:
        """Return the error that a non-2xx answer stands for."""
        body = bytearray()
        try:
            if response.is_redirect:
                return _redirect(response.status_code)
            async with aclosing(self._body(response)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > LARGEST_COMPLAINT or self._late:
                        break
        except (httpx.HTTPError, ServerError):
            pass  # the status says enough
        finally:
            await self.runtime.close(response)
        told = bytes(body[:LARGEST_COMPLAINT])
        error = error_from(response.status_code, response.headers, told)
        error.retry_after = retry_after(response.headers)
        return error

    # -- the stream -------------------------------------------------------------------------

    async def _stream(self, response: httpx.Response) -> AsyncGenerator[Batch, None]:
        """Yield values, and give the connection back at the end, or when left."""
        failure: TokenHubError
        try:
            if not is_stream(response):
                yield await self._instead(response)
                return
            ear = StreamReader(response, self._patience, self.runtime.now)
            async with aclosing(self._body(response)) as pieces:
                async for piece in pieces:
                    if values := ear.hear(piece):
                        yield values
                        ear.rest()
                    if ear.stopped:
                        break
                ear.judge()
                await self._drain(response, pieces)
        except httpx.HTTPError as caught:
            failure = translated(caught, "streaming")
        except TokenHubError as error:
            failure = error
        else:
            return
        finally:
            await self.runtime.close(response)
        raise self.mark(failure)  # outside `except`: it is to hold nothing of the library

    async def _instead(self, response: httpx.Response) -> Batch:
        """Return what a server that ignores `stream` answered."""
        data = readable(response, await self._whole(response))
        if fault_in(data):
            raise refusal(response, data)
        return [data]

    async def _drain(self, response: httpx.Response, pieces: AsyncGenerator[bytes, None]) -> None:
        """Read what follows `[DONE]`, so that the connection can be used again."""
        if not hasten(response, DRAIN_SECONDS):
            return
        size, until = 0, self.runtime.now() + DRAIN_SECONDS
        try:
            async for piece in pieces:
                size += len(piece)
                if size > DRAIN_BYTES or self.runtime.now() > until:
                    break  # more than the end of the body: not worth the wait
        except (httpx.HTTPError, ServerError):
            return  # the answer is whole; only its connection is lost


@functools.lru_cache(maxsize=256)
def _target(address: str) -> tuple[httpx.URL, tuple[str, int]]:
    """Return the URL, and the host and port that a connection to it names."""
    url = httpx.URL(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    return url, (ascii_name(url), port)


def _redirect(status: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"the service redirects (HTTP {status}); that is never followed",
        status=status,
        hint="set `base_url` to the address that the service really has",
        phase="answered",
    )
