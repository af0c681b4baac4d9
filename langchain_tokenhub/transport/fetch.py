"""Fetch a result: another host, no key, no cookie, and only where results may come from.

A link comes from the service, but what it names is not trusted: it is https, its host resolves to
public addresses only, and the connection goes to the address that was checked. Redirects are
followed a few times, each checked anew. Where the API itself is on loopback (the emulator), its
links may be there too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from langchain_tokenhub.errors import (
    APIConnectionError,
    InvalidRequestError,
    TokenHubError,
    error_from,
)
from langchain_tokenhub.transport.bodies import LARGEST_COMPLAINT
from langchain_tokenhub.transport.calls import Patience
from langchain_tokenhub.transport.lanes import proxy_for
from langchain_tokenhub.transport.verdicts import phase_of, translated
from langchain_tokenhub.transport.wire import Address, Progress, Wire, loopback

MOST_REDIRECTS = 5
PATIENCE = Patience(read=60.0)
_HINT = "ask the service for a fresh link; do not fetch this one by hand with your key"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file whose bytes are on their way.

    Args:
        status: 200, or 206 when the file is continued.
        size: Bytes that are to come, if the server said so.
        etag: What names this version of the file, for continuing it.
        media_type: What the server calls it.
        pieces: The bytes; to be closed by whoever reads them.
    """

    status: int
    size: int | None
    etag: str | None
    media_type: str
    pieces: AsyncGenerator[bytes, None]


async def fetch(
    wire: Wire, url: str, *, at_home: bool = False, start: int = 0, etag: str | None = None
) -> Fetched:
    """Open the file at `url`.

    Args:
        wire: What waits.
        url: Where the file is, its signature included.
        at_home: Whether loopback is allowed, because the API itself is there.
        start: First byte wanted; with `etag` of the part that is there already.
        etag: The version that `start` belongs to.

    Raises:
        InvalidRequestError: The link leads where results never are.
        TokenHubError: As for other requests.
    """
    headers = {"Accept-Encoding": "identity"}
    if start and etag:
        headers |= {"Range": f"bytes={start}-", "If-Range": etag}
    wire = wire.plain()
    for _ in range(MOST_REDIRECTS + 1):
        request = await _checked(wire, url, at_home=at_home)
        response = await _open(wire, request, headers)
        if not response.is_redirect:
            return await _fetched(wire, response, request)
        await wire.close(response)
        url = _joined(url, response.headers.get("location", ""))
    raise InvalidRequestError(f"a result's link redirects more than {MOST_REDIRECTS} times")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise InvalidRequestError(
            "a result's link redirects to what is not a URL", hint=_HINT
        ) from None


async def _checked(wire: Wire, url: str, *, at_home: bool) -> httpx.Request:
    """Return a request for `url` to an address that was looked at."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        raise InvalidRequestError("a result's link is not a URL", hint=_HINT) from None
    if at_home and loopback(target.host):
        return httpx.Request("GET", target)
    if target.scheme != "https" or not target.host:
        raise InvalidRequestError(f"a result's link is {target.scheme!r}, not https", hint=_HINT)
    if proxy_for("https", target.host):
        return httpx.Request("GET", target)  # the proxy resolves, and decides where it may go
    try:
        addresses = await wire.resolve(target.host)
    except OSError:
        raise APIConnectionError(f"{target.host!r} has no address", phase="not sent") from None
    if not addresses or not all(_public(address) for address in addresses):
        raise InvalidRequestError(
            f"a result's link leads to {target.host!r}, which is not public", hint=_HINT
        )
    return _pinned(target, addresses[0])


def _public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _pinned(target: httpx.URL, address: Address) -> httpx.Request:
    """Return a request that goes to `address`: the name might resolve differently next time."""
    return httpx.Request(
        "GET",
        target.copy_with(host=str(address)),
        headers={"Host": target.netloc.decode("ascii")},
        extensions={"sni_hostname": target.host},
    )


async def _open(wire: Wire, request: httpx.Request, headers: dict[str, str]) -> httpx.Response:
    progress = Progress()
    request.headers.update(headers)
    request.extensions = {
        **request.extensions,
        "timeout": PATIENCE.within(None),
        "trace": wire.trace(progress),
    }
    failure: httpx.HTTPError
    try:
        return await wire.send(request)
    except httpx.HTTPError as caught:
        failure = caught
    raise _named(translated(failure, phase_of(failure, progress)), request)


def _named(error: TokenHubError, request: httpx.Request) -> TokenHubError:
    """Return `error` with the name of the host that was asked; the rest of a link is secret."""
    error.host = request.headers.get("host") or request.url.host
    return error


async def _fetched(wire: Wire, response: httpx.Response, request: httpx.Request) -> Fetched:
    if not response.is_success:
        raise _named(await _refused(wire, response), request)
    length = response.headers.get("content-length", "")
    pieces = _pieces(wire, response, request)
    await anext(pieces)  # begun, so that closing it closes the answer
    return Fetched(
        status=response.status_code,
        size=int(length) if length.isdecimal() else None,
        etag=response.headers.get("etag"),
        media_type=response.headers.get("content-type", ""),
        pieces=pieces,
    )


async def _refused(wire: Wire, response: httpx.Response) -> TokenHubError:
    body = bytearray()
    try:
        async with aclosing(wire.chunks(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > LARGEST_COMPLAINT:
                    break
    except httpx.HTTPError:
        pass  # the status says enough
    finally:
        await wire.close(response)
    return error_from(response.status_code, response.headers, bytes(body[:LARGEST_COMPLAINT]))


async def _pieces(
    wire: Wire, response: httpx.Response, request: httpx.Request
) -> AsyncGenerator[bytes, None]:
    """Yield nothing at first, then the bytes."""
    failure: httpx.HTTPError
    try:
        yield b""
        async with aclosing(wire.chunks(response)) as chunks:
            async for chunk in chunks:
                yield chunk
    except httpx.HTTPError as caught:
        failure = caught
    else:
        return
    finally:
        await wire.close(response)
    raise _named(translated(failure, "answered"), request)
