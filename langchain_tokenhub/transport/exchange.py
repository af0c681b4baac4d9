"""One attempt of a call at one host: the request, its answer, and what may be wrong with either."""

from __future__ import annotations

import logging
import platform
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic_core import from_json

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
from langchain_tokenhub.transport.retry import retry_after
from langchain_tokenhub.transport.verdicts import (
    failure_to_send,
    is_stream,
    readable,
    refusal,
    request_id,
    translated,
    unsendable,
    values_of,
    without,
)
from langchain_tokenhub.transport.wire import Progress, Wire, hasten, relax

logger = logging.getLogger("langchain_tokenhub.transport")

DRAIN_SECONDS = 0.1
"""How long the end of a finished stream may take to come, so that its connection is used again."""
DRAIN_BYTES = 65536

_USER_AGENT = f"langchain-tokenhub/{__version__} python/{platform.python_version()}"

Batch = list[Any]
"""The values of the events that came together."""


@dataclass
class Exchange:
    """What is sent to `origin` for `call`, as its attempt `number`, the call begun at `begun`."""

    endpoint: Endpoint
    wire: Wire
    call: Call
    origin: str
    number: int
    begun: float
    _secret: str = field(default="", repr=False)
    _server_id: str | None = None

    def mark(self, error: TokenHubError) -> TokenHubError:
        """Write into `error` where and when it happened, and take the key out."""
        error.host = error.host or host_name(self.origin)
        error.request_id = error.request_id or self._server_id
        error.client_request_id = self.call.id
        error.attempts, error.elapsed = self.number, self.wire.now() - self.begun
        if self._secret:
            without(error, self._secret)
        return error

    async def answer(self) -> Answer:
        """Return the whole answer."""
        response = await self._send(stream=False)
        try:
            body = await self._whole(response)
            data = readable(response, body)
        finally:
            await self.wire.close(response)
        if self.call.faults and fault_in(data):
            raise refusal(response, data)
        return Answer(
            data=data,
            status=response.status_code,
            host=host_name(self.origin),
            request_id=request_id(response, data),
            attempts=self.number,
            retry_after=retry_after(response.headers),
        )

    async def begin(self) -> tuple[AsyncGenerator[Batch, None], Batch]:
        """Open a stream and read its first event, so that what fails before it can be repeated."""
        stream = self._stream(await self._send(stream=True))
        try:
            first = await anext(stream)
        except StopAsyncIteration:
            raise ServerError("the stream ended before its first event", phase="answered") from None
        except BaseException:
            await stream.aclose()
            raise
        if self._server_id and type(first[0]) is dict:  # a stream has no other place for it
            first[0].setdefault("request_id", self._server_id)
        return stream, first

    # -- the request ------------------------------------------------------------------------

    async def _send(self, *, stream: bool) -> httpx.Response:
        """Return a 2xx answer whose body is not yet read."""
        progress = self.call.progress or Progress()
        request = self._request(progress, stream=stream)
        failure: httpx.HTTPError
        asked = self.wire.now()
        try:
            response = await self.wire.send(request)
        except httpx.HTTPError as caught:
            failure = caught
        else:
            response.request = request
            self._server_id = response.headers.get("x-request-id")
            self._log(request, f"{response.status_code}", asked)
            if response.is_success:
                return response
            raise await self._complaint(response)
        self._log(request, type(failure).__name__, asked)
        # raised outside `except`: the library's error holds the request and with it the key
        raise failure_to_send(failure, progress)

    def _log(self, request: httpx.Request, outcome: str, asked: float) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            host, milliseconds = host_name(self.origin), (self.wire.now() - asked) * 1000
            line = "%s %s at %s: %s in %.0f ms"
            logger.debug(line, request.method, self.call.path, host, outcome, milliseconds)

    def _request(self, progress: Progress, *, stream: bool) -> httpx.Request:
        call = self.call
        extensions = {
            "timeout": call.patience.within(self._left(), backed=self.endpoint.backed),
            "trace": self.wire.trace(progress),
            "fresh": call.safety == "submit",
        }
        method, content = "GET" if call.content is None else "POST", call.content
        failure: Exception
        try:
            headers, url = self._headers(stream=stream), httpx.URL(self.origin + call.path)
            port = url.port or (443 if url.scheme == "https" else 80)
            progress.renew((url.raw_host.decode("ascii"), port))
            return httpx.Request(
                method, url, headers=headers, content=content, extensions=extensions
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as caught:
            failure = caught
        raise unsendable(failure)

    def _headers(self, *, stream: bool) -> httpx.Headers:
        headers = httpx.Headers(
            {
                "Accept": "text/event-stream" if stream else "application/json",
                "Accept-Encoding": "identity",  # a cut gzip stream would end in silence
                "User-Agent": _USER_AGENT,
                "X-Client-Request-Id": self.call.id,
            }
        )
        if stream:
            headers["Cache-Control"] = "no-store"
        headers.update(self.endpoint.headers)
        if self.call.content is not None:
            headers["Content-Type"] = "application/json"
        self._secret = self.endpoint.key()
        headers["Authorization"] = f"Bearer {self._secret}"
        return headers

    def _left(self) -> float | None:
        deadline = self.call.deadline
        return None if deadline is None else max(0.001, deadline - self.wire.now())

    # -- the answer -------------------------------------------------------------------------

    def _body(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body's plain bytes."""
        encoding = response.headers.get("content-encoding", "")
        chunks = self.wire.chunks(response)
        return _inflated(chunks, Inflater(encoding)) if encoding else chunks

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
        if self.call.deadline is not None and self.wire.now() > self.call.deadline:
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
                    if len(body) > LARGEST_COMPLAINT:
                        break
        except (httpx.HTTPError, ServerError):
            pass  # the status says enough
        finally:
            await self.wire.close(response)
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
            ear = _Ear(response, self.call.patience, self.wire.now)
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
            await self.wire.close(response)
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
        size, until = 0, self.wire.now() + DRAIN_SECONDS
        try:
            async for piece in pieces:
                size += len(piece)
                if size > DRAIN_BYTES or self.wire.now() > until:
                    break  # more than the end of the body: not worth the wait
        except (httpx.HTTPError, ServerError):
            return  # the answer is whole; only its connection is lost
        finally:
            relax(response)


async def _inflated(
    chunks: AsyncGenerator[bytes, None], inflater: Inflater
) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            for piece in inflater.feed(chunk):
                yield piece


class _Ear:
    """Hears a stream: its values, its end, its complaint, and how long it says nothing."""

    def __init__(
        self, response: httpx.Response, patience: Patience, now: Callable[[], float]
    ) -> None:
        self._response, self._patience, self._now = response, patience, now
        self._decoder = EventDecoder()
        self._heard, self._limit = now(), patience.first
        self._failure: TokenHubError | None = None
        self.stopped = False

    def hear(self, piece: bytes) -> Batch:
        """Return the values that `piece` completes; what comes before a complaint is one."""
        values: Batch = []
        for name, data in self._decoder.feed(piece):
            try:
                value = from_json(data)
            except ValueError:
                value = None
            if type(value) is dict and "choices" in value and not name:
                values.append(value)  # as nearly all are
            else:
                self._odd(name, data, values)
            if self.stopped:
                return values
        if not values:
            self._check_silence()
        return values

    def _odd(self, name: bytes, data: bytes, values: Batch) -> None:
        """Take an event that is no chunk of a completion."""
        if data.strip() == b"[DONE]":
            self.stopped = True
            return
        try:
            values += values_of(name, data, self._response)
        except TokenHubError as error:
            self.stopped, self._failure = True, error

    def rest(self) -> None:
        """Start the clock again; the time that the reader took is not the service's."""
        self._heard, self._limit = self._now(), self._patience.content

    def judge(self) -> None:
        """Raise what is wrong with how the stream ended."""
        if self._failure is not None:
            raise self._failure
        if not self.stopped:
            where = " inside an event" if self._decoder.pending else ""
            raise IncompleteStreamError(
                f"the stream ended{where} without `[DONE]`", phase="streaming"
            )

    def _check_silence(self) -> None:
        if self._limit is not None and self._now() - self._heard > self._limit:
            raise APITimeoutError(
                f"the stream was kept alive for {self._limit:g} s and said nothing",
                phase="streaming",
                hint="raise `timeout` if the model may think that long",
            )


def _redirect(status: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"the service redirects (HTTP {status}); that is never followed",
        status=status,
        hint="set `base_url` to the address that the service really has",
        phase="answered",
    )
