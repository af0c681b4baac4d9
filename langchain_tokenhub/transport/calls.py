"""The values that the transport receives and returns, and those that its connections exchange.

The latter are our own: httpx's are slow to create, and have no types for the limits of time. They
are not tuples, and their `repr` shows no fields, because error reports show local variables.
"""

from __future__ import annotations

import ipaddress
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from langchain_tokenhub.errors import InvalidRequestError, TokenHubError, clean, fault_in
from langchain_tokenhub.transport.retry import Budget, Hosts, RetryClass

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
        is_chosen: Whether the user set them.
    """

    connect: float | None = 5.0
    connect_backed: float | None = 3.0
    read: float | None = 30.0
    write: float | None = 30.0
    content: float | None = 300.0
    first: float | None = 300.0
    is_chosen: bool = False

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
                return cls(alone, backed, seconds, seconds, seconds, seconds, is_chosen=True)
            case _:
                read, connect, write = timeout.read, timeout.connect, timeout.write
                for limit in (read, connect, write):
                    _check_seconds(1.0 if limit is None else limit)
                return cls(connect, connect, read, write, content=read, first=read, is_chosen=True)

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
        self.is_under_way = self.is_traced = self.is_by_proxy = False
        """Whether the first byte may have been sent, the state is reported, a proxy is used."""
        self.is_body_sent = self.is_body_truncated = self.has_response = False
        """Whether the last byte was sent, part of the body is never sent, a response began."""

    def mark_started(self, *, is_traced: bool = True) -> None:
        """Record that the first byte is about to be sent; raise if the submit was interrupted.

        Args:
            is_traced: Whether the state is reported; a caller's own client may report nothing.
        """
        self.is_traced, self.is_under_way = is_traced, True
        # The state is set before `is_cancelled` is read, and `SyncRuntime.run_shielded` sets
        # `is_cancelled` before it reads the state, so that one of them notices the other.
        if self.is_cancelled:
            self.is_under_way = False
            raise SubmitCancelledError("interrupted before anything was sent")

    def record_event(self, name: str, info: dict[str, Any]) -> None:
        """Record one event of the HTTP library's trace."""
        if not self.is_traced:
            self.is_traced, self.is_under_way = True, False
        match name.partition(".")[2]:
            case "connect_tcp.started":
                self.is_by_proxy = (info["host"], info["port"]) != self._target
            case "send_request_headers.started":
                # the CONNECT request that opens a proxy's tunnel is not the request itself
                self._is_tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
                if not self._is_tunnel:
                    self.mark_started()
            case "send_request_body.complete":
                self.is_body_sent = not self._is_tunnel
            case "receive_response_headers.complete":
                self.has_response = not self._is_tunnel


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call: one request, which may be sent in several attempts.

    Args:
        path: Path, without host and query.
        body: JSON of a POST; None for a GET.
        retry_class: What a retry would cost.
        timeouts: The timeouts of one attempt.
        is_fault: Returns whether the body of a 2xx is an error. For a job's query it is the job's
            state and never an error.
        is_accepted: Returns whether the body of a response that is not a 2xx names a job, so that
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


# -- one request and its response --------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class URL:
    """The parts of a URL.

    Args:
        text: The whole URL.
        scheme: `http` or `https`.
        host: Its name for a resolver, or its address.
        port: Its port, also if it is the scheme's default.
        netloc: The value of the `Host` header.
        path: Path and query, percent-encoded.
    """

    text: str
    scheme: str
    host: str
    port: int
    netloc: str
    path: str

    def __repr__(self) -> str:
        """Return the host: the query of a signed link is secret."""
        return f"<URL {self.scheme}://{self.netloc}>"


def parse_url(text: str) -> URL:
    """Return a URL in parts.

    Raises:
        httpx.InvalidURL: The text is not a URL.
        UnicodeError: No resolver accepts the name of the host.
    """
    import httpx

    url = httpx.URL(text)
    host, netloc, path = ascii_name(url), url.netloc.decode("ascii"), url.raw_path.decode("ascii")
    port = url.port or (80 if url.scheme == "http" else 443)
    return URL(str(url), url.scheme, host, port, netloc, path)


def ascii_name(url: httpx.URL) -> str:
    """Return the host in `url` in the form for a resolver.

    Raises:
        UnicodeError: No resolver accepts the name: a label is empty or too long, or bad Punycode.
    """
    name = url.raw_host.decode("ascii") if url.host else ""  # reading `host` decodes Punycode
    name.encode("idna")
    return name


def is_loopback_host(host: str) -> bool:
    """Return True if `host` names this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True, repr=False)
class HTTPRequest:
    """A request.

    Args:
        method: `GET` or `POST`.
        url: Where it is sent.
        headers: Their values by name in lower case, without those that `all_headers` adds.
        timeouts: Seconds to `connect`, and for each `read`, `write` and wait for the `pool`.
        head_timeout: Seconds until the response's head is complete, once the request was sent.
        send_state: Records how much was sent.
        content: The body.
        deadline: Monotonic seconds at which everything ends.
        is_submit: Whether it is paid: it is sent on a fresh connection only.
        addresses: The addresses to connect to, if the host must not be resolved.
        proxy: URL of the proxy; None uses that of the system, but none for given addresses.
    """

    method: str
    url: URL
    headers: Mapping[str, str]
    timeouts: Mapping[str, float | None]
    head_timeout: float | None
    send_state: SendState
    content: bytes = b""
    deadline: float | None = None
    is_submit: bool = False
    addresses: tuple[str, ...] = ()
    proxy: str | None = None

    def __repr__(self) -> str:
        """Return the method and host: the rest holds the key and the prompt."""
        return f"<HTTPRequest {self.method} {self.url}>"

    def all_headers(self) -> dict[str, str]:
        """Return the headers with `host`, and `content-length` of a POST."""
        length = {"content-length": str(len(self.content))} if self.method == "POST" else {}
        return {"host": self.url.netloc, **self.headers, **length}


class Body(Protocol):
    """The body of a response, which is read once and then closed."""

    def read(self) -> AsyncGenerator[bytes, None]:
        """Return the bytes as they arrive."""
        ...

    def limit(self, seconds: float) -> bool:
        """Limit the time for the rest, in place of an earlier limit.

        Returns:
            False if that is not possible.
        """
        ...

    async def aclose(self) -> None:
        """End the response, read or not."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class HTTPResponse:
    """A response whose body has not been read.

    Args:
        status: HTTP status.
        headers: Their values by name in lower case; those of equal names are joined.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: Body

    def __repr__(self) -> str:
        """Return the status: a header may hold a cookie or a signed link."""
        return f"<HTTPResponse {self.status}>"

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    @property
    def is_redirect(self) -> bool:
        """Whether the status is a 3xx."""
        return 300 <= self.status < 400
