"""Whether and when to send a request again. Pure: it decides and never sleeps.

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
"""

from __future__ import annotations

import contextlib
import email.utils
import random
from collections.abc import Mapping
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
