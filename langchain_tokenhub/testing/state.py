"""The emulator's state: what it received, its clock, rate limits, jobs and links."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import random
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import quote

from langchain_tokenhub.testing.chat_script import Script
from langchain_tokenhub.testing.errors import Era, Faults, MediaRefusedError, RefusedError
from langchain_tokenhub.testing.sample_files import SampleFile
from langchain_tokenhub.testing.tables import Body, Row, table

JobStatus = Literal["queued", "in_progress", "completed", "failed"]
Latency = float | tuple[float, float]
_MINUTE = 60.0
_JOB_LIFE = 86400.0
_QUEUED_SHARE = 0.15


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


class Rng(random.Random):
    """The random numbers of one request."""

    def uuid(self) -> str:
        """Return a random id."""
        return str(uuid.UUID(int=self.getrandbits(128), version=4))


@dataclass
class TokenUse:
    """A chat request that is counted against its minute."""

    at: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job; `started` and `seconds` are on the job clock, `submitted_at` on the wall clock.

    Args:
        kind: `image`, `video` or `3d`.
        body: The submit.
        row: The row of its model.
        error: With which it is to fail, if it is.
        clock: Returns the time on the job clock.
    """

    id: str
    kind: str
    model: str
    body: Body
    row: Row = field(repr=False)
    key: str = field(repr=False)
    seconds: float
    started: float
    submitted_at: float
    error: RefusedError | None
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
    """The state of an `Emulator`, which explains the fields. Safe to use from any thread."""

    speed: float = 1.0
    seed: int = 0
    api_key: str | Sequence[str] | None = None
    models: str | Sequence[str] = ()
    quotas: bool = True
    rpm: int | None = None
    tpm: int | None = None
    latency: Latency = 0.0
    era: Era = "today"

    def __post_init__(self) -> None:
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
        self.conversations: set[int] = set()
        self._spent: defaultdict[tuple[str, str], deque[TokenUse]] = defaultdict(deque)
        self._asked: Counter[bytes] = Counter()
        self._jobs: dict[str, Job] = {}
        self._in_flight: defaultdict[tuple[str, str], list[Job]] = defaultdict(list)
        self._drawing: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._advanced = 0.0

    def now(self) -> float:
        """Return the wall clock: seconds since 1970."""
        return time.time() + self._advanced

    def clock(self) -> float:
        """Return the job clock: seconds of work since the emulator was made."""
        return self.uptime() * self.speed + self._advanced

    def uptime(self) -> float:
        """Return real seconds since the emulator was made."""
        return time.monotonic() - self._started

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds / speed`; at speed 0 only let other tasks run, also to see a disconnect."""
        real = seconds / self.speed if self.speed else 0
        await asyncio.sleep(real if real >= 0.001 else 0)

    def rng_for(self, *request: bytes) -> Rng:
        """Return random numbers that depend on the seed, the request and how often it came."""
        digest = hashlib.sha256(b"%d" % self.seed)
        for part in request:
            digest.update(b"%d:" % len(part) + part)
        mark = digest.digest()
        with self._lock:
            self._asked[mark] += 1
            return Rng(mark + b"%d" % self._asked[mark])

    def admit_chat(self, key: str, model: str, tokens: int) -> TokenUse:
        """Admit a request with the tokens of its prompt; the caller adds those of the answer."""
        now, spent = self.now(), self._spent[key, model]
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

    # -- jobs and their files --------------------------------------------------------------------

    @property
    def jobs(self) -> dict[str, Job]:
        """The accepted jobs by id, in the order of their submits."""
        with self._lock:
            return dict(self._jobs)

    def accept(
        self, kind: str, row: Row, body: Body, key: str, *, error: RefusedError | None, rng: Rng
    ) -> Job:
        """Create a job, unless too many are in flight."""
        model = str(body["model"])
        with self._lock:
            self._check_quota(row, model, key)
            job = Job(
                id=_new_id(kind, rng),
                kind=kind,
                model=model,
                body=dict(body),
                row=row,
                key=key,
                seconds=row["seconds"] * rng.uniform(0.8, 1.2),
                started=self.clock(),
                submitted_at=self.now(),
                error=error,
                clock=self.clock,
            )
            self._jobs[job.id] = job
            self._in_flight[model, key].append(job)
        if not error:
            self.cost += estimate_credits(row, body)
        return job

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

    def _check_quota(self, row: Row, model: str, key: str) -> None:
        if not self.quotas:
            return
        open_jobs = [job for job in self._in_flight[model, key] if job.progress < 100]
        self._in_flight[model, key] = open_jobs
        busy = len(open_jobs) + self._drawing[model, key]
        if busy >= row["in_flight"]:
            message = f"{busy} jobs are running, the limit is {row['in_flight']}."
            raise MediaRefusedError("RequestLimitExceeded.JobNumExceed", message)

    def find(self, job_id: Any) -> Job | None:
        """Return a job that is less than a day old."""
        job = self._jobs.get(job_id) if isinstance(job_id, str) else None
        return job if job and self.now() - job.submitted_at < _JOB_LIFE else None

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
