"""Send a call until it works or may not be repeated: retries, failover, and their bookkeeping."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.transport.attempt import Attempt
from langchain_tokenhub.transport.calls import Answer, Call, Endpoint
from langchain_tokenhub.transport.error_mapping import (
    combine_failures,
    final_error,
    is_gateway_error,
)
from langchain_tokenhub.transport.failover import host_name
from langchain_tokenhub.transport.retry import retry_delay
from langchain_tokenhub.transport.runtime import Runtime

logger = logging.getLogger("langchain_tokenhub.transport")


@dataclass(frozen=True)
class Transport:
    """Sends calls to an endpoint over a runtime."""

    endpoint: Endpoint
    runtime: Runtime

    def json(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Return the answer to `call`, to be awaited.

        Raises:
            TokenHubError: The class is that of the tables of `retry` and `error_codes.toml`.
        """
        return self._send(call, Attempt.answer)

    def stream(self, call: Call) -> Coroutine[Any, Any, Answer]:
        """Return the answer to `call` once its first event has come, to be awaited.

        Its `data` yields lists of JSON values, those of the events that came together, and must be
        closed. Nothing is repeated after the first event. It ends normally only after `[DONE]`, or
        when the service answered whole instead of streaming.

        Raises:
            IncompleteStreamError: The stream ended, or was cut, without `[DONE]`.
            TokenHubError: As for `json`, also for an error inside the stream.
        """
        return self._send(call, Attempt.open_stream)

    async def _send(self, call: Call, act: Callable[[Attempt], Awaitable[Answer]]) -> Answer:
        """Run `act` on one attempt after another until it works, or may not be repeated."""
        begun, retries, attempts = self.runtime.now(), 0, 0
        while True:
            failure: TokenHubError | None = None
            for origin in self.endpoint.hosts.order(self.runtime.now(), prefer=call.prefer):
                attempts += 1
                attempt = Attempt(self.endpoint, self.runtime, call, origin, attempts, begun)
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
            failure.attempts, failure.elapsed = attempts, self.runtime.now() - begun
            seconds = self._pause(call, failure, retries)
            if seconds is None:
                if (outcome := final_error(call, failure)) is not failure:
                    logger.warning("%s: %s", call.path, outcome.message)
                raise outcome
            reason = type(failure).__name__
            logger.debug("%s: sent again in %.2f s after %s", call.path, seconds, reason)
            if call.send_state is not None:
                call.send_state.renew()  # an interruption need not wait for a refused attempt
            await self.runtime.sleep(seconds)
            retries += 1

    def _record_success(self, origin: str) -> None:
        if self.endpoint.hosts.record_success(origin):
            logger.warning("host %s is available again", host_name(origin))

    def _record_failure(self, call: Call, origin: str, failure: TokenHubError) -> None:
        """Record what `failure` means for the host's health, if anything."""
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
