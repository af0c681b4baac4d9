"""Keys of paid calls: calls with the same key are the same call. Pure."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Links: TypeAlias = Mapping[str, str]
"""`MediaFile.source` by the key of a link."""
NO_LINKS: Links = MappingProxyType({})


@functools.lru_cache(maxsize=64)
def account_hash(key: str) -> str:
    """Return a hash that distinguishes accounts, and from which no API key can be recovered."""
    made = hashlib.pbkdf2_hmac("sha256", key.encode(), b"langchain-tokenhub ledger", 100_000)
    return made.hex()[:32]


def key_of(model: str, sites: Sequence[str], what: Mapping[str, Any], *scope: str) -> str:
    """Return the key of a call.

    Args:
        model: Model id.
        sites: Hosts of the site, as accounts have other jobs on other sites.
        what: The request; the signatures of its links do not count.
        scope: Account, then thread and tool call when inside a graph.
    """
    digest = digest_of([model, list(sites), _without_signatures(what), scope])
    return f"{re.sub(r'[^a-z0-9.-]', '_', model.lower())}-{digest}"


def digest_of(what: Any) -> str:
    """Return a hash of plain values."""
    whole = json.dumps(what, sort_keys=True, default=repr)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:40]


_SIGNATURES = re.compile(
    r"q-(?:sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)"
    r"|x-(?:amz|goog|oss|tos|obs)-(?:algorithm|credential|date|expires|signedheaders|signature"
    r"|signature-version|security-token|additional-headers)|x-cos-security-token"
    r"|signature|sign|expires|policy|key-pair-id|security-token|auth_key|txsecret|txtime"
    r"|(?:aws|oss)?accesskeyid|googleaccessid",
    re.IGNORECASE,
)
"""Query fields with which object stores and CDNs sign a link; the rest names the file."""
_AZURE = re.compile(r"s[vsetpr]|srt|sig|sip|spr|skoid|sktid|sk[tesv]", re.IGNORECASE)
"""The fields of an Azure link, whose query has a `sig`; other links use the names too."""
_LINK = re.compile(r"https?://\S+", re.IGNORECASE)


def strip_signature(link: str) -> str:
    """Return host, path and query of a link, without its signature."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return link
    fields = [field for field in parts.query.split("&") if field]
    names = [field.partition("=")[0] for field in fields]
    signed = [_SIGNATURES, *([_AZURE] if "sig" in map(str.lower, names) else [])]
    kept = [
        field
        for name, field in zip(names, fields, strict=True)
        if not any(pattern.fullmatch(name) for pattern in signed)
    ]
    return f"//{parts.netloc.lower()}{parts.path}{'?' if kept else ''}{'&'.join(kept)}"


def _without_signatures(value: Any) -> Any:
    match value:
        case str() if _LINK.fullmatch(value):
            return strip_signature(value)
        case Mapping():
            return {str(name): _without_signatures(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_without_signatures(inner) for inner in value]
        case _:
            return value
