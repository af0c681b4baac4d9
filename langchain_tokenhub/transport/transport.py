"""Send a call until it succeeds or may not be retried: requests, answers, retries, failover."""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx

from langchain_tokenhub import telemetry
from langchain_tokenhub._version import __version__
from langchain_tokenhub.errors import (
    IncompleteStreamError,
    InvalidRequestError,
    ServerError,
    TokenHubError,
    clean,
    error_from,
)
from langchain_tokenhub.transport.calls import (
    Answer,
    Call,
    Endpoint,
    Events,
    HTTPRequest,
    HTTPResponse,
    Timeouts,
    earliest,
    parse_url,
)
from langchain_tokenhub.transport.decoding import (
    MAX_ANSWER_BYTES,
    parse,
    read_body,
    read_error_body,
    read_whole,
)
from langchain_tokenhub.transport.error_mapping import (
    combine_failures,
    failure_to_send,
    final_error,
    hint_for,
    is_gateway_error,
    map_error,
    map_invalid_request,
    redact,
    refusal,
)
from langchain_tokenhub.transport.http.client import AsyncCallerClient, SyncCallerClient
from langchain_tokenhub.transport.retry import host_name, retry_after, retry_delay
from langchain_tokenhub.transport.runtime import AsyncRuntime, Runtime, SyncRuntime
from langchain_tokenhub.transport.sse import Batch, StreamReader, is_chunk, without_error

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger("langchain_tokenhub.transport")

DRAIN_SECONDS = 0.1
"""Seconds to wait for the end of a finished stream, so that its connection can be reused."""
DRAIN_BYTES = 65536
MIN_SECRET_LENGTH = 8
"""Minimum characters of a user's header that errors redact; shorter values are plain words."""

_USER_AGENT = f"langchain-tokenhub/{__version__} python/{platform.python_version()}"


_TIMEOUTS = Timeouts()


@dataclass
class Attempt:
    """Attempt `number` to send `call` to `origin`; `started_at` is the start of the call."""

    endpoint: Endpoint
    runtime: Runtime
    call: Call
    origin: str
    number: int
    started_at: float
    _secrets: tuple[str, ...] = field(default=(), repr=False)
    _server_id: str | None = None
    _timeouts: Timeouts = _TIMEOUTS

    def annotate(self, error: TokenHubError) -> TokenHubError:
        """Add the host, the ids and the time to `error`, and remove the key and headers."""
        error.__cause__ = error.__context__ = None  # the library's error holds the request
        error.host = error.host or host_name(self.origin)
        error.hint = hint_for(error, self.call, self.origin) or error.hint
        error.request_id = error.request_id or self._server_id
        error.client_request_id = self.call.id
        error.attempts, error.elapsed = self.number, self.runtime.now() - self.started_at
        redact(error, self._secrets)
        return error

    async def answer(self) -> Answer:
        """Return the whole answer."""
        try:
            response = await self._send(stream=False)
        except TokenHubError as error:
            if (data := self._accepted_body(error)) is None:
                raise
            self._server_id = error.request_id
            return self._answer(error.status or 0, data, error.retry_after)
        try:
            data = self._decode(response, await self._read_all(response))
        finally:
            await response.body.aclose()
        return self._answer(response.status, data, retry_after(response.headers))

    def _accepted_body(self, error: TokenHubError) -> Any:
        """Return the body of an error if it shows that the call was accepted, else None."""
        try:
            data = error.response and error.response.json()
        except (ValueError, RecursionError):
            return None
        return data if self.call.is_accepted(data) else None

    def _answer(self, status: int, data: Any, pause: float | None) -> Answer:
        own_id = data.get("request_id") if isinstance(data, dict) else None
        return Answer(
            data=data,
            status=status,
            host=host_name(self.origin),
            request_id=_clean_id(own_id) or self._server_id,
            client_request_id=self.call.id,
            attempts=self.number,
            retry_after=pause,
        )

    async def open_stream(self) -> Answer:
        """Open a stream and read its first event, so that a failure before it can be retried."""
        response = await self._send(stream=True)
        stream = self._stream(response)
        await anext(stream)
        return self._answer(response.status, stream, retry_after(response.headers))

    # -- the request ------------------------------------------------------------------------

    async def _send(self, *, stream: bool) -> HTTPResponse:
        """Return a 2xx response whose body is not yet read."""
        own = self.call.timeouts
        # the user's timeouts, else those of their own client, else those of the call
        self._timeouts = own if own.is_chosen else Timeouts.of(self.runtime.timeout, own)
        request = self._request(stream=stream)
        sent_at = self.runtime.now()
        try:
            response = await self.runtime.send(request)
        except httpx.HTTPError as caught:
            self._log(request, type(caught).__name__, sent_at)
            raise failure_to_send(caught, self.call.send_state) from None
        self._server_id = _clean_id(response.headers.get("x-request-id"))
        self._log(request, response.status, sent_at)
        if not response.is_success:
            raise await self._read_error(response)
        return response

    def _log(self, request: HTTPRequest, outcome: object, sent_at: float) -> None:
        host, milliseconds = host_name(self.origin), (self.runtime.now() - sent_at) * 1000
        line = "%s %s at %s: %s in %.0f ms"
        logger.debug(line, request.method, self.call.path, host, outcome, milliseconds)

    def _request(self, *, stream: bool) -> HTTPRequest:
        call, timeouts = self.call, self._timeouts
        try:
            url = _parse_url(self.origin + call.path)
        except (httpx.InvalidURL, UnicodeError) as caught:
            raise map_invalid_request(caught) from None
        call.send_state.renew((url.host, url.port))
        return HTTPRequest(
            method="GET" if call.content is None else "POST",
            url=url,
            headers=self._headers(stream=stream),
            timeouts=timeouts.within(self._left(), backed=len(self.endpoint.hosts.origins) > 1),
            head_timeout=timeouts.first if stream else timeouts.total,
            send_state=call.send_state,
            content=call.content or b"",
            deadline=call.deadline,
            is_submit=call.retry_class == "submit",
        )

    def _headers(self, *, stream: bool) -> dict[str, str]:
        """Return the headers; the user's override this package's, except type and key."""
        headers = {
            "accept": "text/event-stream" if stream else "application/json",
            "accept-encoding": "identity",  # the end of a cut gzip stream would go unnoticed
            "user-agent": _USER_AGENT,
            "x-client-request-id": self.call.id,
            **telemetry.trace_headers(),
        }
        if stream:
            headers["cache-control"] = "no-store"
        headers |= {name.lower(): value for name, value in self.endpoint.headers.items()}
        if self.call.content is not None:
            headers["content-type"] = "application/json"
        key, values = self.endpoint.key(), self.endpoint.headers.values()
        self._secrets = (key, *(value for value in values if len(value) >= MIN_SECRET_LENGTH))
        return {**headers, "authorization": f"Bearer {key}"}

    def _left(self) -> float | None:
        deadline = self.call.deadline
        return None if deadline is None else max(0.001, deadline - self.runtime.now())

    # -- the answer -------------------------------------------------------------------------

    async def _read_all(self, response: HTTPResponse) -> bytes:
        """Return the body, within the limits of size and time."""
        body, seconds = bytearray(), earliest(self._timeouts.total, self._left())
        try:
            await read_whole(response, body, seconds, self.runtime.now)
        except httpx.HTTPError as caught:
            raise map_error(caught, "answered") from None
        if len(body) > MAX_ANSWER_BYTES:
            problem = f"the answer is larger than {MAX_ANSWER_BYTES} bytes"
            raise ServerError(problem, phase="answered")
        return bytes(body)

    def _decode(self, response: HTTPResponse, body: bytes) -> Any:
        """Return the JSON value of a body, or `Events` if the service sent events unrequested."""
        status = response.status
        try:
            data = parse(body)
        except ServerError as error:
            kind = clean(response.headers.get("content-type", "no content type"), 60)
            problem = f"HTTP {status}, {kind!r}: {error.message}"
            unreadable = ServerError(problem, status=status, phase="answered")
        else:
            if not self.call.is_fault(data):
                return data
            if content := without_error(data):
                return Events(values=content, failure=self.annotate(refusal(response, data)))
            raise refusal(response, data)
        # the service may have sent events although none were requested
        reader = StreamReader(response, self._timeouts, self.runtime.now)
        values = [*reader.feed(body), *reader.finish()]
        failure = reader.failure
        is_error = failure is not None and not isinstance(failure, IncompleteStreamError)
        if not values:
            raise failure if failure is not None and is_error else unreadable
        if len(values) == 1 and not is_error and not is_chunk(values[0]):
            return values[0]
        return Events(values=values, failure=failure and self.annotate(failure))

    async def _read_error(self, response: HTTPResponse) -> TokenHubError:
        """Return the error for a response that is not a 2xx."""
        status = response.status
        if response.is_redirect:
            await response.body.aclose()
            problem = f"the service redirects (HTTP {status}); redirects are not followed"
            hint = "set `base_url` to the service's real address"
            return InvalidRequestError(problem, status=status, hint=hint, phase="answered")
        body = await read_error_body(response, self.runtime.now, self._left())
        error = error_from(status, response.headers, body)
        error.retry_after = retry_after(response.headers)
        return error

    # -- the stream -------------------------------------------------------------------------

    async def _stream(self, response: HTTPResponse) -> AsyncGenerator[Batch, None]:
        """Yield nothing when the first values have arrived, and then all values."""
        async with aclosing(self._batches(response)) as batches:
            first = await anext(batches, None)
            if first is None:
                raise ServerError("the stream ended before its first event", phase="answered")
            yield []
            yield first
            async for values in batches:
                yield values

    async def _batches(self, response: HTTPResponse) -> AsyncGenerator[Batch, None]:
        """Yield values, and release the connection at the end or when closed."""
        failure: TokenHubError
        reader: StreamReader | None = None
        try:
            if _is_stream(response):
                reader = StreamReader(response, self._timeouts, self.runtime.now)
                reader.limit_body()  # no piece may come at all
                async with aclosing(read_body(response)) as pieces:
                    async for piece in pieces:
                        if values := reader.feed(piece):
                            yield values
                            reader.resume()
                        if reader.is_stopped:
                            break
                    if values := reader.finish():
                        yield values
                    if reader.failure is not None:
                        raise reader.failure
                    await self._drain(response, pieces)
            else:  # a server that ignores `stream`
                data = self._decode(response, await self._read_all(response))
                yield list(data.values) if isinstance(data, Events) else [data]
                if isinstance(data, Events) and data.failure is not None:
                    raise data.failure
        except httpx.HTTPError as caught:
            failure = _stream_failure(caught, reader)
        except TokenHubError as error:
            failure = error
        else:
            return
        finally:
            await response.body.aclose()
        raise self.annotate(failure)  # outside `except`: it must not refer to the library's error

    async def _drain(self, response: HTTPResponse, pieces: AsyncGenerator[bytes, None]) -> None:
        """Read what follows `[DONE]`, so that the connection can be reused."""
        if not response.body.limit(DRAIN_SECONDS):
            return
        size = 0
        try:
            async for piece in pieces:
                size += len(piece)
                if size > DRAIN_BYTES:
                    break  # more than the end of the body
        except (httpx.HTTPError, ServerError):
            return  # the answer is complete; only its connection is lost


def _stream_failure(caught: httpx.HTTPError, reader: StreamReader | None) -> TokenHubError:
    if reader and isinstance(caught, httpx.ReadTimeout) and reader.seconds_left() == 0:
        return reader.timeout_error()
    return map_error(caught, "streaming")


@dataclass(frozen=True)
class Transport:
    """Sends calls to an endpoint over a runtime."""

    endpoint: Endpoint
    runtime: Runtime

    @classmethod
    def sync(cls, endpoint: Endpoint, client: httpx.Client | httpx2.Client | None = None) -> Self:
        """Return a transport that blocks the thread; a caller's own `client` sends for it."""
        return cls(endpoint, SyncRuntime(None if client is None else SyncCallerClient(client)))

    @classmethod
    def asynchronous(
        cls, endpoint: Endpoint, client: httpx.AsyncClient | httpx2.AsyncClient | None = None
    ) -> Self:
        """Return a transport that suspends the task; a caller's own `client` sends for it."""
        return cls(endpoint, AsyncRuntime(None if client is None else AsyncCallerClient(client)))

    def json(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Return the answer to `call`, to be awaited.

        Raises:
            TokenHubError: The class follows from `retry` and `error_codes.toml`.
        """
        return self._send(call, Attempt.answer)

    def stream(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Return the answer to `call` once its first event has arrived, to be awaited.

        Its `data` yields lists of the JSON values that arrived together, and must be closed.
        Nothing is retried after the first event. The stream ends normally only after `[DONE]`, or
        if the service sent a whole answer instead of a stream.

        Raises:
            IncompleteStreamError: The stream ended, or was cut, without `[DONE]`.
            TokenHubError: As for `json`, also for an error in the stream.
        """
        return self._send(call, Attempt.open_stream)

    async def _send(self, call: Call, act: Callable[[Attempt], Awaitable[Answer]]) -> Answer:
        """Run `act` on one attempt after another until it succeeds, or may not be retried."""
        started_at, retries, attempts = self.runtime.now(), 0, 0
        while True:
            failure: TokenHubError | None = None
            for origin in self.endpoint.hosts.order(self.runtime.now(), prefer=call.prefer):
                attempts += 1
                attempt = Attempt(self.endpoint, self.runtime, call, origin, attempts, started_at)
                try:
                    result = await act(attempt)
                except TokenHubError as error:
                    # the traceback's frames hold the request, and with it the key
                    latest = attempt.annotate(error).with_traceback(None)
                    self._record_failure(call, origin, latest)
                else:
                    self.endpoint.budget.deposit()
                    self._record_success(origin)
                    return result
                failure = combine_failures(failure, latest)
                if not latest.host_unavailable:
                    break
            assert failure is not None  # noqa: S101 - the order is never empty
            failure.attempts, failure.elapsed = attempts, self.runtime.now() - started_at
            seconds = self._pause(call, failure, retries)
            if seconds is None:
                if (outcome := final_error(call, failure)) is not failure:
                    logger.warning("%s: %s", call.path, outcome.message)
                raise outcome
            reason = type(failure).__name__
            logger.debug("%s: sent again in %.2f s after %s", call.path, seconds, reason)
            call.send_state.renew()  # an interruption need not wait for a refused attempt
            await self.runtime.sleep(seconds)
            retries += 1

    def _record_success(self, origin: str) -> None:
        if self.endpoint.hosts.record_success(origin):
            logger.warning("host %s is available again", host_name(origin))

    def _record_failure(self, call: Call, origin: str, failure: TokenHubError) -> None:
        """Update the host's health after `failure`."""
        is_gateway, proven = is_gateway_error(failure), failure.host_unavailable
        if proven or (is_gateway and call.retry_class == "read"):
            cooldown = self.endpoint.hosts.record_failure(origin, self.runtime.now(), proven=proven)
            if cooldown is not None:
                line = "host %s marked unavailable for %.0f s"
                logger.warning(line, host_name(origin), cooldown)
        elif failure.status is not None and not is_gateway:
            self._record_success(origin)

    def _pause(self, call: Call, failure: TokenHubError, retries: int) -> float | None:
        left = None if call.deadline is None else call.deadline - self.runtime.now()
        limit = self.endpoint.max_retries
        seconds = retry_delay(
            call.retry_class, failure, retries=retries, max_retries=limit, left=left
        )
        if seconds is None or self.endpoint.budget.withdraw():
            return seconds
        logger.warning("%s: not sent again, the retry budget of this key is used up", call.path)
        failure.add_note("not sent again: the retry budget of this key and site is used up")
        return None


_parse_url = functools.lru_cache(maxsize=256)(parse_url)


def _is_stream(response: HTTPResponse) -> bool:
    """Return True if the response may be a stream of events, not a whole answer."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return not kind.endswith("json") and kind != "text/html"


def _clean_id(found: object) -> str | None:
    return clean(str(found), 200) if found else None
