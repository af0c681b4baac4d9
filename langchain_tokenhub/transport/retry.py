"""Whether to send again, and when. Pure: it decides, and never sleeps.

What may be repeated is declared by the call, never guessed from the HTTP verb:

=============================  ======  ==========================  ==============================
failure                        read    chat, nothing yielded yet   submit
=============================  ======  ==========================  ==============================
not sent (proven)              retry   retry                       retry
sent, cut without an answer    retry   once                        unknown
sent, no answer in time        retry   raise                       unknown
429 with a rate code           retry   retry                       retry
500                            retry   once                        unknown
502, 504                       retry   retry                       unknown
503                            retry   retry                       retry with Retry-After, else
                                                                   unknown
2xx that cannot be read        retry   once                        unknown
anything else                  raise   raise                       raise
=============================  ======  ==========================  ==============================

"unknown" raises `SubmissionUnknownError`: a second submit would be a second bill.
"""

from __future__ import annotations

import email.utils
import random
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    RateLimitError,
    ServerError,
    TokenHubError,
)

Safety = Literal["read", "chat", "submit"]
"""What a repeated request costs: nothing, tokens, or a second paid job."""

Failure = Literal[
    "not sent", "cut", "timeout", "rate", "busy", "500", "gateway", "503", "nonsense", "refused"
]

LONGEST_PAUSE = 8.0
"""Seconds; of our own back-off."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds; whoever is asked to wait longer is told at once."""

_ALWAYS, _ONCE = 1_000_000, 1
_REPEATS: dict[Safety, dict[Failure, int]] = {
    "read": {
        "not sent": _ALWAYS,
        "cut": _ALWAYS,
        "timeout": _ALWAYS,
        "rate": _ALWAYS,
        "500": _ALWAYS,
        "gateway": _ALWAYS,
        "503": _ALWAYS,
        "nonsense": _ALWAYS,
    },
    "chat": {
        "not sent": _ALWAYS,
        "cut": _ONCE,
        "rate": _ALWAYS,
        "500": _ONCE,
        "gateway": _ALWAYS,
        "503": _ALWAYS,
        "nonsense": _ONCE,
    },
    "submit": {"not sent": _ALWAYS, "rate": _ALWAYS, "503": _ALWAYS},
}
_AMBIGUOUS = frozenset({"cut", "timeout", "500", "gateway", "503", "nonsense"})
_FIRST_PAUSE: dict[Failure, float] = {"not sent": 0.1, "cut": 0.1, "timeout": 0.1, "rate": 1.0}


def failure_of(error: TokenHubError) -> Failure:
    """Return which row of the table `error` stands in."""
    match error:
        case APIConnectionError(phase="not sent") | APITimeoutError(phase="not sent"):
            return "not sent"
        case APIConnectionError():
            return "cut"
        case APITimeoutError():
            return "timeout"
        case RateLimitError(status=429):
            return "rate"
        case RateLimitError():
            return "busy"  # a full account, said inside a 2xx: jobs wait that out themselves
        case ServerError(status=500):
            return "500"
        case ServerError(status=502 | 504):
            return "gateway"
        case ServerError(status=503):
            return "503"
        case ServerError():
            return "nonsense"
        case _:
            return "refused"


def outcome_unknown(safety: Safety, error: TokenHubError) -> bool:
    """Say whether a paid submit that ended in `error` may have been accepted."""
    if safety != "submit":
        return False
    failure = failure_of(error)
    return failure in _AMBIGUOUS and not (failure == "503" and error.retry_after is not None)


def pause(
    safety: Safety, error: TokenHubError, *, retries: int, max_retries: int, left: float | None
) -> float | None:
    """Return the seconds to wait before sending again, or None to give up.

    Args:
        safety: What a repetition costs.
        error: Why the last attempt failed.
        retries: How many repetitions were made already.
        max_retries: How many are allowed.
        left: Seconds until the call's deadline, if it has one.
    """
    failure = failure_of(error)
    allowed = min(max_retries, _REPEATS[safety].get(failure, 0))
    if retries >= allowed or outcome_unknown(safety, error):
        return None
    seconds = _seconds(failure, error.retry_after, retries)
    if seconds is None or (left is not None and seconds >= left):
        return None
    return seconds


def _seconds(failure: Failure, retry_after: float | None, retries: int) -> float | None:
    if retry_after is None:
        most = min(LONGEST_PAUSE, _FIRST_PAUSE.get(failure, 0.5) * 2**retries)
        return random.uniform(0, most)  # noqa: S311 - jitter, not a secret
    if retry_after > LONGEST_RETRY_AFTER:
        return None
    # a crowd that was told the same second must not come back in the same second
    spread = random.uniform(0, 0.1 * retry_after + 0.25)  # noqa: S311 - jitter, not a secret
    return retry_after + spread


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait: milliseconds, seconds or an HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    return _until(headers.get("retry-after", ""))


def _until(date: str) -> float | None:
    try:
        then = email.utils.parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


class Budget:
    """A purse of retries, one a site and key: it bounds the product of all retry layers above."""

    size = 20.0
    earned = 0.1

    def __init__(self) -> None:
        self._left = self.size
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one retry; say whether there was one."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """Put a tenth of a retry back, for a request that succeeded."""
        if self._left < self.size:
            with self._lock:
                self._left = min(self.size, self._left + self.earned)


_budgets: dict[tuple[object, ...], Budget] = {}


def shared_budget(*owner: object) -> Budget:
    """Return the one purse of `owner` (hosts and a hash of the key) in this process."""
    return _budgets.get(owner) or _budgets.setdefault(owner, Budget())
