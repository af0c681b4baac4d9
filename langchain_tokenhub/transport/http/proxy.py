"""The proxy of a request, from the environment and the system's settings."""

from __future__ import annotations

import functools
import os
import time
import urllib.request
from importlib.util import find_spec

import httpx

PROXY_TTL = 30.0
"""Seconds after which the system's settings are read again."""

_PROXY_VARIABLES = tuple(
    spelling
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")
    for spelling in (name, name.upper())
)


def proxy_of(request: httpx.Request) -> httpx.Proxy | None:
    """Return the proxy for `request`.

    A pinned address uses none, nor does plain http: it is for loopback, and a proxy would see the
    key.

    Raises:
        httpx.ProxyError: The proxy cannot be used. The message does not quote its address, which
            may hold a password.
    """
    if "sni_hostname" in request.extensions or request.url.scheme == "http":
        return None
    address = proxy_for(request.url.scheme, request.url.raw_host.decode("ascii"))
    if not address:
        return None
    try:
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None:
        raise httpx.ProxyError(
            "the proxy in the environment is not of the type http, https or socks5"
        )
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise httpx.ProxyError("a SOCKS proxy needs a package: pip install 'httpx[socks]'")
    return proxy


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the address of the proxy for `host`, or None."""
    variables = tuple(os.environ.get(name) for name in _PROXY_VARIABLES)
    return _proxy_for(scheme, host, variables, int(time.monotonic() // PROXY_TTL))


@functools.lru_cache(maxsize=256)
def _proxy_for(scheme: str, host: str, _variables: tuple[str | None, ...], _: int) -> str | None:
    """Read the settings, which is slow; the further arguments are keys of the cache."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
