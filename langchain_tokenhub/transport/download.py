"""Fetch a result from its link: without key or cookie, and from public hosts only.

A link comes from the service but is not trusted: it must be https, its host must resolve to public
addresses only, and the connection goes to an address that was checked. A few redirects are
followed, and each is checked. If the API itself is on loopback (the emulator), links may be too.
A download slower than `MIN_RATE` is aborted.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from urllib.parse import urljoin

import httpx

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    TokenHubError,
    error_from,
)
from langchain_tokenhub.transport.calls import (
    URL,
    HTTPRequest,
    HTTPResponse,
    SendState,
    Timeouts,
    is_loopback_host,
    parse_url,
)
from langchain_tokenhub.transport.decoding import read_body, read_error_body
from langchain_tokenhub.transport.error_mapping import failure_to_send, map_error
from langchain_tokenhub.transport.http.proxy import find_proxy_address
from langchain_tokenhub.transport.runtime import Runtime

MAX_REDIRECTS = 5
MAX_ADDRESSES = 4
"""Addresses of a host that are tried until one accepts the connection."""
MIN_RATE = 2048
"""Minimum average bytes per second of a download in each `RATE_WINDOW`."""
RATE_WINDOW = 60.0
"""Seconds."""
TIMEOUTS = Timeouts(read=60.0)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HINT = "get a fresh link from the service; do not fetch this one with your key"
_PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa")
"""Names that are never public: RFC 6761, RFC 6762, ICANN's resolution of 2024, RFC 8375."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: IPv4 addresses as a network without IPv4 reaches them."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that is being downloaded.

    Args:
        start: Offset of the first byte in the file; None if a 206 does not state it.
        size: Remaining bytes, if the server states them.
        etag: Version of the file, to continue it.
        md5: MD5 of the whole file in base64, if the host sends it.
        pieces: The bytes; closed by their reader.
    """

    start: int | None
    size: int | None
    etag: str | None
    md5: str | None
    pieces: AsyncGenerator[bytes, None]


async def fetch(
    runtime: Runtime,
    url: str,
    *,
    allow_loopback: bool = False,
    start: int = 0,
    etag: str | None = None,
) -> RemoteFile:
    """Open the file at `url`, from the byte at `start` if its version is still `etag`.

    Loopback is allowed if the API itself is on loopback.

    Raises:
        InvalidRequestError: The link leads to a host that is not public.
        APITimeoutError: The download is slower than `MIN_RATE`.
        TokenHubError: As for other requests.
    """
    headers = {"accept-encoding": "identity"}
    if start and etag:
        headers |= {"range": f"bytes={start}-", "if-range": etag}
    runtime = runtime.plain()
    for _ in range(MAX_REDIRECTS + 1):
        target = _parse(url)
        request = HTTPRequest(
            method="GET",
            url=target,
            headers=headers,
            timeouts=TIMEOUTS.within(None),
            head_timeout=TIMEOUTS.total,
            send_state=SendState(),
        )
        request = await _check_host(runtime, request, allow_loopback=allow_loopback)
        response = await _open(runtime, request)
        if not response.is_redirect:
            return await _read_head(runtime, response, target.netloc)
        await response.body.aclose()
        try:
            url = urljoin(url, response.headers.get("location", ""))
        except ValueError:
            problem = "a result's link redirects to something that is not a URL"
            raise InvalidRequestError(problem, hint=_HINT) from None
    raise InvalidRequestError(f"a result's link redirects more than {MAX_REDIRECTS} times")


def _parse(url: str) -> URL:
    try:
        return parse_url(url)
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidRequestError("a result's link is not a URL", hint=_HINT) from None


async def _check_host(
    runtime: Runtime, request: HTTPRequest, *, allow_loopback: bool
) -> HTTPRequest:
    """Return `request` with the addresses that were checked, or the proxy that checks them."""
    scheme, name = request.url.scheme, request.url.host
    if allow_loopback and is_loopback_host(name):
        return request
    if scheme != "https" or not name:
        raise InvalidRequestError(f"a result's link is {scheme!r}, not https", hint=_HINT)
    if _is_private(name):
        raise _not_public_error(name)
    if proxy := find_proxy_address("https", name):
        return replace(request, proxy=proxy)  # it resolves the name, and decides what is allowed
    try:
        addresses = await runtime.blocking(resolve, name)
    except OSError:
        raise APIConnectionError(f"{name!r} has no address", phase="not sent") from None
    if not addresses or not all(_is_public(ipaddress.ip_address(found)) for found in addresses):
        raise _not_public_error(name)
    # the name might resolve differently next time, and the settings have a proxy by then
    return replace(request, addresses=addresses[:MAX_ADDRESSES])


def resolve(host: str) -> tuple[str, ...]:
    """Return the addresses of `host`."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _not_public_error(name: str) -> InvalidRequestError:
    problem = f"a result's link leads to {name!r}, which is not public"
    return InvalidRequestError(problem, hint=_HINT)


def _is_private(name: str) -> bool:
    """Return True if a host is known not to be public before it is resolved."""
    plain = name.rstrip(".").lower()
    literal = _literal(plain)
    if literal is not None:
        return not _is_public(literal)
    is_reserved = any(plain == name or plain.endswith(f".{name}") for name in _PRIVATE_NAMES)
    return is_reserved or "." not in plain


def _literal(host: str) -> Address | None:
    """Return the address that `host` is, also in old notations: 127.1, 0x7f000001."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if address in _NAT64:
        return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    if embedded := address.ipv4_mapped or address.sixtofour:
        return _is_public(embedded)
    is_special = address.is_multicast or address.is_reserved or address.is_site_local
    return address.is_global and not is_special


async def _open(runtime: Runtime, request: HTTPRequest) -> HTTPResponse:
    try:
        return await runtime.send(request)
    except httpx.HTTPError as caught:
        failure = failure_to_send(caught, request.send_state)
    raise _with_host(failure, request.url.netloc)


def _with_host(error: TokenHubError, host: str) -> TokenHubError:
    """Return `error` with the name of the host; the rest of a link is secret."""
    error.host = host
    return error


async def _read_head(runtime: Runtime, response: HTTPResponse, host: str) -> RemoteFile:
    status, headers = response.status, response.headers
    if not response.is_success:
        body = await read_error_body(response, runtime.now)
        raise _with_host(error_from(status, headers, body), host)
    length = headers.get("content-length", "")
    encoding = headers.get("content-encoding", "")  # the length is of the encoded bytes
    etag = headers.get("etag", "")
    part = re.match(r"bytes (\d{1,18})-", headers.get("content-range", ""))
    pieces = _pieces(runtime, response, host)
    await anext(pieces)  # started, so that closing it closes the response
    return RemoteFile(
        start=0 if status != 206 else int(part[1]) if part else None,
        size=int(length) if length.isdecimal() and not encoding else None,
        etag=etag if etag.isascii() and etag.isprintable() and not encoding else None,
        # the MD5 of a part is the part's own
        md5=None if encoding or status != 200 else headers.get("content-md5"),
        pieces=pieces,
    )


async def _pieces(
    runtime: Runtime, response: HTTPResponse, host: str
) -> AsyncGenerator[bytes, None]:
    """Yield an empty piece first, then the bytes."""
    rate = _Rate(runtime.now())
    try:
        yield b""
        rate.skip_to(runtime.now())
        async with aclosing(read_body(response)) as pieces:
            async for piece in pieces:
                rate.add(len(piece), runtime.now())
                yield piece
                rate.skip_to(runtime.now())
    except httpx.HTTPError as caught:
        failure = map_error(caught, "answered")
    except APITimeoutError as slow:
        failure = slow
    else:
        return
    finally:
        await response.body.aclose()
    raise _with_host(failure, host)


class _Rate:
    """The rate of a download, without the time that the consumer of its bytes takes."""

    def __init__(self, now: float) -> None:
        self._seen, self._seconds, self._bytes = now, 0.0, 0

    def skip_to(self, now: float) -> None:
        """Do not count the time until `now`."""
        self._seen = now

    def add(self, size: int, now: float) -> None:
        """Count `size` bytes.

        Raises:
            APITimeoutError: The rate in the last window was below `MIN_RATE`.
        """
        self._seconds += now - self._seen
        self._seen = now
        self._bytes += size
        if self._seconds < RATE_WINDOW:
            return
        rate = self._bytes / self._seconds
        if rate < MIN_RATE:
            error = APITimeoutError(
                f"the download rate is {rate:.0f} bytes/s, at least {MIN_RATE} bytes/s are needed",
                phase="answered",
                hint="result(job) fetches it again within 24 hours, while the job is known",
            )
            error.is_retryable = False
            raise error
        self._seconds, self._bytes = 0.0, 0
