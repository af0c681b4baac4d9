"""Decide whether, when and at which host to send a request again. Nothing here waits.

The call declares what may be repeated; it is not inferred from the HTTP method:

=============================  ======  ==========================  ==============================
failure                        read    chat, before any output     submit
=============================  ======  ==========================  ==============================
not sent (proven)              retry   retry                       retry
sent, cut without an answer    retry   once                        unknown
sent, no answer in time        retry   raise                       unknown
429 with a rate code           retry   retry                       retry
a rate code inside a 2xx       retry   retry                       raise: jobs wait for room
500                            retry   once                        unknown
502, 504                       retry   retry                       unknown
503                            retry   retry                       retry with Retry-After, else
                                                                   unknown
other 5xx, unreadable 2xx      retry   once                        unknown
error body in a 2xx            retry   once                        raise: it was refused
408, 499                       retry   once                        unknown; raise if the body is
                                                                   an error object with a code
409, 425                       raise   raise                       unknown; raise if the body is
                                                                   an error object with a code
anything else                  raise   raise                       raise
=============================  ======  ==========================  ==============================

"unknown" raises `SubmissionUnknownError`: a second submit would be a second bill. 408, 409, 425
and 499 without a code come from a gateway, which does not know what the service did.

A host that cannot be connected to is not used for a cooldown, which doubles with each further
failure. After the cooldown one request tries the host while the others stay with the backup.
Failover never leaves the site, as other sites have other keys, models and legal terms.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import os
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    RateLimitError,
    Response,
    TokenHubError,
    fault_in,
)

RetryClass = Literal["read", "chat", "submit"]
"""The cost of a retry: nothing, tokens, or a second paid job."""

# fmt: off
Failure = Literal[
    "not sent", "cut", "timeout", "rate", "busy",
    "500", "gateway", "503", "unreadable", "error body", "refused",
]
# fmt: on

MAX_BACKOFF = 8.0
"""Seconds; the longest pause without a `Retry-After`."""
MAX_RETRY_AFTER = 60.0
"""Seconds; a longer `Retry-After` is raised at once."""

_REPEATED: dict[RetryClass, frozenset[Failure]] = {
    "read": frozenset(get_args(Failure)) - {"refused"},
    "chat": frozenset({"not sent", "rate", "busy", "gateway", "503"}),
    "submit": frozenset({"not sent", "rate", "503"}),
}
_REPEATED_ONCE: dict[RetryClass, frozenset[Failure]] = {
    "chat": frozenset({"cut", "500", "unreadable", "error body"})
}
_AMBIGUOUS = frozenset({"cut", "timeout", "500", "gateway", "503", "unreadable"})
_AMBIGUOUS_STATUSES = frozenset({408, 409, 425, 499})
_BY_STATUS: dict[int | None, Failure] = {500: "500", 502: "gateway", 504: "gateway", 503: "503"}


def failure_of(error: TokenHubError) -> Failure:
    """Return the row of the table that `error` belongs to."""
    match error:
        case TokenHubError(is_retryable=False):
            return "refused"
        case TokenHubError(phase="not sent"):
            return "not sent"
        case RateLimitError(status=429):
            return "rate"
        case RateLimitError():
            return "busy"  # a full account, reported inside a 2xx; jobs wait for room themselves
        case TokenHubError(response=Response(status_code=status)) if status < 500:
            return "error body"
        case APIConnectionError():
            return "cut"
        case APITimeoutError():
            return "timeout"
        case _:
            return _BY_STATUS.get(error.status, "unreadable")


def is_outcome_unknown(retry_class: RetryClass, error: TokenHubError) -> bool:
    """Return True if a paid submit that failed with `error` may have been accepted."""
    if retry_class != "submit":
        return False
    if error.status in _AMBIGUOUS_STATUSES:
        return not _has_service_code(error)
    failure = failure_of(error)
    return failure in _AMBIGUOUS and not (failure == "503" and error.retry_after is not None)


def _has_service_code(error: TokenHubError) -> bool:
    """Return True if the body is an error with a code; a gateway sends only a `type`."""
    try:
        body = error.response.json() if error.response else None
    except (ValueError, RecursionError):
        return False
    if isinstance(body, dict) and isinstance(error_body := body.get("error"), dict):
        body = {"error": {name: value for name, value in error_body.items() if name != "type"}}
    fault = fault_in(body)
    return fault is not None and fault.code is not None


def retry_delay(
    retry_class: RetryClass,
    error: TokenHubError,
    *,
    retries: int,
    max_retries: int,
    left: float | None,
) -> float | None:
    """Return the seconds to wait before the next attempt, or None if there is none.

    Args:
        retry_class: The cost of a retry.
        error: The failure of the last attempt.
        retries: Number of retries made.
        max_retries: Maximum number of retries.
        left: Seconds until the call's deadline, if it has one.
    """
    failure = failure_of(error)
    may_repeat = failure in _REPEATED[retry_class] or (
        retries == 0 and failure in _REPEATED_ONCE.get(retry_class, ())
    )
    if retries >= max_retries or not may_repeat or is_outcome_unknown(retry_class, error):
        return None
    seconds = _backoff(failure, error.retry_after, retries)
    is_late = seconds is not None and left is not None and seconds >= left
    return None if is_late else seconds


def _backoff(failure: Failure, retry_after: float | None, retries: int) -> float | None:
    if retry_after is None:
        is_busy, is_network = failure in {"rate", "busy"}, failure in {"not sent", "cut", "timeout"}
        first = 1.0 if is_busy else 0.1 if is_network else 0.5
        limit = min(MAX_BACKOFF, first * 2**retries)
        return random.uniform(0, limit)  # noqa: S311 - jitter, not a secret
    if retry_after > MAX_RETRY_AFTER:
        return None
    # clients with the same `Retry-After` must not all send in the same second
    return retry_after + random.uniform(0, 0.1 * retry_after + 0.25)  # noqa: S311 - jitter


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of an answer's `Retry-After`: milliseconds, seconds or an HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (text := headers.get(name)) is None:
            continue
        with contextlib.suppress(ValueError):
            seconds = float(text) * scale
            return seconds if 0 <= seconds < float("inf") else None
    if (text := headers.get("retry-after")) is None:
        return None
    try:
        then = email.utils.parsedate_to_datetime(text)
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        return max(0.0, (then - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


# -- state that the calls of a site share ------------------------------------------------------

BASE_COOLDOWN = 30.0
"""Seconds for which an unavailable host is not used; doubles up to `MAX_COOLDOWN`."""
MAX_COOLDOWN = 300.0
PROBE_INTERVAL = 15.0
"""Seconds after which a probe without an outcome no longer counts."""
MAX_FAILURES = 2
"""Consecutive gateway errors that make a host unavailable."""
FAILURE_WINDOW = 30.0
"""Seconds within which they must occur."""


@dataclass
class _Health:
    failures: int = 0
    failed_at: float = 0.0
    cooldowns: int = 0
    unavailable_until: float = 0.0
    probed_until: float = 0.0


class Hosts:
    """The origins of one site, the primary first. Times are monotonic seconds."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.origins = origins
        self._health = {origin: _Health() for origin in origins}
        self._lock = threading.Lock()

    def order(self, now: float, *, prefer: str | None = None) -> tuple[str, ...]:
        """Return the origins in the order in which to try them, the preferred host first."""
        if len(self.origins) == 1:
            return self.origins
        ranked = sorted(self.origins, key=lambda origin: host_name(origin) != prefer)
        with self._lock:
            first, *others = sorted(ranked, key=lambda origin: not self._is_usable(origin, now))
            if self._health[first].unavailable_until and self._is_usable(first, now):
                self._health[first].probed_until = now + PROBE_INTERVAL  # others use the backup
        return first, *others

    def _is_usable(self, origin: str, now: float) -> bool:
        health = self._health[origin]
        return now >= max(health.unavailable_until, health.probed_until)

    def record_success(self, origin: str) -> bool:
        """Record that `origin` answered; return True if it was unavailable before."""
        with self._lock:
            was_down = self._health[origin].unavailable_until > 0
            if was_down or self._health[origin].failures:
                self._health[origin] = _Health()
        return was_down

    def record_failure(self, origin: str, now: float, *, proven: bool) -> float | None:
        """Record a failure; `proven` means that no connection could be opened.

        Returns:
            The cooldown in seconds if `origin` becomes unavailable now, else None.
        """
        with self._lock:
            health = self._health[origin]
            health.failures = 1 if now - health.failed_at > FAILURE_WINDOW else health.failures + 1
            health.failed_at = now
            if not proven and health.failures < MAX_FAILURES:
                return None
            cooldown = min(BASE_COOLDOWN * 2**health.cooldowns, MAX_COOLDOWN)
            cooldown *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            is_new = not health.unavailable_until
            health.unavailable_until = now + cooldown
            health.probed_until = 0.0
            health.cooldowns += 1
            return cooldown if is_new else None


class Budget:
    """The retry budget of one site and key, which limits all retry layers above together."""

    size = 200
    """Tenths of a retry. A success adds one, a retry takes `cost`."""
    cost = 10

    def __init__(self) -> None:
        self._left = self.size
        self._lock = threading.Lock()

    def withdraw(self) -> bool:
        """Take one retry from the budget; return False if none is left."""
        with self._lock:
            if self._left < self.cost:
                return False
            self._left -= self.cost
            return True

    def deposit(self) -> None:
        """Add a tenth of a retry, for a request that succeeded."""
        if self._left < self.size:
            with self._lock:
                self._left = min(self.size, self._left + 1)


@functools.cache
def shared_hosts(origins: tuple[str, ...]) -> Hosts:
    """Return the one `Hosts` of these origins in this process."""
    return Hosts(origins)


@functools.cache
def shared_budget(*_owner: object) -> Budget:
    """Return the one budget of its owner (hosts and a hash of the key) in this process."""
    return Budget()


if hasattr(os, "register_at_fork"):  # another thread of the parent may have held a lock
    os.register_at_fork(after_in_child=shared_hosts.cache_clear)
    os.register_at_fork(after_in_child=shared_budget.cache_clear)


def host_name(origin: str) -> str:
    """Return the host and port in `origin`, without the scheme."""
    return origin.split("://", 1)[1]
