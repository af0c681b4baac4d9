"""GET /files/{name}: results behind signed links, as an object storage serves them."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response

from langchain_tokenhub.testing.failures import cut_short, streamed
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.http import Arrival
from langchain_tokenhub.testing.media_state import Link, MediaHub
from langchain_tokenhub.testing.sample_files import Result
from langchain_tokenhub.testing.tables import table

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def read_link(name: str, query: Mapping[str, Sequence[str]]) -> Link:
    """Take a link apart."""

    def first(key: str) -> str:
        return next(iter(query.get(key, ())), "")

    return Link(name, first("q-sign-time"), first("q-signature"))


async def serve_file(hub: MediaHub, x: Arrival) -> Response:
    """Answer a result link."""
    request = x.request
    if "authorization" in request.headers:
        return _denied(400, "InvalidArgument", "Two ways of signing at once")
    query = {key: [value] for key, value in request.query_params.items()}
    found = hub.open(read_link(request.path_params["name"], query))
    if isinstance(found, str):
        return _denied(404 if found == "NoSuchKey" else 403, found, "Request denied")
    raw = await asyncio.to_thread(_content, found)
    return _cut(x.fault, request, raw) or _content_response(request, found, raw)


@lru_cache(maxsize=64)
def _content(result: Result) -> bytes:
    return result.make()


def _denied(status: int, code: str, message: str) -> Response:
    text = (
        "<?xml version='1.0' encoding='utf-8' ?>\n"
        f"<Error>\n\t<Code>{code}</Code>\n\t<Message>{message}</Message>\n</Error>\n"
    )
    return Response(text, status, media_type="application/xml")


def _cut(fault: Fault | None, request: Request, raw: bytes) -> Response | None:
    if fault is None or fault.kind != "cut":
        return None
    headers = {"content-length": str(len(raw)), "content-type": "application/octet-stream"}
    return streamed(cut_short(raw, fault.after, request), headers)


def _content_response(request: Request, result: Result, raw: bytes) -> Response:
    tag = f'"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}"'
    headers = {
        "content-type": table("media_rules")["types"][result.type],
        "accept-ranges": "bytes",
        "etag": tag,
    }
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if not asked or request.headers.get("if-range", tag) != tag:
        return Response(raw, headers=headers)
    return _partial(raw, asked.group(1), asked.group(2), headers)


def _partial(raw: bytes, first: str, last: str, headers: dict[str, str]) -> Response:
    """Answer a range; without a first byte it is the end of the file."""
    size = len(raw)
    start = int(first) if first else max(0, size - int(last or 0))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
    shown = headers | {"content-range": f"bytes {start}-{end}/{size}"}
    return Response(raw[start : end + 1], 206, shown)
