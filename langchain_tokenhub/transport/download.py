"""Fetch a result: another host, no key, no cookie, and only where results may come from.

A link comes from the service, but what it names is not trusted: it is https, its host resolves to
public addresses only, and the connection goes to an address that was checked. Redirects are
followed a few times, each checked anew. Where the API itself is on loopback (the emulator), its
links may be there too.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    TokenHubError,
    error_from,
)
from langchain_tokenhub.transport.calls import Timeouts
from langchain_tokenhub.transport.decoding import LARGEST_COMPLAINT, unpacked
from langchain_tokenhub.transport.error_mapping import failure_to_send, translated
from langchain_tokenhub.transport.failover import ascii_name, loopback
from langchain_tokenhub.transport.http.proxy import proxy_for
from langchain_tokenhub.transport.runtime import Address, Runtime
from langchain_tokenhub.transport.send_state import SendState

MOST_REDIRECTS = 5
MOST_ADDRESSES = 4
"""Of a host, that are tried one after the other until one takes the connection."""
PATIENCE = Timeouts(read=60.0)
_HINT = "ask the service for a fresh link; do not fetch this one by hand with your key"
_PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa")
"""Names that are never public: RFC 6761, RFC 6762, ICANN's decision of 2024, RFC 8375."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: how a network without IPv4 reaches an IPv4 address."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file whose bytes are on their way.

    Args:
        status: 200, or 206 when the file is continued.
        start: Where in the file they begin; None where a server continues without saying where.
        size: Bytes that are to come, if the server said so.
        etag: What names this version of the file, for continuing it.
        media_type: What the server calls it.
        md5: MD5 of the whole file in base64, where the host sends it.
        pieces: The bytes; to be closed by whoever reads them.
    """

    status: int
    start: int | None
    size: int | None
    etag: str | None
    media_type: str
    md5: str | None
    pieces: AsyncGenerator[bytes, None]


async def fetch(
    runtime: Runtime,
    url: str,
    *,
    allow_loopback: bool = False,
    start: int = 0,
    etag: str | None = None,
) -> Fetched:
    """Open the file at `url`.

    Args:
        runtime: What waits.
        url: Where the file is, its signature included.
        allow_loopback: Whether loopback is allowed, because the API itself is there.
        start: First byte wanted; with `etag` of the part that is there already.
        etag: The version that `start` belongs to.

    Raises:
        InvalidRequestError: The link leads where results never are.
        TokenHubError: As for other requests.
    """
    headers = {"Accept-Encoding": "identity"}
    if start and etag:
        headers |= {"Range": f"bytes={start}-", "If-Range": etag}
    runtime = runtime.plain()
    for _ in range(MOST_REDIRECTS + 1):
        requests = await _checked(runtime, url, allow_loopback=allow_loopback)
        request, response = await _opened(runtime, requests, headers)
        if not response.is_redirect:
            return await _fetched(runtime, response, request)
        await runtime.close(response)
        url = _joined(url, response.headers.get("location", ""))
    raise InvalidRequestError(f"a result's link redirects more than {MOST_REDIRECTS} times")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise InvalidRequestError(
            "a result's link redirects to what is not a URL", hint=_HINT
        ) from None


async def _checked(runtime: Runtime, url: str, *, allow_loopback: bool) -> list[httpx.Request]:
    """Return requests for `url`, one for each address of its host that was looked at."""
    try:
        target = httpx.URL(url)
        name = ascii_name(target)
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidRequestError("a result's link is not a URL", hint=_HINT) from None
    if allow_loopback and loopback(target.host):
        return [httpx.Request("GET", target)]
    if target.scheme != "https" or not target.host:
        raise InvalidRequestError(f"a result's link is {target.scheme!r}, not https", hint=_HINT)
    if _private(name):
        raise _not_public(name)
    if proxy_for("https", name):
        return [httpx.Request("GET", target)]  # the proxy resolves, and decides where it may go
    addresses = await _resolved(runtime, name)
    return [_pinned(target, address) for address in addresses[:MOST_ADDRESSES]]


async def _resolved(runtime: Runtime, name: str) -> tuple[Address, ...]:
    try:
        addresses = await runtime.resolve(name)
    except OSError:
        raise APIConnectionError(f"{name!r} has no address", phase="not sent") from None
    if not addresses or not all(map(_public, addresses)):
        raise _not_public(name)
    return addresses


def _not_public(name: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"a result's link leads to {name!r}, which is not public", hint=_HINT
    )


def _private(name: str) -> bool:
    """Say whether a host is known not to be public before anybody is asked to resolve it."""
    plain = name.rstrip(".").lower()
    literal = _literal(plain)
    if literal is not None:
        return not _public(literal)
    labelled = any(plain == private or plain.endswith(f".{private}") for private in _PRIVATE_NAMES)
    return labelled or "." not in plain


def _literal(host: str) -> Address | None:
    """Return the address that `host` spells, also in the old ways: 127.1, 0x7f000001."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if (inner := _inside(address)) is not None:
        return _public(inner)
    odd = address.is_multicast or address.is_reserved or address.is_site_local
    return address.is_global and not odd


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that a connection to `address` ends at."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _pinned(target: httpx.URL, address: Address) -> httpx.Request:
    """Return a request that goes to `address`: the name might resolve differently next time."""
    return httpx.Request(
        "GET",
        target.copy_with(host=str(address)),
        headers={"Host": target.netloc.decode("ascii")},
        extensions={"sni_hostname": target.raw_host.decode("ascii")},
    )


async def _opened(
    runtime: Runtime, requests: list[httpx.Request], headers: dict[str, str]
) -> tuple[httpx.Request, httpx.Response]:
    """Send to the first address that takes the connection."""
    *others, last = requests
    for request in others:
        try:
            return request, await _open(runtime, request, headers)
        except (APIConnectionError, APITimeoutError) as error:
            if error.phase != "not sent" or not error.is_retryable:
                raise
    return last, await _open(runtime, last, headers)


async def _open(
    runtime: Runtime, request: httpx.Request, headers: dict[str, str]
) -> httpx.Response:
    send_state = SendState()
    request.headers.update(headers)
    request.extensions = {
        **request.extensions,
        "timeout": PATIENCE.within(None),
        "progress": send_state,
    }
    failure: httpx.HTTPError
    try:
        return await runtime.send(request)
    except httpx.HTTPError as caught:
        failure = caught
    raise _named(failure_to_send(failure, send_state), request)


def _named(error: TokenHubError, request: httpx.Request) -> TokenHubError:
    """Return `error` with the name of the host that was asked; the rest of a link is secret."""
    error.host = request.headers.get("host") or request.url.host
    return error


async def _fetched(runtime: Runtime, response: httpx.Response, request: httpx.Request) -> Fetched:
    if not response.is_success:
        raise _named(await _refused(runtime, response), request)
    length = response.headers.get("content-length", "")
    packed = response.headers.get("content-encoding", "")  # unasked, and lengths are of the packed
    pieces = _pieces(runtime, response, request, packed)
    await anext(pieces)  # begun, so that closing it closes the answer
    return Fetched(
        status=response.status_code,
        start=_start(response),
        size=int(length) if length.isdecimal() and not packed else None,
        etag=None if packed else response.headers.get("etag"),
        media_type=response.headers.get("content-type", ""),
        md5=None if packed else _md5(response),
        pieces=pieces,
    )


def _md5(response: httpx.Response) -> str | None:
    if response.status_code != 200:
        return None  # of a part, MD5 is the part's
    md5: str | None = response.headers.get("content-md5")
    return md5


def _start(response: httpx.Response) -> int | None:
    if response.status_code != 206:
        return 0
    said = re.match(r"bytes (\d{1,18})-", response.headers.get("content-range", ""))
    return int(said[1]) if said else None


async def _refused(runtime: Runtime, response: httpx.Response) -> TokenHubError:
    body = bytearray()
    try:
        async with aclosing(runtime.chunks(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > LARGEST_COMPLAINT:
                    break
    except httpx.HTTPError:
        pass  # the status says enough
    finally:
        await runtime.close(response)
    return error_from(response.status_code, response.headers, bytes(body[:LARGEST_COMPLAINT]))


async def _pieces(
    runtime: Runtime, response: httpx.Response, request: httpx.Request, packed: str
) -> AsyncGenerator[bytes, None]:
    """Yield nothing at first, then the bytes."""
    failure: httpx.HTTPError
    try:
        yield b""
        async with aclosing(unpacked(runtime.chunks(response), packed)) as pieces:
            async for piece in pieces:
                yield piece
    except httpx.HTTPError as caught:
        failure = caught
    else:
        return
    finally:
        await runtime.close(response)
    raise _named(translated(failure, "answered"), request)
