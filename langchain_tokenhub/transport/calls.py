"""The values that a caller passes to the transport and gets back, and the state of a request."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_tokenhub.errors import InvalidRequestError, TokenHubError, clean, fault_in
from langchain_tokenhub.transport.failover import Budget, Hosts
from langchain_tokenhub.transport.retry import RetryClass

if TYPE_CHECKING:
    import httpx
    import httpx2

MAX_TIMEOUT = 1e9
"""Seconds; the longest timeout that every platform accepts."""
TOTAL_FACTOR = 3
"""A whole answer may take this many times the read timeout."""


def _check_seconds(limit: float) -> float:
    if not 0 < limit <= MAX_TIMEOUT:
        problem = f"timeout is a number of seconds above 0, not {limit}"
        hint = "httpx.Timeout(None) waits without limit"
        raise InvalidRequestError(problem, hint=hint, phase="not sent")
    return limit


@dataclass(frozen=True)
class Timeouts:
    """Timeouts of one request in seconds; None means no limit.

    Args:
        connect: To connect to one host.
        connect_backed: To connect to one host while there is a backup host.
        read: For each read of bytes.
        write: For each write of bytes.
        content: Between two events of a stream that bring content. Comments, heartbeats and empty
            events do not count.
        first: Until the first event of a stream that brings content.
        chosen: Whether the user set them.
    """

    connect: float | None = 5.0
    connect_backed: float | None = 3.0
    read: float | None = 30.0
    write: float | None = 30.0
    content: float | None = 300.0
    first: float | None = 300.0
    chosen: bool = False

    @property
    def total(self) -> float | None:
        """Seconds that a whole answer may take: its head, and again its body."""
        return None if self.read is None else TOTAL_FACTOR * self.read

    @classmethod
    def of(
        cls, timeout: float | httpx.Timeout | httpx2.Timeout | None, default: Timeouts
    ) -> Timeouts:
        """Return the timeouts for the user's `timeout`; None means `default`.

        Raises:
            InvalidRequestError: It is not above 0, or above `MAX_TIMEOUT`.
        """
        match timeout:
            case None:
                return default
            case float() | int():
                seconds = _check_seconds(float(timeout))
                alone = min(seconds, default.connect or seconds)
                backed = min(seconds, default.connect_backed or seconds)
                return cls(alone, backed, seconds, seconds, seconds, seconds, chosen=True)
            case _:
                read, connect, write = timeout.read, timeout.connect, timeout.write
                for limit in (read, connect, write):
                    _check_seconds(1.0 if limit is None else limit)
                return cls(connect, connect, read, write, content=read, first=read, chosen=True)

    def within(self, left: float | None, *, backed: bool = False) -> dict[str, float | None]:
        """Return httpx's timeouts, none longer than the `left` seconds of the whole call."""
        connect = self.connect_backed if backed else self.connect
        limits = {"connect": connect, "read": self.read, "write": self.write, "pool": 30.0}
        return {name: earliest(limit, left) for name, limit in limits.items()}


def earliest(limit: float | None, other: float | None) -> float | None:
    """Return the shorter of two limits, of which None is no limit."""
    if limit is None or other is None:
        return other if limit is None else limit
    return min(limit, other)


class SubmitCancelledError(Exception):
    """A submit was interrupted before its first byte and must not be sent any more."""


class SendState:
    """The state of a request, reported by the connection or by the HTTP library's trace.

    It proves that a request was not sent.
    """

    is_cancelled = False
    """Whether the submit was interrupted: a request that has not begun must not be sent."""

    def __init__(self) -> None:
        self.renew()

    def renew(self, target: tuple[str, int] | None = None) -> None:
        """Reset for another attempt, at `target` (host and port)."""
        self._target, self._is_tunnel = target, False
        self.is_under_way = self.traced = self.is_by_proxy = False
        """Whether the first byte may have been sent, the state is reported, a proxy is used."""
        self.body_sent = self.held_back = self.answered = False
        """Whether the last byte was sent, part of the body is never sent, an answer has started."""

    def mark_started(self) -> None:
        """Record that the first byte is about to be sent; raise if the submit was interrupted."""
        self.traced = self.is_under_way = True
        self._check_cancelled()

    def mark_handed_over(self) -> None:
        """Record that the caller's own client takes over; its transport may report nothing."""
        self.is_under_way = True
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        # The state is set before `is_cancelled` is read, and `SyncRuntime.run_shielded` sets
        # `is_cancelled` before it reads the state, so that one of them notices the other.
        if self.is_cancelled:
            self.is_under_way = False
            raise SubmitCancelledError("interrupted before anything was sent")

    def note(self, name: str, info: dict[str, Any]) -> None:
        """Record one event of the HTTP library's trace."""
        if not self.traced:
            self.traced, self.is_under_way = True, False
        match name.partition(".")[2]:
            case "connect_tcp.started":
                self.is_by_proxy = (info["host"], info["port"]) != self._target
            case "send_request_headers.started":
                # the CONNECT request that opens a proxy's tunnel is not the request itself
                self._is_tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
                if not self._is_tunnel:
                    self.mark_started()
            case "send_request_body.complete":
                self.body_sent = not self._is_tunnel
            case "receive_response_headers.complete":
                self.answered = not self._is_tunnel


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request.

    Args:
        path: Path, without host and query.
        body: JSON of a POST; None for a GET.
        retry_class: What a retry would cost.
        timeouts: The timeouts of one attempt.
        is_fault: Returns whether the body of a 2xx is an error. For a job's query it is the job's
            state and never an error.
        is_accepted: Returns whether the body of an answer that is not a 2xx names a job, so that
            the call was accepted.
        prefer: Name of the host to try first: the one that accepted the job.
        deadline: Monotonic seconds at which the whole call, retries included, ends.
        send_state: Records the state of the request.
    """

    path: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    retry_class: RetryClass = "read"
    timeouts: Timeouts = field(default_factory=Timeouts)
    is_fault: Callable[[Any], object] = fault_in
    is_accepted: Callable[[Any], bool] = lambda _: False
    prefer: str | None = None
    deadline: float | None = None
    send_state: SendState = field(default_factory=SendState, repr=False, compare=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex, init=False, repr=False, compare=False)
    """This package's id of the call, the same in every attempt."""

    content: bytes | None = field(init=False, repr=False, compare=False)
    """The body, encoded once: the same bytes in every attempt."""

    def __post_init__(self) -> None:
        """Refuse a path that would change the host, which receives the key; encode the body."""
        if not self.path.startswith("/"):
            raise InvalidRequestError(f"a path begins with a slash, unlike {self.path!r}")
        content = None if self.body is None else _encode(self.body)
        object.__setattr__(self, "content", content)  # the class is frozen


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(body).encode()
    except UnicodeEncodeError:
        # a lone surrogate cannot be encoded as UTF-8; JSON has an escape for it
        return json.dumps(body, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        reason = clean(str(problem), 200)
    raise InvalidRequestError(f"the request cannot be encoded as JSON: {reason}")


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of an answer for which no stream was requested.

    Args:
        values: The JSON value of each event.
        failure: An error event, or the missing `[DONE]`. The reader raises it unless it is an
            `IncompleteStreamError` and the values are complete.
    """

    values: Sequence[Any]
    failure: TokenHubError | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A JSON answer, or a stream of JSON values, and its host and ids.

    Args:
        data: The body: a JSON value, `Events` if the service sent events unrequested, or for a
            stream an async generator of values, which its reader closes.
        status: HTTP status, usually a 2xx.
        host: Name of the host that answered.
        request_id: The service's id of the request.
        client_request_id: This package's id of the call, sent with the request.
        attempts: Number of requests made.
        retry_after: Seconds to wait before the next poll, if the service sent them.
    """

    data: Any
    status: int
    host: str
    request_id: str | None
    client_request_id: str
    attempts: int
    retry_after: float | None = None

    def metadata(self, seconds: float) -> dict[str, Any]:
        """Return the ids and the host of the request, its attempts, and its duration."""
        names = ("request_id", "client_request_id", "host", "attempts")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {**found, "elapsed": round(seconds, 3)}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Which hosts to call, and with which key.

    Args:
        hosts: The site's hosts and their health, shared in the process.
        budget: The retry budget, shared by site and key.
        key: Returns the key for a request; the key is not stored.
        headers: The user's own headers.
        max_retries: Retries of one call; 0 means none.
    """

    hosts: Hosts
    budget: Budget
    key: Callable[[], str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_retries: int = 2
