"""Record paid calls, so that a repeated call resumes its job instead of paying twice.

An entry is written before a submit and gets the job's id right after it. A repeated call that finds
a job resumes it; one that finds no job raises, because the submit may have been charged.

A record holds all that is known under one key: the entry that a repeated call resumes, and the
entries of other calls (`again=True`) that were begun meanwhile. Each entry carries the token of its
call. Every change is a pure function of the record, written by compare-and-replace.

Of a request only the stem of its files' names is written: a prompt is in no ledger, nor is the
service's rewriting of it. A completed job's links are written whole, as they are what was paid for.
"""

from __future__ import annotations

import functools
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError, SubmissionUnknownError, TokenHubError
from langchain_tokenhub.jobs.file_store import stem_of
from langchain_tokenhub.jobs.ledger_backends import (
    FolderBackend,
    LedgerBackend,
    StoreBackend,
    backend_for,
)
from langchain_tokenhub.jobs.ledger_keys import account_hash, bare_link, digest_of, key_of
from langchain_tokenhub.jobs.models import Job, JobRequest, request_from_record
from langchain_tokenhub.jobs.service import SubmitHooks
from langchain_tokenhub.transport import Runtime

__all__ = [
    "Entry",
    "FolderBackend",
    "KnownCallError",
    "Ledger",
    "LedgerBackend",
    "LedgerHooks",
    "StoreBackend",
    "account_hash",
    "backend_for",
    "key_of",
]

T = TypeVar("T")
_Change: TypeAlias = Callable[["Entry | None"], "Entry | None"]

OTHER_WORKER = 30.0
"""Seconds to wait for the id of a submit that another worker may be sending right now."""
MAX_RETRIES = 1000
"""Of a change that other workers keep overtaking."""
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a call.

    Args:
        at: When it was written.
        token: Which call wrote it.
        job: The accepted job; None if the submit has not reported one.
        lost: Whether the job's id is known never to come.
        again: Whether the call replaces an earlier one once it is accepted.
        request: What was asked for.
        account: Hash of the key that pays.
        key: The call.
        others: Entries of other calls under the same key.
    """

    at: datetime
    token: str = ""
    job: Job | None = None
    lost: bool = False
    again: bool = False
    request: JobRequest | None = None
    account: str = ""
    key: str = ""
    others: tuple[Entry, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether a worker may be waiting for the id."""
        return self.job is None and not self.lost

    @property
    def is_abandoned(self) -> bool:
        """Whether no id will come: it is lost, or nobody waits for it any more."""
        return self.lost or (self.pending and _age(self) > OTHER_WORKER)

    @property
    def all(self) -> tuple[Entry, ...]:
        """This entry and the others."""
        return (replace(self, others=()), *self.others)

    def is_about(self, job: Job, token: str) -> bool:
        """Return True if the job is this entry's, written down already or not."""
        return self.job.id == job.id if self.job else bool(token) and self.token == token


def _joined(entry: Entry, others: Iterable[Entry]) -> Entry:
    return replace(entry, others=tuple(others))


def _without(record: Entry, drop: Callable[[Entry], bool]) -> Entry | None:
    """Return a record without some entries; the best of the others takes the first one's place."""
    left = [entry for entry in record.all if not drop(entry)]
    if len(left) == len(record.all):
        return record
    if left and drop(record):
        left.sort(key=lambda entry: (entry.job is not None, not entry.lost, entry.at), reverse=True)
    return _joined(left[0], left[1:]) if left else None


def _with_claim(record: Entry | None, claim: Entry) -> Entry | None:
    if record is None:
        return claim
    return _joined(record, (*record.others, claim)) if claim.again else record


def _with_outcome(record: Entry | None, own: Entry) -> Entry:
    """Return a record in which a call has ended: with a job, or lost."""
    if record is None:
        return own
    if record.token == own.token:
        return _joined(own, record.others)
    claim = next((entry for entry in record.others if entry.token == own.token), None)
    if claim and claim.again and own.job:  # only submits that may yet report a job stay
        return _joined(own, (e for e in record.all if e.pending and e.token != own.token))
    return _joined(record, (*(e for e in record.others if e.token != own.token), own))


def _with_job(record: Entry | None, job: Job, token: str, request: JobRequest) -> Entry | None:
    """Return a record in which a job is written as it is now, if the record is about it."""
    if record is None or not any(entry.is_about(job, token) for entry in record.all):
        return record
    first, *others = (
        replace(entry, job=job, lost=False, request=request)
        if entry.is_about(job, token)
        else entry
        for entry in record.all
    )
    return _joined(first, others)


class _Claim:
    """A claim that leaves nothing behind if its caller is interrupted while a thread writes it."""

    def __init__(self, take: Callable[[], Entry | None], drop: Callable[[], object]) -> None:
        self._take = take
        self._drop = drop
        self._written = False
        self._left = False
        self._lock = threading.Lock()

    def take(self) -> Entry | None:
        """Write the claim, or return the record that is in its way."""
        found = self._take()
        with self._lock:
            self._written = found is None
            nobody_waits = self._written and self._left
        if nobody_waits:
            self._drop()
        return found

    def leave(self) -> None:
        """Remove the claim, now or when it is written: nothing was sent."""
        with self._lock:
            self._left, written = True, self._written
        if written:
            with suppress(Exception):  # a store may raise anything; the interruption goes on
                self._drop()


class KnownCallError(Exception):
    """The call is in the ledger already."""

    def __init__(self, entry: Entry) -> None:
        super().__init__("the call is in the ledger")
        self.entry = entry


class Ledger:
    """One call's view of the records.

    Args:
        backend: Where the records are.
        runtime: Waits.
        account: Hash of the key that pays; records of other accounts are not returned.
    """

    def __init__(self, backend: LedgerBackend, runtime: Runtime, account: str = "") -> None:
        self._backend = backend
        self._runtime = runtime
        self._account = account
        self._token = secrets.token_hex(8)

    async def look(self, key: str) -> Entry | None:
        """Return the record of a call."""
        return await self._do(self._get, key)

    async def look_all(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the records of those calls that have one."""

        def found() -> dict[str, Entry]:
            return {key: entry for key in keys if (entry := self._get(key)) is not None}

        return await self._do(found)

    async def claim(
        self, key: str, request: JobRequest | None = None, *, again: bool = False
    ) -> Entry | None:
        """Record that a submit begins; return the record that is in its way, if any.

        Args:
            key: The call.
            request: What is asked for.
            again: Claim beside the record of an earlier call, which stays until this one is
                accepted.
        """
        entry = self._entry(key, request, again=again)
        change = functools.partial(_with_claim, claim=entry)

        def take() -> Entry | None:
            found = self._change(key, change)
            return None if again else found

        claim = _Claim(take, lambda: self._drop(key))
        try:
            return await self._do(claim.take)
        except BaseException:
            claim.leave()
            raise

    async def keep(self, key: str, job: Job, request: JobRequest | None = None) -> None:
        """Record the job of a call; it is paid for, so a full disk only warns."""
        files = [file._without_bytes() for file in job.files]  # they may be saved yet
        own = self._entry(key, request, job=job.model_copy(update={"files": files}))
        change = functools.partial(_with_outcome, own=own)
        if await self._try(f"job {job.id} is not in the ledger", self._change, key, change):
            await self._record_links(job)

    async def update(self, key: str, job: Job, request: JobRequest) -> None:
        """Record how a job is now, unless the key is about others."""
        change = functools.partial(_with_job, job=job, token=self._token, request=request)
        if await self._try(f"job {job.id} is not in the ledger", self._change, key, change):
            await self._record_links(job)

    async def forget(self, key: str, job: Job) -> None:
        """Remove the entry of a job that failed."""
        await self._try(
            "a failed job stays in the ledger",
            remove_entries,
            self._backend,
            key,
            lambda entry: entry.is_about(job, self._token),
        )

    async def mark_lost(self, key: str, request: JobRequest | None = None) -> None:
        """Record that the id of this call's job will never come."""
        change = functools.partial(_with_outcome, own=self._entry(key, request, lost=True))
        await self._try("a lost submit is not in the ledger", self._change, key, change)

    async def drop_claim(self, key: str) -> None:
        """Remove this call's claim: nothing was accepted."""
        await self._try("a refused submit stays in the ledger", self._drop, key)

    async def known(self) -> list[tuple[Job, JobRequest | None]]:
        """Return the account's jobs and what was asked for, the newest first."""
        records = await self._do(lambda: list(read_records(self._backend)))
        own = (record for record in records if record.account in {"", self._account})
        entries = sorted((e for record in own for e in record.all), key=_at, reverse=True)
        return [(entry.job, entry.request) for entry in entries if entry.job is not None]

    async def source_of(self, link: str) -> str | None:
        """Return which job's file a link led to, or None."""
        return await self._do(self._backend.get, self._link_key(link))

    async def await_other_worker(
        self, key: str, entry: Entry | None, wait: float | None = None
    ) -> Job | None:
        """Return the job of an entry, for whose id another worker may still be waiting.

        Args:
            key: The call.
            entry: Its record.
            wait: Seconds to wait at most.

        Returns:
            None if the other submit was refused: the key is free again.

        Raises:
            SubmissionUnknownError: No id came.
        """
        seconds = OTHER_WORKER - _age(entry)
        until = self._runtime.now() + (seconds if wait is None else min(seconds, wait))
        while entry and entry.pending and (left := until - self._runtime.now()) > 0:
            await self._runtime.sleep(max(0.01, min(0.5, left)))
            entry = await self.look(key)
        if entry is None or entry.job is not None:
            return entry.job if entry else None
        unknown = SubmissionUnknownError(
            "an earlier submit of this call never reported its job; it may have been charged "
            f"(ledger entry {key})",
            phase="sent",
            hint="look at the console's usage; generate(..., again=True) submits and pays anew",
        )
        unknown.ledger_key = key
        raise unknown

    def _entry(self, key: str, request: JobRequest | None, **fields: Any) -> Entry:
        fields |= {"token": self._token, "account": self._account, "key": key}
        return Entry(at=datetime.now(UTC), request=request, **fields)

    def _get(self, key: str) -> Entry | None:
        found = self._backend.get(key)
        return None if found is None else _entry(found)

    def _change(self, key: str, change: _Change) -> Entry | None:
        return change_record(self._backend, key, change)

    def _drop(self, key: str) -> None:
        """Remove this call's claim."""
        remove_entries(self._backend, key, lambda e: e.token == self._token and e.pending)

    def _link_key(self, link: str) -> str:
        return f"links/{digest_of([self._account, bare_link(link)])}"

    async def _record_links(self, job: Job) -> None:
        """Record which job's files links lead to: a text may name them by their links."""
        for link, source in _links(job):
            await self._try(
                f"a link of job {job.id} is not in the ledger",
                self._backend.replace,
                self._link_key(link),
                None,
                source,
            )

    async def _try(self, trouble: str, verb: Callable[..., object], *args: Any) -> bool:
        """Write, and only warn if that fails; return whether it did not."""
        try:
            await self._do(verb, *args)
        except TokenHubError as problem:
            warn_user(f"{trouble}: {problem.message}")
            return False
        return True

    async def _do(self, verb: Callable[..., T], *args: Any) -> T:
        try:
            return await self._runtime.blocking(functools.partial(verb, *args))
        except TokenHubError:
            raise
        except Exception as problem:  # noqa: BLE001 - a user's store may raise anything
            reason = getattr(problem, "strerror", None) or type(problem).__name__
        raise InvalidRequestError(
            f"the ledger cannot be used: {reason}",
            phase="not sent",
            hint="mend the folder, database or store given as `ledger`",
        )


class LedgerHooks(SubmitHooks):
    """Records one call's submits in a ledger.

    Args:
        ledger: Where.
        request: The call.
        again: Whether to submit although there is a record of an earlier call.
    """

    def __init__(self, ledger: Ledger, request: JobRequest, *, again: bool = False) -> None:
        self.key = request.key
        self._ledger = ledger
        self._request = request
        self._again = again

    async def begin(self) -> None:  # noqa: D102
        key = self._request.key
        if entry := await self._ledger.claim(key, self._request, again=self._again):
            raise KnownCallError(entry)

    async def accepted(self, job: Job) -> None:  # noqa: D102
        await self._ledger.keep(self._request.key, job, self._request)

    async def lost(self) -> None:  # noqa: D102
        await self._ledger.mark_lost(self._request.key, self._request)

    async def refused(self) -> None:  # noqa: D102
        await self._ledger.drop_claim(self._request.key)


def read_records(backend: LedgerBackend) -> Iterator[Entry]:
    """Yield every record but those of newer versions."""
    for text in backend.texts():
        with suppress(InvalidRequestError):
            yield _entry(text)


def remove_entries(backend: LedgerBackend, key: str, drop: Callable[[Entry], bool]) -> None:
    """Remove some entries of a record; those of other calls stay."""
    change_record(backend, key, lambda record: record and _without(record, drop))


def change_record(backend: LedgerBackend, key: str, change: _Change) -> Entry | None:
    """Replace a record by what `change` makes of it; return what it was before."""
    for _ in range(MAX_RETRIES):
        text = backend.get(key)
        before = None if text is None else _entry(text)
        after = change(before)
        if after is before or backend.replace(
            key, text, None if after is None else _text(key, after)
        ):
            return before
    raise TimeoutError(0, "other workers change this entry all the time")


def _at(entry: Entry) -> datetime:
    return entry.at


def _links(job: Job) -> Iterator[tuple[str, str]]:
    """Yield the links of a job's files, and which file each leads to."""
    for file in job.files:
        for one in filter(None, (file, file.preview)):
            if one.url and one.source:
                yield one.url, one.source


def _text(key: str, record: Entry) -> str:
    whole = {
        "schema": _SCHEMA,
        "key": key,
        "account": next((entry.account for entry in record.all if entry.account), ""),
        **_fields(record),
        "others": [_fields(entry) for entry in record.others],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1, default=str)


def _fields(entry: Entry) -> dict[str, Any]:
    return {
        "state": "submitted" if entry.job else "unknown" if entry.lost else "submitting",
        "at": entry.at.isoformat(),
        "token": entry.token,
        "again": entry.again,
        "job": entry.job.model_dump(mode="json", exclude={"raw_revised_prompt"})
        if entry.job
        else None,
        "asked": {"title": stem_of(entry.request.title), "parameters": {}}
        if entry.request
        else None,
    }


def _entry(text: str) -> Entry:
    """Return what a record says.

    Text that is cut off is being written, or its writer was killed; JSON of another shape is a
    submit whose job is lost.

    Raises:
        InvalidRequestError: It was written by a newer version.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return Entry(at=datetime.now(UTC))
    match whole:
        case {"schema": int() as schema} if schema > _SCHEMA:
            raise InvalidRequestError(
                "the ledger's entry of this call was written by a newer version",
                phase="not sent",
                hint="update langchain-tokenhub, or give another folder or store as `ledger`",
            )
        case {"schema": 1, **fields}:
            others = fields.get("others")
            whose: dict[str, Any] = {
                name: str(fields.get(name) or "") for name in ("key", "account")
            }
            entries = [_one(other, whose) for other in others] if isinstance(others, list) else []
            return _joined(_one(fields, whose), entries)
        case _:
            return Entry(at=datetime.now(UTC), lost=True)


def _one(fields: Any, whose: Mapping[str, Any]) -> Entry:
    try:
        job = _with_zones(Job.model_validate(fields["job"])) if fields["job"] else None
        return Entry(
            at=_time(fields["at"], known=job is not None),
            token=str(fields.get("token") or ""),
            job=job,
            lost=job is None and fields["state"] != "submitting",
            again=fields.get("again") is True,
            request=request_from_record(fields.get("asked"), whose["key"]),
            **whose,
        )
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError, RecursionError):
        return Entry(at=datetime.now(UTC), lost=True, **whose)


def _time(text: Any, *, known: bool) -> datetime:
    """Return a time of a record; of a known job it need not make sense."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        if known:
            return datetime.min.replace(tzinfo=UTC)
        raise ValueError("no time") from None


def _with_zones(job: Job) -> Job:
    """Return a job whose times all have a zone: others cannot be compared."""
    files = [file.model_copy(update=_zoned(file)) for file in job.files]
    return job.model_copy(update={**_zoned(job), "files": files})


def _zoned(model: BaseModel) -> dict[str, datetime]:
    times = ((name, value) for name, value in model if isinstance(value, datetime))
    return {name: value.replace(tzinfo=UTC) for name, value in times if value.tzinfo is None}


def _age(entry: Entry | None) -> float:
    """Return the seconds since an entry was written; a clock that is ahead wrote it just now."""
    return max(0.0, (datetime.now(UTC) - entry.at).total_seconds()) if entry else OTHER_WORKER
