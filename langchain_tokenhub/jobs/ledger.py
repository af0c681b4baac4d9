"""Record paid calls, so that a repeated call resumes its job instead of paying twice.

An entry is written before a submit and gets the job's id right after it. A repeated call that finds
a job resumes it; one that finds no job raises, because the submit may have been charged.

A record holds all entries under one key: the one that a repeated call resumes, and those of other
calls (`again=True`) that were started in the meantime. Each entry has the token of its call. Every
change is a pure function of the record, and is written by compare-and-replace.

Of a request only the stem of its file names is written: no ledger holds a prompt, or the service's
rewriting of it. The links of a completed job are written whole: they are what was paid for.
Calls with the same key are the same call.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import secrets
import threading
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, WrapValidator

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError, SubmissionUnknownError, TokenHubError
from langchain_tokenhub.jobs.files import stem_of
from langchain_tokenhub.jobs.ledger_backends import NO_LINKS, LedgerBackend, Links, call_backend
from langchain_tokenhub.jobs.models import Job, JobRequest
from langchain_tokenhub.transport import Runtime, SendState

T = TypeVar("T")
Record: TypeAlias = "tuple[Entry, ...]"
"""The entries under one key; the first is the one that a repeated call resumes."""
_Change: TypeAlias = Callable[[Record], Record]

OTHER_WORKER = 30.0
"""Seconds to wait for the id of a submit that another worker may be sending right now."""
MAX_RETRIES = 1000
"""Attempts of a change while other workers change the same record."""
LOOKUP_BATCH_SIZE = 500
"""Records that are read at once; other calls wait for them."""
_SCHEMA = 1


def _read_time(value: Any, read: Callable[[Any], datetime]) -> datetime:
    """Return a time in UTC; one that cannot be read counts as 1970."""
    try:
        return read(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)


def _now() -> datetime:
    return datetime.now(UTC)


class Entry(BaseModel):
    """What is known of one call.

    Args:
        at: When it was written.
        token: Identifies the call that wrote it.
        job: The accepted job; None if the submit has not reported one.
        lost: Whether it is known that no id will be reported.
        again: Whether the call replaces an earlier one once it is accepted.
        stem: What the job's files are named after.
        account: Hash of the key that pays.
        key: The call.
    """

    model_config = ConfigDict(frozen=True)

    at: Annotated[datetime, WrapValidator(_read_time)] = Field(default_factory=_now)
    token: str = ""
    job: Job | None = None
    lost: bool = False
    again: bool = False
    stem: str = ""
    account: str = ""
    key: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether a worker may be waiting for the id."""
        return self.job is None and not self.lost

    @property
    def age(self) -> float:
        """Seconds since it was written; a clock that is ahead wrote it just now."""
        return max(0.0, (_now() - self.at).total_seconds())

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


def _with_claim(record: Record, claim: Entry, replaced: tuple[str, ...] | None) -> Record:
    """Return a record with a claim.

    Raises:
        KnownCallError: Another entry prevents it; it has one whose call is under way, if any.
    """
    # the first attempt may have succeeded before its connection was lost
    if any((entry.token, entry.at) == (claim.token, claim.at) for entry in record):
        return record
    preventing = record
    if claim.again:
        pending = [entry for entry in record if entry.is_pending and not entry.is_abandoned]
        others = [entry for entry in record if entry.token not in (replaced or ())]
        preventing = () if replaced is None else (*pending, *others)
    if preventing:
        raise KnownCallError(preventing[0])
    return (*record, claim)


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
        entry.model_copy(update={"job": job, "lost": False, "stem": stem_of(request.label)})
        if entry.is_about(job, token)
        else entry
        for entry in record
    )


class KnownCallError(TokenHubError):
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

    async def record(self, key: str) -> Record:
        """Return all that is known of a call."""
        return entries_of(await self._do(self._backend.get, key))

    async def records(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return all that is known of some calls."""
        found: dict[str, Record] = {}
        for first in range(0, len(keys), LOOKUP_BATCH_SIZE):
            batch = keys[first : first + LOOKUP_BATCH_SIZE]
            texts = await self._do(lambda batch=batch: [*map(self._backend.get, batch)])
            found |= zip(batch, map(entries_of, texts), strict=True)
        return found

    @asynccontextmanager
    async def hold_claim(
        self, request: JobRequest, send_state: SendState
    ) -> AsyncGenerator[None, None]:
        """Hold a claim during a submit; remove it if nothing was accepted.

        Raises:
            KnownCallError: The call is in the ledger already.
        """
        await self.claim(request)
        try:
            yield
        except SubmissionUnknownError as unknown:
            unknown.ledger_key = request.key
            await self.mark_lost(request)
            raise
        except BaseException as error:
            if isinstance(error, TokenHubError) or not send_state.is_under_way:
                problem_text = "a refused submit stays in the ledger"
                await self._try(problem_text, request.key, self._without_claim)
            raise

    async def claim(self, request: JobRequest) -> None:
        """Record that a submit begins.

        With `again` it is claimed in addition to the record of an earlier call, which stays until
        this one is accepted.

        Raises:
            KnownCallError: Another entry prevents it.
        """
        key, own = request.key, self._entry(request, again=request.again)
        is_interrupted = threading.Event()

        def claim() -> None:
            add = functools.partial(_with_claim, claim=own, replaced=request.replaced)
            change_record(self._backend, key, add)
            if is_interrupted.is_set():  # nobody waits for this thread any more
                change_record(self._backend, key, self._without_claim)

        try:
            await self._do(claim)
        except (CancelledError, KeyboardInterrupt, SystemExit):
            is_interrupted.set()
            with suppress(TokenHubError):
                await self._do(change_record, self._backend, key, self._without_claim)
            raise

    async def keep(self, job: Job, request: JobRequest) -> None:
        """Record the job of a call; a failure only warns, because the job is paid for."""
        files = [file._without_bytes() for file in job.files]  # they may be saved yet
        own = self._entry(request, job=job.model_copy(update={"files": files}))
        await self._record(job, request, functools.partial(_with_outcome, own=own))

    async def update(self, job: Job, request: JobRequest) -> None:
        """Record the current state of a job, if the key's record has its entry."""
        change = functools.partial(_with_job, job=job, token=self._token, request=request)
        await self._record(job, request, change)

    async def forget(self, job: Job, request: JobRequest) -> None:
        """Remove the entry of a job that failed."""
        change = functools.partial(_without, drop=lambda e: e.is_about(job, self._token))
        await self._try("a failed job stays in the ledger", request.key, change)

    async def mark_lost(self, request: JobRequest) -> None:
        """Record that no id will be reported for this call's job."""
        change = functools.partial(_with_outcome, own=self._entry(request, lost=True))
        await self._try("a submit without an answer is not in the ledger", request.key, change)

    async def known_jobs(self) -> list[tuple[Job, JobRequest]]:
        """Return the account's jobs and their requests, the newest first."""
        entries = read_entries(await self._do(lambda: list(self._backend.texts())))
        own = (entry for entry in entries if entry.account in {"", self._account})
        newest_first = sorted(own, key=lambda entry: entry.at, reverse=True)
        return [
            (entry.job, JobRequest(body={}, label=entry.stem, key=entry.key))
            for entry in newest_first
            if entry.job is not None
        ]

    async def source_of(self, link: str) -> str | None:
        """Return the `MediaFile.source` of the file that a link led to, or None."""
        return await self._do(self._backend.get, self._link_key(link))

    async def await_other_worker(self, key: str, entry: Entry, wait: float) -> Job | None:
        """Return the job of an entry, for whose id another worker may still be waiting.

        Args:
            key: The call.
            entry: Its entry, which has no job yet.
            wait: Seconds to wait at most.

        Returns:
            None if the other submit was refused: the key is free again.

        Raises:
            SubmissionUnknownError: No id was reported.
        """
        until = self._runtime.now() + min(OTHER_WORKER - entry.age, wait)
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

    def _entry(self, request: JobRequest, **fields: Any) -> Entry:
        fields |= {"token": self._token, "account": self._account, "key": request.key}
        return Entry(stem=stem_of(request.label), **fields)

    def _without_claim(self, record: Record) -> Record:
        return _without(record, lambda entry: entry.token == self._token and entry.is_pending)

    def _link_key(self, link: str) -> str:
        return f"links/{digest_of([self._account, strip_signature(link)])}"

    async def _record(self, job: Job, request: JobRequest, change: _Change) -> None:
        """Record a job, and the links to its files: a later input may be such a link."""
        files = [one for file in job.files for one in (file, file.preview) if one]
        links = {self._link_key(one.url): one.source for one in files if one.url and one.source}
        await self._try(f"job {job.id} is not in the ledger", request.key, change, links)

    async def _try(
        self, problem_text: str, key: str, change: _Change, links: Links = NO_LINKS
    ) -> None:
        """Change a record, and only warn if that fails."""
        try:
            await self._do(change_record, self._backend, key, change, links)
        except TokenHubError as problem:
            warn_user(f"{problem_text}: {problem.message}")

    async def _do(self, function: Callable[..., T], *args: Any) -> T:
        return await call_backend(self._runtime, self._backend, function, *args)


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
) -> None:
    """Replace a record by what `change` makes of it, and create records of `links` with it."""
    for _ in range(MAX_RETRIES):
        text = backend.get(key)
        before = entries_of(text)
        after = change(before)
        if after == before or backend.replace(key, text, _text(after), links):
            return
    raise TimeoutError(0, "other workers keep changing this entry")


def _text(record: Record) -> str | None:
    if not record:
        return None
    secret: Any = {"job": {"raw_revised_prompt"}}
    entries = [entry.model_dump(mode="json", exclude=secret) for entry in record]
    text = json.dumps({"schema": _SCHEMA, "entries": entries}, ensure_ascii=False)
    # a lone surrogate has no UTF-8; with a backslash it is a JSON escape
    return text.encode(errors="backslashreplace").decode()


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
        return (Entry(),)
    match whole:
        case {"schema": int() as schema} if schema > _SCHEMA:
            raise InvalidRequestError(
                "the ledger's entry of this call was written by a newer version",
                phase="not sent",
                hint="update langchain-tokenhub, or give another `ledger`",
            )
        case {"schema": 1, "entries": [_, *_] as entries}:
            return tuple(map(_entry, entries))
        case _:
            return (Entry(lost=True),)


def _entry(fields: Any) -> Entry:
    try:
        return Entry.model_validate(fields)
    except ValueError:
        return Entry(lost=True)


# --- keys -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def account_hash(key: str) -> str:
    """Return a hash that distinguishes accounts, and from which no API key can be recovered."""
    made = hashlib.pbkdf2_hmac("sha256", key.encode(), b"langchain-tokenhub ledger", 100_000)
    return made.hex()[:32]


def key_of(model: str, sites: Sequence[str], what: Mapping[str, Any], *scope: str) -> str:
    """Return the key of a call.

    Args:
        model: Model id.
        sites: Hosts of the site, as accounts have other jobs on other sites.
        what: The request; the signatures of its links do not count.
        scope: Account, then thread and tool call when inside a graph.
    """
    digest = digest_of([model, list(sites), _without_signatures(what), scope])
    return f"{re.sub(r'[^a-z0-9.-]', '_', model.lower())}-{digest}"


def digest_of(what: Any) -> str:
    """Return a hash of plain values."""
    whole = json.dumps(what, sort_keys=True, default=repr)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:40]


_SIGNATURES = re.compile(
    r"q-(?:sign-algorithm|ak|sign-time|key-time|header-list|url-param-list|signature)"
    r"|x-(?:amz|goog|oss|tos|obs)-(?:algorithm|credential|date|expires|signedheaders|signature"
    r"|signature-version|security-token|additional-headers)|x-cos-security-token"
    r"|signature|sign|expires|policy|key-pair-id|security-token|auth_key|txsecret|txtime"
    r"|(?:aws|oss)?accesskeyid|googleaccessid",
    re.IGNORECASE,
)
"""Query fields with which object stores and CDNs sign a link; the rest names the file."""
_AZURE = re.compile(r"s[vsetpr]|srt|sig|sip|spr|skoid|sktid|sk[tesv]", re.IGNORECASE)
"""The fields of an Azure link, whose query has a `sig`; other links use the names too."""
_LINK = re.compile(r"https?://\S+", re.IGNORECASE)


def strip_signature(link: str) -> str:
    """Return host, path and query of a link, without its signature."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return link
    fields = [field for field in parts.query.split("&") if field]
    names = [field.partition("=")[0] for field in fields]
    signed = [_SIGNATURES, *([_AZURE] if "sig" in map(str.lower, names) else [])]
    kept = [
        field
        for name, field in zip(names, fields, strict=True)
        if not any(pattern.fullmatch(name) for pattern in signed)
    ]
    return f"//{parts.netloc.lower()}{parts.path}{'?' if kept else ''}{'&'.join(kept)}"


def _without_signatures(value: Any) -> Any:
    match value:
        case str() if _LINK.fullmatch(value):
            return strip_signature(value)
        case Mapping():
            return {str(name): _without_signatures(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_without_signatures(inner) for inner in value]
        case _:
            return value
