"""The environment's proxies: which one, if any, a request goes through."""

from __future__ import annotations

import functools
import os
import time
import urllib.request
from importlib.util import find_spec

import httpx

PROXY_TIME = 30.0
"""Seconds after which the system is asked anew which proxy it uses."""


def proxy_of(request: httpx.Request) -> httpx.Proxy | None:
    """Return the proxy for `request`; a pinned address is asked directly.

    So is plain http: it is for loopback alone, and a proxy would read the key.
    """
    if "sni_hostname" in request.extensions or request.url.scheme == "http":
        return None
    address = proxy_for(request.url.scheme, request.url.raw_host.decode("ascii"))
    return _known(address) if address else None


def _known(address: str) -> httpx.Proxy:
    """Return the proxy at `address`, which is in no message: it may hold a password."""
    try:
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None:
        raise httpx.ProxyError("the environment names a proxy that is none of http, https, socks5")
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise httpx.ProxyError("a SOCKS proxy needs a package: pip install 'httpx[socks]'")
    return proxy


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the environment's proxy for `host`."""
    said = tuple(os.environ.get(name) for name in _PROXY_VARIABLES)
    return _proxy_for(scheme, host, said, int(time.monotonic() // PROXY_TIME))


_PROXY_VARIABLES = tuple(
    spelled
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")
    for spelled in (name, name.upper())
)


@functools.lru_cache(maxsize=256)
def _proxy_for(scheme: str, host: str, _variables: tuple[str | None, ...], _: int) -> str | None:
    """Ask the system, which takes a while: again when a variable changes, and now and then."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
