"""The media half of the emulator's state: jobs, their limits, their files."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from langchain_tokenhub.testing.dice import Dice
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.jobs import JOB_LIFE, Job, JobRecord, is_open, record
from langchain_tokenhub.testing.refusals import MediaRefusedError
from langchain_tokenhub.testing.sample_files import Result
from langchain_tokenhub.testing.state import Hub, Settings
from langchain_tokenhub.testing.tables import table

_MODERATION = "FailedOperation.ModerationFailed"


@dataclass(frozen=True)
class Link:
    """A signed link taken apart."""

    name: str
    window: str
    signature: str

    @property
    def expires(self) -> int:
        """The last second of its life."""
        return int(self.window.partition(";")[2] or 0)


@dataclass(frozen=True)
class Submit:
    """A job that is asked for; `row` is its model's."""

    kind: str
    row: Mapping[str, Any]
    body: Mapping[str, Any]
    key: str
    fault: Fault | None
    dice: Dice


class MediaHub(Hub):
    """Keeps jobs and files."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.quotas = settings.quotas
        self._jobs: dict[str, Job] = {}
        self._in_flight: dict[tuple[str, str], list[Job]] = {}
        self._files: dict[str, Result] = {}
        self._drawing: Counter[tuple[str, str]] = Counter()
        self._cost = 0.0

    @property
    def jobs(self) -> dict[str, JobRecord]:
        """All accepted jobs by id, in the order of their submits."""
        with self._lock:
            return {job.id: record(job, self.clock()) for job in self._jobs.values()}

    @property
    def cost(self) -> float:
        """Estimated credits of the accepted jobs; failed ones are free."""
        return self._cost

    # -- jobs -----------------------------------------------------------------------------------

    def accept(self, submit: Submit) -> Job:
        """Make a job.

        Raises:
            MediaRefusedError: When too many are in flight.
        """
        with self._lock:
            self._check_room(submit.row, submit.body["model"], submit.key)
            job = self._job(submit)
            self._jobs[job.id] = job
            self._in_flight.setdefault((job.model, job.key), []).append(job)
        if job.error is None:
            self._cost += price(submit.row, submit.body)
        return job

    def _check_room(self, row: Mapping[str, Any], model: str, key: str) -> None:
        if not self.quotas:
            return
        clock = self.clock()
        still = [job for job in self._in_flight.get((model, key), ()) if is_open(job, clock)]
        self._in_flight[model, key] = still
        busy = len(still) + self._drawing[model, key]
        if busy >= row["in_flight"]:
            raise MediaRefusedError(
                "RequestLimitExceeded.JobNumExceed",
                f"{busy} jobs are running, the limit is {row['in_flight']}.",
            )

    def _job(self, submit: Submit) -> Job:
        row, fault = submit.row, submit.fault
        fails = fault is not None and fault.kind == "job"
        return Job(
            id=self._new_id(submit.kind, submit.dice),
            kind=submit.kind,
            model=submit.body["model"],
            object=row["object"],
            body=dict(submit.body),
            key=submit.key,
            order=len(self._jobs),
            seconds=row["seconds"] * submit.dice.roll(0.8, 1.2),
            started=self.clock(),
            submitted_at=self.now(),
            link_seconds=row["link_seconds"],
            error=(fault.code or _MODERATION, fault.message) if fails and fault else None,
        )

    def _new_id(self, kind: str, dice: Dice) -> str:
        """Make an id in the form of the kind: dashed for images, 19 digits for the others.

        Where the service has the time in it, this one has chance: same request, same id.
        """
        if kind == "image":
            return f"1259388371-{int(dice.roll(1.76e9, 1.79e9))}-{dice.uuid()}-0"
        return str(1_400_000_000_000_000_000 + int(dice.roll(0, 9e16)))

    @contextmanager
    def drawing(self, row: Mapping[str, Any], model: str, key: str) -> Iterator[None]:
        """Count a synchronous image against the limit while it is drawn."""
        with self._lock:
            self._check_room(row, model, key)
            self._drawing[model, key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._drawing[model, key] -= 1

    def find(self, job_id: Any, model: Any) -> Job | None:
        """Find a job; after a day it is gone, and another model's name does not find it."""
        job = self._jobs.get(job_id) if isinstance(job_id, str) else None
        if job is None or job.model != model:
            return None
        return job if self.now() - job.submitted_at < JOB_LIFE else None

    def charge(self, row: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        """Add a synchronous image to the bill."""
        self._cost += price(row, body)

    # -- links ----------------------------------------------------------------------------------

    def link(self, base: str, result: Result, life: float) -> str:
        """Sign a link to a file, in the form of the service's storage."""
        self._files[result.name] = result
        window = f"{int(self.now())};{int(self.now() + life)}"
        escaped = quote(window, safe="")
        return (
            f"{base}/files/{result.name}?q-sign-algorithm=sha1&q-ak=AKIDemulator"
            f"&q-sign-time={escaped}&q-key-time={escaped}&q-header-list=host&q-url-param-list="
            f"&q-signature={self._sign(result.name, window)}"
        )

    def _sign(self, name: str, window: str) -> str:
        text = f"{name}\n{window}".encode()
        return hmac.new(f"emulator-{self.seed}".encode(), text, hashlib.sha1).hexdigest()

    def open(self, link: Link) -> Result | str:
        """Return the file behind a link, or the storage's word for why not."""
        if self._sign(link.name, link.window) != link.signature:
            return "SignatureDoesNotMatch"
        if self.now() > link.expires:
            return "AccessDenied"
        return self._files.get(link.name, "NoSuchKey")


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
