"""The proxy of a request, from the environment and the system's settings, and its tunnel."""

from __future__ import annotations

import base64
import contextlib
import functools
import ipaddress
import os
import time
import urllib.request

import httpx

from langchain_tokenhub.transport.calls import HTTPRequest, ascii_name
from langchain_tokenhub.transport.decoding import ResponseParser
from langchain_tokenhub.transport.http.connect import Target, loop_timeout
from langchain_tokenhub.transport.http.sockets import (
    AsyncStream,
    SocketStream,
    Stream,
    TLSStream,
    time_left,
)

PROXY_TTL = 30.0
"""Seconds after which the system's settings are read again."""

_PROXY_VARIABLES = tuple(
    spelling
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")
    for spelling in (name, name.upper())
)


def proxy_of(request: HTTPRequest) -> httpx.Proxy | None:
    """Return the proxy for `request`: its own, or the system's unless its addresses are given.

    Raises:
        httpx.ProxyError: The proxy cannot be used. The message does not quote its address, which
            may hold a password.
    """
    address = request.proxy
    if address is None and not request.addresses:
        address = find_proxy_address(request.url.scheme, request.url.host)
    return _parse(address) if address else None


@functools.lru_cache(maxsize=256)
def _parse(address: str) -> httpx.Proxy:
    """Return one object for each address: pools compare proxies by identity."""
    with contextlib.suppress(ValueError, httpx.InvalidURL):
        proxy = httpx.Proxy(address)
        ascii_name(proxy.url)
        return proxy
    raise httpx.ProxyError(
        "the proxy in the environment is not a valid URL of the type http, https or socks5"
    )


def find_proxy_address(scheme: str, host: str) -> str | None:
    """Return the address of the proxy for `host`, or None.

    Plain http uses none: it is for loopback, and a proxy would see the key.
    """
    if scheme == "http":
        return None
    variables = tuple(os.environ.get(name) for name in _PROXY_VARIABLES)
    return _find_proxy_address(scheme, host, variables, int(time.monotonic() // PROXY_TTL))


@functools.lru_cache(maxsize=256)
def _find_proxy_address(
    scheme: str, host: str, _variables: tuple[str | None, ...], _: int
) -> str | None:
    """Read the settings, which is slow; the further arguments are keys of the cache."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


async def open_tunnel(
    stream_type: type[SocketStream],
    proxy: httpx.Proxy,
    target: Target,
    limit: float | None,
    deadline: float | None,
) -> TLSStream:
    """Return a stream to `target` through `proxy`.

    The connection to the proxy may take `limit` seconds. All three steps, with the proxy's own
    connection and TLS, may together take three times as long, but not beyond the deadline.

    Raises:
        httpx.TransportError: A `ProxyError` if the proxy refuses.
    """
    is_async = stream_type is AsyncStream
    try:
        seconds = time_left(deadline, None if limit is None else 3 * limit)
        until = None if seconds is None or is_async else time.monotonic() + seconds
        async with loop_timeout(seconds if is_async else None):
            return await _open_tunnel(stream_type, proxy, target, limit, until)
    except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise httpx.ConnectTimeout("the connection was not ready in time") from error


async def _open_tunnel(
    stream_type: type[SocketStream],
    proxy: httpx.Proxy,
    target: Target,
    limit: float | None,
    until: float | None,
) -> TLSStream:
    url, host = proxy.url, proxy.url.raw_host.decode("ascii")
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 1080)
    tls_name = host if url.scheme == "https" else None
    stream = await stream_type.open(Target(host, port, tls_name), limit)
    connect = _connect_http if url.scheme.startswith("http") else _connect_socks
    try:
        await connect(_Messages(stream, until), target, proxy.raw_auth)
        return await TLSStream.open(stream, target.tls_name or target.host, time_left(until))
    except BaseException:
        stream.close()
        raise


class _Messages:
    """Messages to a proxy and from it, until the monotonic time `until`."""

    def __init__(self, stream: Stream, until: float | None) -> None:
        self._stream, self._until, self._received = stream, until, b""

    async def write(self, data: bytes) -> None:
        await self._stream.write(data, time_left(self._until))

    async def read(self) -> bytes:
        if data := await self._stream.read(time_left(self._until)):
            return data
        raise httpx.ProxyError("the proxy closed the connection")

    async def read_exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._received += await self.read()
        data, self._received = self._received[:size], self._received[size:]
        return data


async def _connect_http(proxy: _Messages, target: Target, auth: tuple[bytes, bytes] | None) -> None:
    """Open a tunnel with CONNECT (RFC 9110)."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    head = f"CONNECT {host}:{target.port} HTTP/1.1\r\nHost: {host}:{target.port}\r\n"
    if auth:
        head += f"Proxy-Authorization: Basic {base64.b64encode(b':'.join(auth)).decode()}\r\n"
    await proxy.write(head.encode("ascii") + b"\r\n")
    parser = ResponseParser()
    while not parser.status:
        parser.feed(await proxy.read())
    parser.close()
    if not 200 <= parser.status < 300:
        raise httpx.ProxyError(f"HTTP {parser.status}")


async def _connect_socks(
    proxy: _Messages, target: Target, auth: tuple[bytes, bytes] | None
) -> None:
    """Open a tunnel with SOCKS 5 (RFC 1928), which resolves the name itself."""
    user, password = auth or (b"", b"")
    if max(len(user), len(password), len(target.host)) > 255:
        raise httpx.ProxyError("SOCKS has at most 255 bytes for a user, a password and a host")
    await proxy.write(b"\5\2\0\2" if auth else b"\5\1\0")
    version, method = await proxy.read_exactly(2)
    if version != 5:
        raise httpx.ProxyError("the proxy's answer is not SOCKS")
    if method == 2:  # RFC 1929
        await proxy.write(b"\1%c%s%c%s" % (len(user), user, len(password), password))
        _, method = await proxy.read_exactly(2)
    if method != 0:
        raise httpx.ProxyError("the proxy refuses the user and password in its address, or none")
    await proxy.write(b"\5\1\0" + _socks_address(target.host) + target.port.to_bytes(2))
    _, status, _, kind = await proxy.read_exactly(4)
    if status != 0:
        raise httpx.ProxyError(f"the proxy cannot connect: SOCKS status {status}")
    size = {1: 4, 4: 16}.get(kind) or (await proxy.read_exactly(1))[0]
    await proxy.read_exactly(size + 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b"\3%c%s" % (len(host), host.encode("ascii"))
    return (b"\1" if address.version == 4 else b"\4") + address.packed
