"""A call, sent until it works or may not be repeated: retries, fail-over, and what they cost."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.transport.attempt import Attempt
from langchain_tokenhub.transport.calls import Answer, Call, Endpoint
from langchain_tokenhub.transport.error_mapping import after, final, gateway_page
from langchain_tokenhub.transport.failover import host_name
from langchain_tokenhub.transport.retry import pause
from langchain_tokenhub.transport.runtime import Runtime

logger = logging.getLogger("langchain_tokenhub.transport")


@dataclass(frozen=True)
class Transport:
    """Sends calls to an endpoint over a wire."""

    endpoint: Endpoint
    runtime: Runtime

    def json(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Return the answer to `call`, to be awaited.

        Raises:
            TokenHubError: The class that the failure has by the tables of `retry` and
                `error_codes.toml`.
        """
        return self._repeat(call, Attempt.answer)

    def stream(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Return the answer to `call` once its first event has come, to be awaited.

        Its `data` yields the JSON values of the events, as many at a time as came together, and is
        to be closed. Nothing is repeated after the first event. It ends normally only after
        `[DONE]`, or when the service answered whole instead of streaming.

        Raises:
            IncompleteStreamError: The stream ended, or was cut, without `[DONE]`.
            TokenHubError: As for `json`, also for an error that came inside the stream.
        """
        return self._repeat(call, Attempt.begin)

    async def _repeat(self, call: Call, act: Callable[[Attempt], Awaitable[Answer]]) -> Answer:
        """Run `act` on one exchange after the other until it works, or may not be repeated."""
        begun, retries = self.runtime.now(), 0
        attempts = 0
        while True:
            failure: TokenHubError | None = None
            for origin in self.endpoint.hosts.order(self.runtime.now(), prefer=call.prefer):
                attempts += 1
                attempt = Attempt(self.endpoint, self.runtime, call, origin, attempts, begun)
                try:
                    result = await act(attempt)
                except TokenHubError as error:
                    latest = self._failed(attempt, error)
                else:
                    self._worked(origin)
                    return result
                failure = after(failure, latest)
                if not latest.host_unavailable:
                    break
            assert failure is not None  # noqa: S101 - the order is never empty
            failure.attempts, failure.elapsed = attempts, self.runtime.now() - begun
            seconds = self._pause(call, failure, retries)
            if seconds is None:
                raise self._final(call, failure)
            logger.debug("%s: again in %.2f s after %s", call.path, seconds, type(failure).__name__)
            if call.send_state is not None:
                call.send_state.renew()  # an interruption need not wait for what was refused
            await self.runtime.sleep(seconds)
            retries += 1

    def _worked(self, origin: str) -> None:
        """Keep budget and health up to date after an attempt that worked."""
        self.endpoint.budget.earn()
        self._praise(origin)

    def _failed(self, attempt: Attempt, error: TokenHubError) -> TokenHubError:
        """Keep health up to date after an attempt that failed, and return why."""
        # its frames hold the request, and with it the key, for as long as somebody keeps it
        failure = attempt.mark(error).with_traceback(None)
        self._blame(attempt.call, attempt.origin, failure)
        return failure

    def _praise(self, origin: str) -> None:
        if self.endpoint.hosts.worked(origin):
            logger.warning("host %s answers again", host_name(origin))

    def _blame(self, call: Call, origin: str, failure: TokenHubError) -> None:
        """Note what `failure` says of the host, if anything."""
        gateway, proven = gateway_page(failure), failure.host_unavailable
        if proven or (gateway and call.retry_class == "read"):
            if self.endpoint.hosts.failed(origin, self.runtime.now(), proven=proven):
                logger.warning("host %s is unavailable and rests", host_name(origin))
        elif failure.status is not None and not gateway:
            self._praise(origin)

    def _pause(self, call: Call, failure: TokenHubError, retries: int) -> float | None:
        left = None if call.deadline is None else call.deadline - self.runtime.now()
        limit = self.endpoint.max_retries
        seconds = pause(call.retry_class, failure, retries=retries, max_retries=limit, left=left)
        if seconds is None or self.endpoint.budget.spend():
            return seconds
        logger.warning("%s: not repeated, too many retries lately for this key", call.path)
        failure.add_note("not repeated: too many retries lately for this key and site")
        return None

    def _final(self, call: Call, failure: TokenHubError) -> TokenHubError:
        error = final(call, failure)
        if error is not failure:
            logger.warning("%s: %s", call.path, error.message)
        return error
