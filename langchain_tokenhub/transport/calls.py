"""What a caller says to the transport, and what it gets back. Values only."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_tokenhub.errors import InvalidRequestError, clean
from langchain_tokenhub.transport.failover import Hosts
from langchain_tokenhub.transport.retry import Budget, RetryClass
from langchain_tokenhub.transport.send_state import SendState

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ["cached_property"]

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property:  # noqa: N801 - as in functools
        """A property that is made when first asked for."""

        def __init__(self, make: Any) -> None:
            self._make = make
            self.__doc__ = make.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            """Make the value, and leave it where the next look finds it."""
            if instance is None:
                return self
            return instance.__dict__.setdefault(self._name, self._make(instance))


LONGEST_WAIT = 1e9
"""Seconds; the system counts no further."""


def _seconds(limit: float) -> float:
    if not 0 < limit <= LONGEST_WAIT:
        raise InvalidRequestError(
            f"timeout is a number of seconds above 0, not {limit}",
            hint="httpx.Timeout(None) waits for ever",
            phase="not sent",
        )
    return limit


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long to wait for what, in seconds; None waits for ever.

    Args:
        connect: For a connection, one host.
        connect_backed: The same while a backup host stands ready.
        read: For bytes, each time.
        write: For bytes to leave, each time.
        content: For an event of a stream; comments that keep it alive do not count.
        first: For the first event of a stream.
        chosen: Whether the user said so, and not we.
    """

    connect: float | None = 5.0
    connect_backed: float | None = 3.0
    read: float | None = 30.0
    write: float | None = 30.0
    content: float | None = 300.0
    first: float | None = 300.0
    chosen: bool = False

    @classmethod
    def of(
        cls, timeout: float | httpx.Timeout | httpx2.Timeout | None, default: Timeouts
    ) -> Timeouts:
        """Return what the user's `timeout` means, of whom None says nothing.

        Raises:
            InvalidRequestError: It is no time that anybody can wait.
        """
        match timeout:
            case None:
                return default
            case float() | int():
                seconds = _seconds(float(timeout))
                return cls(
                    connect=min(seconds, default.connect or seconds),
                    connect_backed=min(seconds, default.connect_backed or seconds),
                    read=seconds,
                    write=seconds,
                    content=seconds,
                    first=seconds,
                    chosen=True,
                )
            case _:
                for limit in (timeout.read, timeout.connect, timeout.write):
                    _seconds(1.0 if limit is None else limit)
                read, connect = timeout.read, timeout.connect
                return cls(
                    connect=connect,
                    connect_backed=connect,
                    read=read,
                    write=timeout.write,
                    content=read,
                    first=read,
                    chosen=True,
                )

    def within(self, left: float | None, *, backed: bool = False) -> dict[str, float | None]:
        """Return httpx's timeouts, none longer than what is `left` of the whole call."""
        limits = {
            "connect": self.connect_backed if backed else self.connect,
            "read": self.read,
            "write": self.write,
            "pool": 30.0,
        }
        if left is None:
            return limits
        return {name: left if limit is None else min(limit, left) for name, limit in limits.items()}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, as its caller means it.

    Args:
        path: Path and nothing else.
        body: What is sent as JSON; None makes a GET.
        retry_class: What a repetition would cost.
        timeouts: How long to wait for what.
        faults: Whether an error body inside a 2xx is an error. It is not for a job's query,
            where it is the job's state.
        prefer: Host name that is asked first: the one that took the job.
        deadline: Monotonic seconds at which the whole call, retries included, ends.
        send_state: Told how far the request came.
    """

    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    retry_class: RetryClass = "read"
    timeouts: Timeouts = field(default_factory=Timeouts)
    faults: bool = True
    prefer: str | None = None
    deadline: float | None = None
    send_state: SendState | None = None

    def __post_init__(self) -> None:
        """Refuse a path that would change the host, and with it who gets the key."""
        if not self.path.startswith("/"):
            raise InvalidRequestError(f"a path begins with a slash, unlike {self.path!r}")

    @cached_property
    def id(self) -> str:
        """Our name of this call, the same in every attempt."""
        return uuid.uuid4().hex

    @cached_property
    def content(self) -> bytes | None:
        """The body's bytes: made once, the same in every attempt."""
        if self.body is None:
            return None
        try:
            text = json.dumps(self.body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return text.encode()
        except UnicodeEncodeError:
            # half an emoji has no UTF-8; the escape is what JSON has for it
            return json.dumps(self.body, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as problem:
            reason = clean(str(problem), 200)
        raise InvalidRequestError(f"the request cannot be written as JSON: {reason}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A JSON answer, or a stream of them, and where it came from.

    Args:
        data: The body; of a stream what yields it, to be closed by whoever reads it.
        status: HTTP status, some 2xx.
        host: Name of the host that answered.
        request_id: The service's id of the request.
        client_request_id: Our name of the call, which the service was told.
        attempts: How many requests were made.
        retry_after: Seconds after which the service asks to be asked again: for polls.
    """

    data: Any
    status: int
    host: str
    request_id: str | None
    client_request_id: str
    attempts: int
    retry_after: float | None = None

    def told(self, seconds: float) -> dict[str, Any]:
        """Return what is asked first when an answer is odd: which request, where, how often.

        Args:
            seconds: How long the whole call took.
        """
        found = {
            "request_id": self.request_id,
            "client_request_id": self.client_request_id,
            "host": self.host,
            "attempts": self.attempts,
            "elapsed": round(seconds, 3),
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Whom to ask, and in whose name.

    Args:
        hosts: The site's hosts and their health, shared in the process.
        budget: The purse of retries, shared by site and key.
        key: Returns the key when a request is made; it is kept nowhere else.
        headers: The user's own headers.
        max_retries: Repetitions of one call; 0 means none.
    """

    hosts: Hosts
    budget: Budget
    key: Callable[[], str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_retries: int = 2

    @property
    def backed(self) -> bool:
        """Whether another host can take over."""
        return len(self.hosts.origins) > 1
