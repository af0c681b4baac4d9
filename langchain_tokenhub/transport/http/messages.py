"""An HTTP request and its response, as the transport and its connections exchange them.

httpx's own objects are slow to create, and have no types for the limits of time. The values are no
tuples and have no fields in their `repr`, as reports of errors show the local variables.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx

from langchain_tokenhub.transport.calls import SendState
from langchain_tokenhub.transport.failover import ascii_name


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
    url = httpx.URL(text)
    host, netloc, path = ascii_name(url), url.netloc.decode("ascii"), url.raw_path.decode("ascii")
    port = url.port or (80 if url.scheme == "http" else 443)
    return URL(str(url), url.scheme, host, port, netloc, path)


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


def decode_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as text, by name in lower case; the values of equal names are joined."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
