"""The media part of the emulator's state: jobs, their limits, their files."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.media_validation import MediaRefusedError, Row
from langchain_tokenhub.testing.sample_files import SampleFile
from langchain_tokenhub.testing.state import Hub, Rng
from langchain_tokenhub.testing.tables import table

JobStatus = Literal["queued", "in_progress", "completed", "failed"]
_MODERATION = "FailedOperation.ModerationFailed"
_JOB_LIFE = 86400.0
_QUEUED_SHARE = 0.15


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
    body: Mapping[str, Any]
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
class MediaHub(Hub):
    """The state with jobs and files."""

    quotas: bool = True
    cost: float = field(default=0.0, init=False)
    """Estimated credits of the accepted jobs; failed ones are free."""
    _jobs: dict[str, Job] = field(default_factory=dict, init=False)
    _in_flight: dict[tuple[str, str], list[Job]] = field(default_factory=dict, init=False)
    files: dict[str, SampleFile] = field(default_factory=dict, init=False)
    _drawing: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    @property
    def jobs(self) -> dict[str, Job]:
        """The accepted jobs by id, in the order of their submits."""
        with self._lock:
            return dict(self._jobs)

    def accept(
        self,
        kind: str,
        row: Row,
        body: Mapping[str, Any],
        key: str,
        *,
        fault: Fault | None,
        rng: Rng,
    ) -> Job:
        """Create a job.

        Raises:
            MediaRefusedError: When too many are in flight.
        """
        model = str(body["model"])
        error = fault and fault.kind == "job" and (fault.code or _MODERATION, fault.message)
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
                error=error or None,
                clock=self.clock,
            )
            self._jobs[job.id] = job
            self._in_flight.setdefault((model, key), []).append(job)
        if not error:
            self.charge(row, body)
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
    def drawing(self, row: Row, model: str, key: str) -> Iterator[None]:
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

    def charge(self, row: Row, body: Mapping[str, Any]) -> None:
        """Add the price of a job to the cost."""
        self.cost += price(row, body)

    def link(self, base: str, file: SampleFile, life: float) -> str:
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

    def open(self, name: str, query: Mapping[str, str]) -> SampleFile | str:
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


def price(row: Row, body: Mapping[str, Any]) -> float:
    """Estimate credits from the columns of `media_rules.toml`."""
    rules = table("media_rules")
    by_value = rules["prices"].get(body["model"], {})
    base = next(
        (costs[body[name]] for name, costs in by_value.items() if body.get(name) in costs),
        row["credits"],
    )
    extras = rules["extras"].get(body["model"], {})
    return float(base + sum(cost for name, cost in extras.items() if body.get(name)))
