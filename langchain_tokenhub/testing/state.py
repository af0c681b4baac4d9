"""The emulator's state: what it received, its clock, ordered failures and scripted answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, TypeAlias

from langchain_tokenhub.testing.chat_script import Reply, Script
from langchain_tokenhub.testing.chat_validation import message_tokens
from langchain_tokenhub.testing.errors import ERAS, Era, RefusedError
from langchain_tokenhub.testing.faults import Fault, FaultKind, Faults

_WRONG = ("wrong", "sk-wrong")
_MINUTE = 60.0
Latency = float | tuple[float, float]


@dataclass(frozen=True)
class Received:
    """A request as it arrived.

    Args:
        headers: Names in lower case.
        body: Parsed JSON; `None` where there was none.
        at: Seconds since the emulator was made.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Any
    at: float


ReplyFunction: TypeAlias = "Callable[[Received], Reply]"


class Rng(random.Random):
    """The random numbers of one request."""

    def uuid(self) -> str:
        """Return a random id."""
        return str(uuid.UUID(int=self.getrandbits(128), version=4))


@dataclass
class Spent:
    """The tokens of a request, counted against its minute."""

    at: float
    tokens: int


@dataclass
class RateLimits:
    """Requests (RPM) and tokens (TPM) a minute, per key and model; `None` is no limit."""

    rpm: int | None
    tpm: int | None
    _spent: dict[tuple[str, str], deque[Spent]] = field(default_factory=dict)

    def admit(self, key: str, model: str, now: float, tokens: int) -> Spent:
        """Admit a request, whose tokens the caller raises once it is answered.

        Args:
            key: The API key.
            model: The model id.
            now: Seconds on the emulator's wall clock.
            tokens: Tokens of the prompt.

        Raises:
            RefusedError: 429002 or 429003, with the seconds until there is room.
        """
        spent = self._spent.setdefault((key, model), deque())
        while spent and spent[0].at <= now - _MINUTE:
            spent.popleft()
        wait = spent[0].at + _MINUTE - now if spent else _MINUTE
        _check_limit("429002", "requests", self.rpm, len(spent) + 1, wait)
        used = sum(one.tokens for one in spent) + tokens if self.tpm is not None else 0
        _check_limit("429003", "tokens", self.tpm, used, wait)
        spent.append(Spent(now, tokens))
        return spent[-1]


def _check_limit(code: str, unit: str, limit: int | None, total: int, wait: float) -> None:
    if limit is not None and total > limit:
        message = f"The limit of {limit} {unit} per minute is reached for this key and model."
        raise RefusedError(code, message, retry_after=math.ceil(wait))


class PrefixCache:
    """The beginnings of conversations that were asked before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def count(self, body: Mapping[str, Any]) -> int:
        """Return the tokens of the longest known beginning, and record this conversation."""
        digest, known, total, marks = hashlib.sha1(usedforsecurity=False), 0, 0, []
        digest.update(str(body["model"]).encode(errors="replace"))
        for message in body["messages"]:
            digest.update(json.dumps(message, sort_keys=True).encode())
            marks.append(digest.digest())
            total += message_tokens(message)
            known = total if marks[-1] in self._seen else known
        self._seen.update(marks)
        return known


@dataclass(kw_only=True, eq=False, repr=False)
class Hub:
    """The state of the emulator; safe to use from any thread. `Emulator` explains the arguments.

    Attributes:
        requests: The received requests, in order.
        streams: The number of open chat streams.
    """

    speed: float = 1.0
    seed: int = 0
    api_key: InitVar[str | Sequence[str] | None] = None
    models: str | Sequence[str] = ()
    rpm: InitVar[int | None] = None
    tpm: InitVar[int | None] = None
    latency: Latency = 0.0
    era: Era = "today"

    def __post_init__(
        self, api_key: str | Sequence[str] | None, rpm: int | None, tpm: int | None
    ) -> None:
        """Refuse invalid settings, which would otherwise fail later."""
        if self.era not in ERAS:
            raise ValueError(f"There is no era {self.era!r}; there are {' and '.join(ERAS)}.")
        if self.speed < 0:
            raise ValueError("speed must not be negative; at 0 the clock of jobs stands still.")
        models = [self.models] if isinstance(self.models, str) else self.models
        if not isinstance(models, Collection) or not all(isinstance(i, str) and i for i in models):
            raise TypeError(f"models is a list of model ids, not {models!r}.")
        self.models = tuple(dict.fromkeys(models))
        self.requests: list[Received] = []
        self.streams = 0
        self.faults = Faults()
        self.script = Script()
        self.unreachable = False
        self.cache = PrefixCache()
        self.rates = RateLimits(rpm, tpm)
        self._keys = frozenset([api_key] if isinstance(api_key, str) else api_key or ())
        self._asked: Counter[bytes] = Counter()
        self._lock = threading.RLock()
        self._started = time.monotonic()
        self._advanced = 0.0

    def reply(self, reply: Reply | Sequence[Reply | ReplyFunction] | ReplyFunction) -> None:
        """Script the next answers of chat models; without a script answers are computed.

        Args:
            reply: A text, an `AIMessage` (with `tool_calls`, `reasoning_content` in
                `additional_kwargs`, `usage_metadata` as you like) or a dict in the form of the
                service's messages answers one request. A list answers one request with each
                entry. A function is given the request (see `requests`) and returns a text, an
                `AIMessage` or a dict: it answers every request that nothing else is scripted
                for, in a list one request; what it raises is answered with HTTP 500. `recover`
                removes what is left.

        Raises:
            TypeError: The reply is of another type.
        """
        self.script.add(reply)

    def fail(
        self,
        kind: FaultKind = "status",
        *,
        status: int | None = None,
        code: str = "",
        message: str = "made by the emulator on request",
        retry_after: float | str | None = None,
        body: str | None = None,
        after: int = 0,
        seconds: float = 1.0,
        times: int = 1,
        path: str | None = None,
    ) -> None:
        """Make the next requests fail in a chosen way.

        Args:
            kind: `status` (an HTTP error), `reset` (the connection is reset without an answer),
                `hang` (never answered), `drip` (the answer comes in tiny pieces), `garbage` (200
                with HTML), `error-in-200`; in a chat stream `cut` (closed after some events),
                `stall` (silence), `keep-alive` (comments only), `bad-sse` (a frame that is no
                JSON), `duplicate` (a frame comes twice); for media `job` (the next job fails),
                `refuse` (the submit is refused inside HTTP 200), `lost-answer` (the job is made,
                the answer never comes). `black-hole` is not for single requests: until `recover`
                the host is unreachable, and connecting to it times out.
            status: HTTP status, else that of the code, else 500.
            code: Code of the error.
            message: Text of the error.
            retry_after: The header, seconds or a date.
            body: Sent in place of a JSON error.
            after: Events of a stream (counted from the end where negative) or bytes of a file
                before the failure.
            seconds: Duration of a drip.
            times: Number of requests.
            path: Only for paths that begin with it.

        Raises:
            ValueError: The kind is unknown.
        """
        fault = Fault(kind, status, code, message, retry_after, body, after, seconds, times, path)
        if fault.kind == "black-hole":
            self._set_unreachable(value=True)
        else:
            self.faults.order(fault)

    def recover(self) -> None:
        """Remove ordered failures and scripted answers, and be reachable again."""
        self.faults.clear()
        self.script.clear()
        self._set_unreachable(value=False)

    def _set_unreachable(self, *, value: bool) -> None:
        """Change whether the host answers."""
        self.unreachable = value

    def advance(self, seconds: float) -> None:
        """Move the clock of jobs, links and rate limits forward."""
        with self._lock:
            self._advanced += seconds

    def now(self) -> float:
        """Return the wall clock: seconds since 1970."""
        return time.time() + self._advanced

    def clock(self) -> float:
        """Return the job clock: seconds of work since the emulator was made."""
        return self.uptime() * self.speed + self._advanced

    def uptime(self) -> float:
        """Return real seconds since the emulator was made."""
        return time.monotonic() - self._started

    def accepts(self, key: str) -> bool:
        """Return True if an API key is accepted."""
        if self._keys:
            return key in self._keys
        return bool(key) and not key.startswith(_WRONG)

    def rng_for(self, *request: bytes) -> Rng:
        """Return random numbers that depend on the seed, the request and how often it came.

        They do not depend on the order of requests.
        """
        digest = hashlib.sha256(b"%d" % self.seed)
        for part in request:
            digest.update(b"%d:" % len(part) + part)
        mark = digest.digest()
        with self._lock:
            self._asked[mark] += 1
            return Rng(mark + b"%d" % self._asked[mark])

    async def sleep(self, seconds: float) -> None:
        """Wait, divided by the speed; below a millisecond only yield to other tasks.

        Yielding is how a stream notices that its client has left.
        """
        real = seconds / self.speed if self.speed else 0
        await asyncio.sleep(real if real >= 0.001 else 0)
