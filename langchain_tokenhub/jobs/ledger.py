"""Record paid calls, so that a repeated call resumes its job instead of paying twice.

An entry is written before a submit and gets the job's id right after it. A repeated call that finds
a job resumes it; one that finds no job raises, because the submit may have been charged.

A record holds all entries under one key: the one that a repeated call resumes, and those of other
calls (`again=True`) that were started in the meantime. Each entry has the token of its call. Every
change is a pure function of the record, and is written by compare-and-replace.

Of a request only the stem of its file names is written: no ledger holds a prompt, or the service's
rewriting of it. The links of a completed job are written whole: they are what was paid for.
"""

from __future__ import annotations

import functools
import json
import secrets
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError, SubmissionUnknownError, TokenHubError
from langchain_tokenhub.jobs.files import stem_of
from langchain_tokenhub.jobs.ledger_backends import LedgerBackend, call_backend
from langchain_tokenhub.jobs.ledger_keys import NO_LINKS, Links, digest_of, strip_signature
from langchain_tokenhub.jobs.models import Job, JobRequest, request_from_record
from langchain_tokenhub.jobs.service import SubmitHooks
from langchain_tokenhub.transport import Runtime

T = TypeVar("T")
Record: TypeAlias = "tuple[Entry, ...]"
"""The entries under one key; the first is the one that a repeated call resumes."""
_Change: TypeAlias = Callable[[Record], Record]
_Tokens: TypeAlias = tuple[str, ...] | None

OTHER_WORKER = 30.0
"""Seconds to wait for the id of a submit that another worker may be sending right now."""
MAX_RETRIES = 1000
"""Attempts of a change while other workers change the same record."""
LOOKUP_BATCH_SIZE = 500
"""Records that are read at once; other calls wait for them."""
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a call.

    Args:
        at: When it was written.
        token: Identifies the call that wrote it.
        job: The accepted job; None if the submit has not reported one.
        lost: Whether it is known that no id will be reported.
        again: Whether the call replaces an earlier one once it is accepted.
        request: What was asked for.
        account: Hash of the key that pays.
        key: The call.
    """

    at: datetime
    token: str = ""
    job: Job | None = None
    lost: bool = False
    again: bool = False
    request: JobRequest | None = None
    account: str = ""
    key: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether a worker may be waiting for the id."""
        return self.job is None and not self.lost

    @property
    def age(self) -> float:
        """Seconds since it was written; a clock that is ahead wrote it just now."""
        return max(0.0, (datetime.now(UTC) - self.at).total_seconds())

    @property
    def is_abandoned(self) -> bool:
        """Whether no id will be reported: it is lost, or no worker waits for it any longer."""
        return self.lost or (self.is_pending and self.age > OTHER_WORKER)

    def is_about(self, job: Job, token: str) -> bool:
        """Return True if `job` belongs to this entry, recorded or not."""
        return self.job.id == job.id if self.job else bool(token) and self.token == token


def _without(record: Record, drop: Callable[[Entry], bool]) -> Record:
    """Return a record without some entries; the best of the others takes the first one's place."""
    left = [entry for entry in record if not drop(entry)]
    if record and drop(record[0]):
        left.sort(key=lambda entry: (entry.job is not None, not entry.lost, entry.at), reverse=True)
    return tuple(left)


def _preventing(record: Record, claim: Entry, replaced: _Tokens) -> Entry | None:
    """Return the entry that prevents a claim, preferably one whose call is under way."""
    if not record:
        return None
    if not claim.again:
        return record[0]
    if replaced is None:
        return None
    pending = [entry for entry in record if entry.is_pending and not entry.is_abandoned]
    others = [entry for entry in record if entry.token not in replaced]
    return next(iter([*pending, *others]), None)


def _with_outcome(record: Record, own: Entry) -> Record:
    """Return a record in which a call has ended: with a job, or lost."""
    claim = next((entry for entry in record if entry.token == own.token), None)
    others = tuple(entry for entry in record if entry is not claim)
    if claim is not None and claim is record[0]:
        return (own, *others)
    if claim and claim.again and own.job:  # submits that may still report a job stay
        return (own, *(entry for entry in others if entry.is_pending))
    return (*others, own)


def _with_job(record: Record, job: Job, token: str, request: JobRequest) -> Record:
    """Return a record with the current state of a job, in the entry that it belongs to."""
    return tuple(
        replace(entry, job=job, lost=False, request=request)
        if entry.is_about(job, token)
        else entry
        for entry in record
    )


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
        self._links: set[str] = set()

    async def record(self, key: str) -> Record:
        """Return all that is known of a call."""
        return entries_of(await self._do(self._backend.get, key))

    async def look(self, key: str) -> Entry | None:
        """Return the entry that a repeated call resumes."""
        return next(iter(await self.record(key)), None)

    async def records(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return all that is known of some calls."""
        found: dict[str, Record] = {}
        for first in range(0, len(keys), LOOKUP_BATCH_SIZE):
            batch = keys[first : first + LOOKUP_BATCH_SIZE]
            texts = await self._do(lambda batch=batch: [*map(self._backend.get, batch)])
            found |= zip(batch, map(entries_of, texts), strict=True)
        return found

    async def claim(
        self, key: str, request: JobRequest | None = None, *, again: bool = False
    ) -> Entry | None:
        """Record that a submit begins; return the entry that prevents it, if any.

        Args:
            key: The call.
            request: What is asked for.
            again: Claim in addition to the record of an earlier call, which stays until this one
                is accepted.
        """
        entry = self._entry(key, request, again=again)
        replaced = request.replaced if request else None
        is_interrupted = threading.Event()
        other: Entry | None = None

        def add(record: Record) -> Record:
            nonlocal other
            # the first attempt may have succeeded before its connection was lost
            is_added = any((one.token, one.at) == (entry.token, entry.at) for one in record)
            other = None if is_added else _preventing(record, entry, replaced)
            return record if is_added or other else (*record, entry)

        def claim() -> None:
            self._change(key, add)
            if is_interrupted.is_set():  # nobody waits for this thread any more
                self._drop(key)

        try:
            await self._do(claim)
        except (CancelledError, KeyboardInterrupt, SystemExit):
            is_interrupted.set()
            with suppress(TokenHubError):
                await self._do(self._drop, key)
            raise
        return other

    async def keep(self, key: str, job: Job, request: JobRequest | None = None) -> None:
        """Record the job of a call; a failure only warns, because the job is paid for."""
        files = [file._without_bytes() for file in job.files]  # they may be saved yet
        own = self._entry(key, request, job=job.model_copy(update={"files": files}))
        await self._record(key, job, functools.partial(_with_outcome, own=own))

    async def update(self, key: str, job: Job, request: JobRequest) -> None:
        """Record the current state of a job, if the key's record has its entry."""
        change = functools.partial(_with_job, job=job, token=self._token, request=request)
        await self._record(key, job, change)

    async def forget(self, key: str, job: Job) -> None:
        """Remove the entry of a job that failed."""
        change = functools.partial(_without, drop=lambda e: e.is_about(job, self._token))
        await self._try("a failed job stays in the ledger", self._change, key, change)

    async def mark_lost(self, key: str, request: JobRequest | None = None) -> None:
        """Record that no id will be reported for this call's job."""
        change = functools.partial(_with_outcome, own=self._entry(key, request, lost=True))
        await self._try("a lost submit is not in the ledger", self._change, key, change)

    async def drop_claim(self, key: str) -> None:
        """Remove this call's claim: nothing was accepted."""
        await self._try("a refused submit stays in the ledger", self._drop, key)

    async def known_jobs(self) -> list[tuple[Job, JobRequest | None]]:
        """Return the account's jobs and their requests, the newest first."""
        entries = read_entries(await self._do(lambda: list(self._backend.texts())))
        own = (entry for entry in entries if entry.account in {"", self._account})
        newest_first = sorted(own, key=lambda entry: entry.at, reverse=True)
        return [(entry.job, entry.request) for entry in newest_first if entry.job is not None]

    async def source_of(self, link: str) -> str | None:
        """Return the `MediaFile.source` of the file that a link led to, or None."""
        return await self._do(self._backend.get, self._link_key(link))

    async def await_other_worker(
        self, key: str, entry: Entry, wait: float | None = None
    ) -> Job | None:
        """Return the job of an entry, for whose id another worker may still be waiting.

        Args:
            key: The call.
            entry: Its record.
            wait: Seconds to wait at most.

        Returns:
            None if the other submit was refused: the key is free again.

        Raises:
            SubmissionUnknownError: No id was reported.
        """
        seconds = OTHER_WORKER - entry.age
        until = self._runtime.now() + (seconds if wait is None else min(seconds, wait))
        found: Entry | None = entry
        while found and found.is_pending and (left := until - self._runtime.now()) > 0:
            await self._runtime.sleep(max(0.01, min(0.5, left)))
            record = await self.record(key)
            found = next((one for one in record if one.token == entry.token), None)
        if found is None or found.job is not None:
            return found.job if found else None
        unknown = SubmissionUnknownError(
            "an earlier submit of this call did not report its job; it may have been charged "
            f"(ledger entry {key})",
            phase="sent",
            hint="check the usage in the console; generate(..., again=True) submits and pays again",
        )
        unknown.ledger_key = key
        raise unknown

    def _entry(self, key: str, request: JobRequest | None, **fields: Any) -> Entry:
        fields |= {"token": self._token, "account": self._account, "key": key}
        return Entry(at=datetime.now(UTC), request=request, **fields)

    def _change(self, key: str, change: _Change, links: Links = NO_LINKS) -> Record:
        return change_record(self._backend, key, change, links)

    def _drop(self, key: str) -> None:
        """Remove this call's claim."""
        self._change(
            key, functools.partial(_without, drop=lambda e: e.token == self._token and e.is_pending)
        )

    def _link_key(self, link: str) -> str:
        return f"links/{digest_of([self._account, strip_signature(link)])}"

    async def _record(self, key: str, job: Job, change: _Change) -> None:
        """Record a job, and the links to its files: a later input may be such a link."""
        files = [one for file in job.files for one in (file, file.preview) if one]
        links = {self._link_key(one.url): one.source for one in files if one.url and one.source}
        new = {link: source for link, source in links.items() if link not in self._links}
        problem_text = f"job {job.id} is not in the ledger"
        if await self._try(problem_text, self._change, key, change, new):
            self._links |= new.keys()

    async def _try(self, problem_text: str, function: Callable[..., object], *args: Any) -> bool:
        """Call `function`, and only warn if it fails; return True if it succeeded."""
        try:
            await self._do(function, *args)
        except TokenHubError as problem:
            warn_user(f"{problem_text}: {problem.message}")
            return False
        return True

    async def _do(self, function: Callable[..., T], *args: Any) -> T:
        return await call_backend(self._runtime, self._backend, function, *args)


class LedgerHooks(SubmitHooks):
    """Records one call's submits in a ledger.

    Args:
        ledger: Where to record.
        request: The call.
        again: Whether to submit although there is a record of an earlier call.
    """

    def __init__(self, ledger: Ledger, request: JobRequest, *, again: bool = False) -> None:
        self.key = request.key
        self._ledger = ledger
        self._request = request
        self._again = again

    async def on_begin(self) -> None:  # noqa: D102
        key = self._request.key
        if entry := await self._ledger.claim(key, self._request, again=self._again):
            raise KnownCallError(entry)

    async def on_accepted(self, job: Job) -> None:  # noqa: D102
        await self._ledger.keep(self._request.key, job, self._request)

    async def on_lost(self) -> None:  # noqa: D102
        await self._ledger.mark_lost(self._request.key, self._request)

    async def on_refused(self) -> None:  # noqa: D102
        await self._ledger.drop_claim(self._request.key)


def read_entries(texts: Iterable[str]) -> Iterator[Entry]:
    """Yield every entry of records but those of newer versions."""
    for text in texts:
        with suppress(InvalidRequestError):
            yield from entries_of(text)


def remove_entries(backend: LedgerBackend, key: str, drop: Callable[[Entry], bool]) -> None:
    """Remove some entries of a record; those of other calls stay."""
    change_record(backend, key, functools.partial(_without, drop=drop))


def change_record(
    backend: LedgerBackend, key: str, change: _Change, links: Links = NO_LINKS
) -> Record:
    """Replace a record by what `change` makes of it; return what it was before.

    Args:
        backend: Where it is.
        key: The call.
        change: The change.
        links: Records of links to create with it.
    """
    for _ in range(MAX_RETRIES):
        text = backend.get(key)
        before = entries_of(text)
        after = change(before)
        if after == before or backend.replace(key, text, _text(key, after), links):
            return before
    raise TimeoutError(0, "other workers keep changing this entry")


def _text(key: str, record: Record) -> str | None:
    if not record:
        return None
    whole = {
        "schema": _SCHEMA,
        "key": key,
        "account": next((entry.account for entry in record if entry.account), ""),
        **_fields(record[0]),
        "others": [_fields(entry) for entry in record[1:]],
    }
    text = json.dumps(whole, ensure_ascii=False, default=str)
    # a lone surrogate has no UTF-8; with a backslash it is a JSON escape
    return text.encode(errors="backslashreplace").decode()


def _fields(entry: Entry) -> dict[str, Any]:
    job, request = entry.job, entry.request
    return {
        "state": "submitted" if job else "unknown" if entry.lost else "submitting",
        "at": entry.at.isoformat(),
        "token": entry.token,
        "again": entry.again,
        "account": entry.account,
        "job": job.model_dump(mode="json", exclude={"raw_revised_prompt"}) if job else None,
        "asked": {"title": stem_of(request.label), "parameters": {}} if request else None,
    }


def entries_of(text: str | None) -> Record:
    """Return the entries of a record.

    Truncated text is still being written, or its writer was killed. JSON of another shape is a
    submit whose job is lost.

    Raises:
        InvalidRequestError: It was written by a newer version.
    """
    if text is None:
        return ()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return (Entry(at=datetime.now(UTC)),)
    match whole:
        case {"schema": int() as schema} if schema > _SCHEMA:
            raise InvalidRequestError(
                "the ledger's entry of this call was written by a newer version",
                phase="not sent",
                hint="update langchain-tokenhub, or give another `ledger`",
            )
        case {"schema": 1}:
            others = found if isinstance(found := whole.get("others"), list) else []
            whose = {name: str(whole.get(name) or "") for name in ("key", "account")}
            return tuple(_entry(fields, **whose) for fields in (whole, *others))
        case _:
            return (Entry(at=datetime.now(UTC), lost=True),)


def _entry(fields: Any, key: str, account: str) -> Entry:
    try:
        job = Job.model_validate(fields["job"]) if fields["job"] else None
        return Entry(
            at=_time(fields["at"]),
            token=str(fields.get("token") or ""),
            job=job,
            lost=job is None and fields["state"] != "submitting",
            again=fields.get("again") is True,
            request=request_from_record(fields.get("asked"), key),
            account=str(fields.get("account") or account),
            key=key,
        )
    except (ValueError, KeyError, TypeError):
        return Entry(at=datetime.now(UTC), lost=True, account=account, key=key)


def _time(text: Any) -> datetime:
    """Return a time of a record; one that cannot be read counts as 1970."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
