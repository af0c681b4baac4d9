"""From an HTTP request to an answer in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from langchain_tokenhub.testing.dice import Dice
from langchain_tokenhub.testing.errors import RefusedError, error_body, status_of
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.state import Hub, Received

BODY_LIMIT = 100 << 20
"""Bytes of a request: the largest holds a film (1823/136957)."""
_DEEPEST = 100


@dataclass(frozen=True)
class Arrival:
    """One request as it came in.

    Args:
        raw: The body; `None` where it was too large to keep.
        fault: What the request is to suffer.
        dice: Its ids and whatever else is left to chance.
    """

    hub: Hub
    request: Request
    raw: bytes | None
    fault: Fault | None
    dice: Dice

    @property
    def base(self) -> str:
        """Return scheme, host and port as the client wrote them."""
        return str(self.request.base_url).rstrip("/")


@dataclass(frozen=True)
class Exchange:
    """An authorised request with a JSON object."""

    arrival: Arrival
    body: dict[str, Any]
    key: str

    @property
    def hub(self) -> Hub:
        """The hub that was asked."""
        return self.arrival.hub

    @property
    def fault(self) -> Fault | None:
        """What the request is to suffer."""
        return self.arrival.fault

    @property
    def dice(self) -> Dice:
        """What is left to chance."""
        return self.arrival.dice


# -- coming in ----------------------------------------------------------------------------------


async def arrive(hub: Hub, request: Request) -> Arrival:
    """Read a request, record it and see what it is to suffer.

    Raises:
        ClientDisconnect: When the client has left before it was all there.
    """
    raw = await _read(request)
    method, path, headers = request.method, request.url.path, dict(request.headers)
    hub.requests.append(
        Received(method, path, request.url.query, headers, _parsed(raw), hub.uptime())
    )
    key = headers.get("authorization", "")
    dice = hub.chance.dice(method.encode(), path.encode(), key.encode(), raw or b"")
    return Arrival(hub, request, raw, hub.faults.take(method, path), dice)


async def _read(request: Request) -> bytes | None:
    """Read to the end, also what is not kept: only then does the client hear the refusal."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size <= BODY_LIMIT:
            parts.append(part)
    return b"".join(parts) if size <= BODY_LIMIT else None


def _parsed(raw: bytes | None) -> Any:
    try:
        value = json.loads(raw, parse_constant=_no_number) if raw else None
    except (ValueError, RecursionError):
        return None
    return value if _is_shallow(value) else None


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not in JSON")


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return True
    return False


def _inside(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()


def authorised(x: Arrival) -> Exchange:
    """Check the key and read the body.

    Raises:
        RefusedError: For a key that is not good, and a body that is no JSON object.
    """
    key = _key(x)
    return Exchange(x, _body(x) if x.request.method == "POST" else {}, key)


def _key(x: Arrival) -> str:
    scheme, _, key = x.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise RefusedError("401001", "No API Key: send it as 'Authorization: Bearer <key>'.")
    if not x.hub.accepts(key.strip()):
        raise RefusedError("401002", "API Key does not exist or signature verification failed.")
    return key.strip()


def _body(x: Arrival) -> dict[str, Any]:
    if x.raw is None:
        raise RefusedError("413001", f"The request body exceeds {BODY_LIMIT >> 20} MB.")
    body = _parsed(x.raw)
    if not isinstance(body, dict):
        raise RefusedError("400001", "The request body is not a JSON object.")
    return body


# -- going out ----------------------------------------------------------------------------------


def json_response(
    data: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with JSON; Chinese goes out as it is."""
    raw = json.dumps(data, ensure_ascii=False).encode(errors="replace")
    return Response(raw, status, headers, media_type="application/json")


def refusal(hub: Hub, dice: Dice, error: RefusedError) -> Response:
    """Answer with an error in the words of the era."""
    status = status_of(hub.era, error.code)
    body = error_body(hub.era, status, error.code, error.message, dice.uuid())
    wait = error.retry_after
    return json_response(body, status, {} if wait is None else {"retry-after": str(wait)})
