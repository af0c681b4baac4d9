"""The emulator's state: what it received, its clock, jobs, injected faults, scripted answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import quote

from langchain_tokenhub.testing.chat_script import Reply, Script
from langchain_tokenhub.testing.chat_validation import message_tokens
from langchain_tokenhub.testing.errors import Era, MediaRefusedError, RefusedError
from langchain_tokenhub.testing.faults import Fault, FaultKind, Faults
from langchain_tokenhub.testing.sample_files import SampleFile
from langchain_tokenhub.testing.tables import Body, Row, table

JobStatus = Literal["queued", "in_progress", "completed", "failed"]
Latency = float | tuple[float, float]
_INVALID_KEY_PREFIXES = ("wrong", "sk-wrong")
_MINUTE = 60.0
_JOB_LIFE = 86400.0
_QUEUED_SHARE = 0.15
_MODERATION = "FailedOperation.ModerationFailed"


@dataclass(frozen=True)
class ReceivedRequest:
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


ReplyFunction: TypeAlias = "Callable[[ReceivedRequest], Reply]"


class Rng(random.Random):
    """The random numbers of one request."""

    def uuid(self) -> str:
        """Return a random id."""
        return str(uuid.UUID(int=self.getrandbits(128), version=4))


@dataclass
class TokenUse:
    """The tokens of a request, counted against its minute."""

    at: float
    tokens: int


@dataclass
class RateLimits:
    """Requests (RPM) and tokens (TPM) a minute, per key and model; `None` is no limit."""

    rpm: int | None
    tpm: int | None
    _spent: dict[tuple[str, str], deque[TokenUse]] = field(default_factory=dict)

    def admit(self, key: str, model: str, now: float, tokens: int) -> TokenUse:
        """Admit a request, whose tokens the caller raises once it is answered.

        Args:
            key: The API key.
            model: The model id.
            now: Seconds on the emulator's wall clock.
            tokens: Tokens of the prompt.

        Raises:
            RefusedError: 429002 or 429003, with the seconds until the oldest request expires.
        """
        spent = self._spent.setdefault((key, model), deque())
        while spent and spent[0].at <= now - _MINUTE:
            spent.popleft()
        wait = spent[0].at + _MINUTE - now if spent else _MINUTE
        used = sum(one.tokens for one in spent) + tokens if self.tpm is not None else 0
        for code, unit, limit, total in (
            ("429002", "requests", self.rpm, len(spent) + 1),
            ("429003", "tokens", self.tpm, used),
        ):
            if limit is not None and total > limit:
                text = f"The limit of {limit} {unit} per minute is reached for this key and model."
                raise RefusedError(code, text, retry_after=math.ceil(wait))
        spent.append(TokenUse(now, tokens))
        return spent[-1]


class PrefixCache:
    """The beginnings of conversations that were asked before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def count(self, body: Body) -> int:
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


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job.

    Args:
        id: Its id.
        kind: `image`, `video` or `3d`.
        model: The id of its model.
        body: The submit.
        order: Its number among all jobs.
        row: The row of its model.
        key: The API key of the submit.
        seconds: Duration of the work on the job clock.
        started: Time of the submit on the job clock.
        submitted_at: Time of the submit on the wall clock.
        error: Code and message, if it is to fail.
        clock: Returns the time on the job clock.
    """

    id: str
    kind: str
    model: str
    body: Body
    order: int
    row: Row = field(repr=False)
    key: str = field(repr=False)
    seconds: float
    started: float
    submitted_at: float
    error: tuple[str, str] | None
    clock: Callable[[], float] = field(repr=False)

    @property
    def progress(self) -> int:
        """Percent of the work, 0 while it is queued."""
        done = min(1.0, (self.clock() - self.started) / self.seconds)
        return 0 if done < _QUEUED_SHARE else int(100 * done)

    @property
    def status(self) -> JobStatus:
        """The state now."""
        match self.progress:
            case 0:
                return "queued"
            case 100:
                return "failed" if self.error else "completed"
            case _:
                return "in_progress"


@dataclass(kw_only=True, eq=False, repr=False)
class EmulatorState:
    """The state of the emulator; safe to use from any thread. `Emulator` explains the arguments.

    Attributes:
        requests: The received requests, in order.
        streams: The number of open chat streams.
        cost: Estimated credits of the accepted jobs; failed ones are free.
    """

    speed: float = 1.0
    seed: int = 0
    api_key: InitVar[str | Sequence[str] | None] = None
    models: str | Sequence[str] = ()
    quotas: bool = True
    rpm: InitVar[int | None] = None
    tpm: InitVar[int | None] = None
    latency: Latency = 0.0
    era: Era = "today"

    def __post_init__(
        self, api_key: str | Sequence[str] | None, rpm: int | None, tpm: int | None
    ) -> None:
        """Refuse invalid settings, which would otherwise fail later."""
        if self.era not in get_args(Era):
            eras = " and ".join(get_args(Era))
            raise ValueError(f"There is no era {self.era!r}; there are {eras}.")
        if self.speed < 0:
            raise ValueError("speed must not be negative; at 0 the clock of jobs stands still.")
        models = [self.models] if isinstance(self.models, str) else self.models
        if not isinstance(models, Collection) or not all(isinstance(i, str) and i for i in models):
            raise TypeError(f"models is a list of model ids, not {models!r}.")
        self.models = tuple(dict.fromkeys(models))
        self.requests: list[ReceivedRequest] = []
        self.streams = 0
        self.cost = 0.0
        self.files: dict[str, SampleFile] = {}
        self.faults = Faults()
        self.script = Script()
        self.is_unreachable = False
        self.cache = PrefixCache()
        self.rates = RateLimits(rpm, tpm)
        self._keys = frozenset([api_key] if isinstance(api_key, str) else api_key or ())
        self._asked: Counter[bytes] = Counter()
        self._jobs: dict[str, Job] = {}
        self._in_flight: dict[tuple[str, str], list[Job]] = {}
        self._drawing: Counter[tuple[str, str]] = Counter()
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
            self.faults.inject(fault)

    def recover(self) -> None:
        """Remove injected faults and scripted answers, and be reachable again."""
        self.faults.clear()
        self.script.clear()
        self._set_unreachable(value=False)

    def _set_unreachable(self, *, value: bool) -> None:
        """Change whether the host answers."""
        self.is_unreachable = value

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

    def is_valid_key(self, key: str) -> bool:
        """Return True if an API key is valid."""
        if self._keys:
            return key in self._keys
        return bool(key) and not key.startswith(_INVALID_KEY_PREFIXES)

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
        """Wait `seconds / speed`, at speed 0 not at all; below a millisecond yield to other tasks.

        Yielding lets a stream detect a disconnect.
        """
        real = seconds / self.speed if self.speed else 0
        await asyncio.sleep(real if real >= 0.001 else 0)

    # -- jobs and their files --------------------------------------------------------------------

    @property
    def jobs(self) -> dict[str, Job]:
        """The accepted jobs by id, in the order of their submits."""
        with self._lock:
            return dict(self._jobs)

    def accept(
        self, kind: str, row: Row, body: Body, key: str, *, fault: Fault | None, rng: Rng
    ) -> Job:
        """Create a job.

        Raises:
            MediaRefusedError: When too many are in flight.
        """
        model, error = str(body["model"]), None
        if fault and fault.kind == "job":
            error = fault.code or _MODERATION, fault.message
        with self._lock:
            self._check_quota(row, model, key)
            job = Job(
                id=_new_id(kind, rng),
                kind=kind,
                model=model,
                body=dict(body),
                order=len(self._jobs),
                row=row,
                key=key,
                seconds=row["seconds"] * rng.uniform(0.8, 1.2),
                started=self.clock(),
                submitted_at=self.now(),
                error=error,
                clock=self.clock,
            )
            self._jobs[job.id] = job
            self._in_flight.setdefault((model, key), []).append(job)
        if not error:
            self.cost += estimate_credits(row, body)
        return job

    def _check_quota(self, row: Row, model: str, key: str) -> None:
        jobs = self._in_flight.get((model, key), ())
        open_jobs = [job for job in jobs if job.progress < 100]
        self._in_flight[model, key] = open_jobs
        busy = len(open_jobs) + self._drawing[model, key]
        if self.quotas and busy >= row["in_flight"]:
            message = f"{busy} jobs are running, the limit is {row['in_flight']}."
            raise MediaRefusedError("RequestLimitExceeded.JobNumExceed", message)

    @contextmanager
    def count_drawing(self, row: Row, model: str, key: str) -> Iterator[None]:
        """Count a synchronous image as in flight while it is drawn."""
        with self._lock:
            self._check_quota(row, model, key)
            self._drawing[model, key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._drawing[model, key] -= 1

    def find(self, job_id: Any, model: Any) -> Job | None:
        """Return a job of a model that is less than a day old."""
        job = self._jobs.get(job_id) if isinstance(job_id, str) else None
        if job is None or job.model != model:
            return None
        return job if self.now() - job.submitted_at < _JOB_LIFE else None

    def sign_link(self, base: str, file: SampleFile, life: float) -> str:
        """Sign a link to a file, in the form of the service's storage."""
        self.files.setdefault(file.name, file)
        window = f"{int(self.now())};{int(self.now() + life)}"
        escaped = quote(window, safe="")
        return (
            f"{base}/files/{file.name}?q-sign-algorithm=sha1&q-ak=AKIDemulator"
            f"&q-sign-time={escaped}&q-key-time={escaped}&q-header-list=host&q-url-param-list="
            f"&q-signature={self._sign(file.name, window)}"
        )

    def _sign(self, name: str, window: str) -> str:
        text = f"{name}\n{window}".encode()
        return hmac.new(f"emulator-{self.seed}".encode(), text, hashlib.sha1).hexdigest()

    def open_link(self, name: str, query: Mapping[str, str]) -> SampleFile | str:
        """Return the file of a link, or the storage's code for why not."""
        window = query.get("q-sign-time", "")
        if self._sign(name, window) != query.get("q-signature"):
            return "SignatureDoesNotMatch"
        if self.now() > int(window.partition(";")[2]):
            return "AccessDenied"
        return self.files.get(name, "NoSuchKey")


def _new_id(kind: str, rng: Rng) -> str:
    """Return an id in the form of the kind: dashed for images, 19 digits for the others.

    Where the service's ids contain the time, these are random: same request, same id.
    """
    if kind == "image":
        return f"1259388371-{int(rng.uniform(1.76e9, 1.79e9))}-{rng.uuid()}-0"
    return str(1_400_000_000_000_000_000 + int(rng.uniform(0, 9e16)))


def estimate_credits(row: Row, body: Body) -> float:
    """Estimate credits from the columns of `media_rules.toml`."""
    rules = table("media_rules")
    by_value = rules["prices"].get(body["model"], {})
    base = next(
        (costs[body[name]] for name, costs in by_value.items() if body.get(name) in costs),
        row["credits"],
    )
    extras = rules["extras"].get(body["model"], {})
    return float(base + sum(cost for name, cost in extras.items() if body.get(name)))
