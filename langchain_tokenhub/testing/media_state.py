"""The media part of the emulator's state: jobs, their limits, their files."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.media_validation import MediaRefusedError
from langchain_tokenhub.testing.sample_files import SampleFile
from langchain_tokenhub.testing.state import Hub, Rng, Settings
from langchain_tokenhub.testing.tables import table

JobStatus = Literal["queued", "in_progress", "completed", "failed"]
_MODERATION = "FailedOperation.ModerationFailed"
_JOB_LIFE = 86400.0
_QUEUED_SHARE = 0.15


@dataclass(frozen=True)
class Job:
    """A job as it was accepted.

    Args:
        seconds: Duration of the work on the job clock.
        started: Time of the submit on the job clock.
        submitted_at: Time of the submit on the wall clock.
        link_seconds: Life of the links to its files.
        error: Code and message, if it is to fail.
    """

    id: str
    kind: str
    model: str
    object: str
    body: Mapping[str, Any]
    key: str
    order: int
    seconds: float
    started: float
    submitted_at: float
    link_seconds: float
    error: tuple[str, str] | None = None

    def status(self, clock: float) -> JobStatus:
        """Return the status at a time of the job clock."""
        done = self._done(clock)
        if done < _QUEUED_SHARE:
            return "queued"
        if done < 1:
            return "in_progress"
        return "failed" if self.error else "completed"

    def progress(self, clock: float) -> int:
        """Return the progress in per cent."""
        done = self._done(clock)
        return 0 if done < _QUEUED_SHARE else int(100 * done)

    def is_open(self, clock: float) -> bool:
        """Return True if the job counts as in flight."""
        return self._done(clock) < 1

    def _done(self, clock: float) -> float:
        return min(1.0, (clock - self.started) / self.seconds)


@dataclass(frozen=True)
class JobRecord:
    """A job as tests see it."""

    id: str
    kind: str
    model: str
    status: JobStatus
    progress: int
    body: Mapping[str, Any]
    order: int


@dataclass(frozen=True)
class Link:
    """A signed link, parsed."""

    name: str
    window: str
    signature: str

    @property
    def expires(self) -> int:
        """The last second of its life."""
        return int(self.window.partition(";")[2] or 0)


@dataclass(frozen=True)
class Submit:
    """A request for a job; `row` is its model's."""

    kind: str
    row: Mapping[str, Any]
    body: Mapping[str, Any]
    key: str
    fault: Fault | None
    rng: Rng


class MediaHub(Hub):
    """The state with jobs and files."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.quotas = settings.quotas
        self._jobs: dict[str, Job] = {}
        self._in_flight: dict[tuple[str, str], list[Job]] = {}
        self._files: dict[str, SampleFile] = {}
        self._drawing: Counter[tuple[str, str]] = Counter()
        self._cost = 0.0

    @property
    def jobs(self) -> dict[str, JobRecord]:
        """The accepted jobs by id, in the order of their submits."""
        with self._lock:
            clock, jobs = self.clock(), list(self._jobs.values())
        return {
            job.id: JobRecord(
                id=job.id,
                kind=job.kind,
                model=job.model,
                status=job.status(clock),
                progress=job.progress(clock),
                body=job.body,
                order=job.order,
            )
            for job in jobs
        }

    @property
    def cost(self) -> float:
        """Estimated credits of the accepted jobs; failed ones are free."""
        return self._cost

    def accept(self, submit: Submit) -> Job:
        """Create a job.

        Raises:
            MediaRefusedError: When too many are in flight.
        """
        with self._lock:
            self._check_quota(submit.row, submit.body["model"], submit.key)
            job = self._create(submit)
            self._jobs[job.id] = job
            self._in_flight.setdefault((job.model, job.key), []).append(job)
        if job.error is None:
            self._cost += price(submit.row, submit.body)
        return job

    def _check_quota(self, row: Mapping[str, Any], model: str, key: str) -> None:
        if not self.quotas:
            return
        clock = self.clock()
        open_jobs = [job for job in self._in_flight.get((model, key), ()) if job.is_open(clock)]
        self._in_flight[model, key] = open_jobs
        busy = len(open_jobs) + self._drawing[model, key]
        if busy >= row["in_flight"]:
            raise MediaRefusedError(
                "RequestLimitExceeded.JobNumExceed",
                f"{busy} jobs are running, the limit is {row['in_flight']}.",
            )

    def _create(self, submit: Submit) -> Job:
        row, fault = submit.row, submit.fault
        return Job(
            id=_new_id(submit.kind, submit.rng),
            kind=submit.kind,
            model=submit.body["model"],
            object=row["object"],
            body=dict(submit.body),
            key=submit.key,
            order=len(self._jobs),
            seconds=row["seconds"] * submit.rng.uniform(0.8, 1.2),
            started=self.clock(),
            submitted_at=self.now(),
            link_seconds=row["link_seconds"],
            error=(fault.code or _MODERATION, fault.message)
            if fault and fault.kind == "job"
            else None,
        )

    @contextmanager
    def drawing(self, row: Mapping[str, Any], model: str, key: str) -> Iterator[None]:
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

    def charge(self, row: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        """Add a synchronous image to the cost."""
        self._cost += price(row, body)

    def link(self, base: str, file: SampleFile, life: float) -> str:
        """Sign a link to a file, in the form of the service's storage."""
        self._files[file.name] = file
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

    def open(self, link: Link) -> SampleFile | str:
        """Return the file of a link, or the storage's code for why not."""
        if self._sign(link.name, link.window) != link.signature:
            return "SignatureDoesNotMatch"
        if self.now() > link.expires:
            return "AccessDenied"
        return self._files.get(link.name, "NoSuchKey")


def _new_id(kind: str, rng: Rng) -> str:
    """Return an id in the form of the kind: dashed for images, 19 digits for the others.

    Where the service's ids contain the time, these are random: same request, same id.
    """
    if kind == "image":
        return f"1259388371-{int(rng.uniform(1.76e9, 1.79e9))}-{rng.uuid()}-0"
    return str(1_400_000_000_000_000_000 + int(rng.uniform(0, 9e16)))


def price(row: Mapping[str, Any], body: Mapping[str, Any]) -> float:
    """Estimate credits from the columns of `media_rules.toml`."""
    rules = table("media_rules")
    by_value = rules["prices"].get(body["model"], {})
    base = next(
        (costs[body[name]] for name, costs in by_value.items() if body.get(name) in costs),
        row["credits"],
    )
    extras = rules["extras"].get(body["model"], {})
    return float(base + sum(cost for name, cost in extras.items() if body.get(name)))
