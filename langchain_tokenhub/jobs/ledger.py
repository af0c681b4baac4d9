"""The ledger: what was submitted, so that a call can be repeated without paying twice.

An entry is written before a submit, completed with the job's id right after, and kept. Whoever
makes the same call again finds it: an entry with a job is resumed, one without means that a submit
may have been charged, and that is told instead of trying again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from langchain_core.stores import BaseStore
from pydantic import ValidationError

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError, SubmissionUnknownError, TokenHubError
from langchain_tokenhub.jobs.models import Job, JobRequest, request_from_record
from langchain_tokenhub.jobs.service import SubmitHooks
from langchain_tokenhub.transport import Runtime

T = TypeVar("T")

OTHER_WORKER = 30.0
"""Seconds to wait for the id of a submit that another worker may be sending right now."""
_NAMESPACE = "tokenhub"
_SCHEMA = 1


class LedgerBackend(Protocol):
    """Where entries lie. Its methods may block."""

    def claim(self, key: str, text: str) -> str | None:
        """Write `text` if there is no entry; else return what is there."""

    def put(self, key: str, text: str) -> None:
        """Write, in place of what is there."""

    def get(self, key: str) -> str | None:
        """Return what is there."""

    def drop(self, key: str) -> None:
        """Forget the entry."""

    def texts(self) -> Iterable[str]:
        """Yield every entry."""
        ...


class FolderBackend:
    """Entries as files; claims are atomic on local disks and current NFS."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.json"

    def claim(self, key: str, text: str) -> str | None:  # noqa: D102
        self._path.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(self._file(key), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return self.get(key) or ""
        with _whole(self._file(key)):  # a claim that could not be written says nothing was sent
            _write(handle, text)
        return None

    def put(self, key: str, text: str) -> None:  # noqa: D102
        self._path.mkdir(parents=True, exist_ok=True)
        part = self._path / f"{key}.part-{secrets.token_hex(4)}"
        with _whole(part):
            _write(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), text)
            part.replace(self._file(key))

    def get(self, key: str) -> str | None:  # noqa: D102
        with suppress(FileNotFoundError):
            return _read(self._file(key))
        return None

    def drop(self, key: str) -> None:  # noqa: D102
        self._file(key).unlink(missing_ok=True)

    def texts(self) -> Iterator[str]:  # noqa: D102
        for file in self._path.glob("*.json"):
            with suppress(OSError):
                yield _read(file)


class StoreBackend:
    """Entries in a store of LangChain's, which cannot claim atomically.

    Two workers that start the same call at the same moment may both submit.
    """

    def __init__(self, store: BaseStore[str, Any]) -> None:
        self._store = store

    def claim(self, key: str, text: str) -> str | None:  # noqa: D102
        found = self.get(key)
        if found is None:
            self.put(key, text)
        return found

    def put(self, key: str, text: str) -> None:  # noqa: D102
        self._store.mset([(f"{_NAMESPACE}/{key}", text.encode(errors=_HALF))])

    def get(self, key: str) -> str | None:  # noqa: D102
        found = self._store.mget([f"{_NAMESPACE}/{key}"])[0]
        return found.decode() if isinstance(found, bytes) else found

    def drop(self, key: str) -> None:  # noqa: D102
        self._store.mdelete([f"{_NAMESPACE}/{key}"])

    def texts(self) -> Iterator[str]:  # noqa: D102
        keys = list(self._store.yield_keys(prefix=_NAMESPACE))
        for found in self._store.mget(keys):
            if found is not None:
                yield found.decode() if isinstance(found, bytes) else found


_HALF = "backslashreplace"
"""Half an emoji has no UTF-8; with a backslash it is what JSON has for it."""


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Leave no file that was not written to its end."""
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _read(file: Path) -> str:
    return file.read_text("utf-8", errors="replace")  # what is broken is no JSON either way


def _write(handle: int, text: str) -> None:
    with os.fdopen(handle, "w", encoding="utf-8", errors=_HALF) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a call: without a job, a submit was begun and never ended.

    Args:
        job: What was accepted.
        at: When it was written.
        lost: Whether it is known that the job's id will never come.
        order: What was asked for.
    """

    job: Job | None
    at: datetime
    lost: bool = False
    request: JobRequest | None = None

    @property
    def pending(self) -> bool:
        """Whether a worker may be waiting for the id."""
        return self.job is None and not self.lost


class _Claim:
    """A claim; who is interrupted while a thread still writes it leaves nothing behind."""

    def __init__(self, keeper: LedgerBackend, key: str, *, again: bool) -> None:
        self._backend = keeper
        self._key = key
        self._again = again
        self._mine = False
        self._left = False
        self._lock = threading.Lock()

    def take(self, text: str) -> str | None:
        """Write `text` if there is no entry; else return what is there."""
        if self._again:
            self._backend.drop(self._key)
        found = self._backend.claim(self._key, text)
        with self._lock:
            self._mine = found is None
            nobody_waits = self._mine and self._left
        if nobody_waits:
            self._backend.drop(self._key)
        return found

    def leave(self) -> None:
        """Take the entry back, now or when it is written: nothing was sent."""
        with self._lock:
            self._left, mine = True, self._mine
        if mine:
            with suppress(Exception):  # a store may raise what it likes; the interruption goes on
                self._backend.drop(self._key)


class TakenError(Exception):
    """The call is in the ledger already."""

    def __init__(self, entry: Entry) -> None:
        super().__init__("the call is in the ledger")
        self.entry = entry


class Ledger:
    """Reads and writes entries over a wire."""

    def __init__(self, keeper: LedgerBackend, runtime: Runtime) -> None:
        self._backend = keeper
        self._runtime = runtime

    async def look(self, key: str) -> Entry | None:
        """Return the entry of a call."""
        found = await self._do(self._backend.get, key)
        return None if found is None else _entry(found)

    async def claim(
        self, key: str, request: JobRequest | None = None, *, again: bool = False
    ) -> Entry | None:
        """Write that a submit begins; return the entry that was there already.

        Args:
            key: The call.
            request: What is asked for.
            again: Whether the entry of an earlier call gives way.
        """
        claim = _Claim(self._backend, key, again=again)
        try:
            found = await self._do(claim.take, _text(key, None, request))
        except BaseException:
            claim.leave()
            raise
        return None if found is None else _entry(found)

    async def keep(self, key: str, job: Job, request: JobRequest | None = None) -> None:
        """Write down the job of a call; it is paid for, so a full disk must not lose it."""
        files = [file._without_bytes() for file in job.files]  # they may be saved yet
        text = _text(key, job.model_copy(update={"files": files}), request)
        await self._try(f"job {job.id} is not in the ledger", self._backend.put, key, text)

    async def update(self, key: str, job: Job, request: JobRequest) -> None:
        """Write down how the job of a call stands now, unless the call has another one."""
        await self._try(
            f"job {job.id} is not in the ledger",
            self._if_about,
            job,
            key,
            self._backend.put,
            _text(key, job, request),
        )

    async def forget(self, key: str, job: Job) -> None:
        """Forget a call whose job failed, unless the call has another one."""
        await self._try(
            "a failed job stays in the ledger", self._if_about, job, key, self._backend.drop
        )

    def _if_about(self, job: Job, key: str, verb: Callable[..., object], *args: Any) -> None:
        found = self._backend.get(key)
        known = None if found is None else _entry(found)
        if known and (known.job is None or known.job.id == job.id):
            verb(key, *args)

    async def lose(self, key: str, request: JobRequest | None = None) -> None:
        """Write down that the id of a call will never come."""
        text = _text(key, None, request, "unknown")
        await self._try("a lost submit is not in the ledger", self._backend.put, key, text)

    async def refuse(self, key: str) -> None:
        """Forget a call that was not accepted; the reason why not is the error to see."""
        await self._try("a refused submit stays in the ledger", self._backend.drop, key)

    async def known(self) -> list[tuple[Job, JobRequest | None]]:
        """Return all jobs and what was asked for, the newest first."""
        entries = await self._do(lambda: list(self._entries()))
        entries.sort(key=lambda entry: entry.at, reverse=True)
        return [(entry.job, entry.request) for entry in entries if entry.job is not None]

    def _entries(self) -> Iterator[Entry]:
        for text in self._backend.texts():
            with suppress(InvalidRequestError):  # a newer version's
                yield _entry(text)

    async def await_other_worker(self, key: str, entry: Entry | None) -> Job | None:
        """Return the job of an entry, for whose id another worker may still be waiting.

        Returns:
            None where the other worker was refused: the call is free again.

        Raises:
            SubmissionUnknownError: There is no id, and none comes.
        """
        until = self._runtime.now() + max(0.0, OTHER_WORKER - _age(entry))
        while entry and entry.pending and self._runtime.now() < until:
            await self._runtime.sleep(0.5)
            entry = await self.look(key)
        if entry is None or entry.job is not None:
            return entry.job if entry else None
        unknown = SubmissionUnknownError(
            "an earlier submit of this call never reported its job; it may have been charged",
            phase="sent",
            hint="look at the console's usage; generate(..., again=True) submits and pays anew",
        )
        unknown.ledger_key = key
        raise unknown

    async def _try(self, trouble: str, verb: Callable[..., object], *args: Any) -> None:
        """Write, and only warn where that fails."""
        try:
            await self._do(verb, *args)
        except TokenHubError as problem:
            warn_user(f"{trouble}: {problem.message}")

    async def _do(self, verb: Callable[..., T], *args: Any) -> T:
        try:
            return await self._runtime.blocking(functools.partial(verb, *args))
        except Exception as problem:  # noqa: BLE001 - a store of the user's raises what it likes
            reason = getattr(problem, "strerror", None) or type(problem).__name__
        raise InvalidRequestError(
            f"the ledger cannot be used: {reason}",
            phase="not sent",
            hint="mend the folder or store given as `ledger`",
        )


class LedgerHooks(SubmitHooks):
    """A log that writes one call into a ledger.

    Args:
        ledger: Where.
        order: The call.
        again: Whether an earlier call's entry gives way when the submit begins.
    """

    def __init__(self, ledger: Ledger, request: JobRequest, *, again: bool = False) -> None:
        self.key = request.key
        self._ledger = ledger
        self._request = request
        self._again = again

    async def begin(self) -> None:  # noqa: D102
        again, self._again = self._again, False  # what is found later is another worker's
        if entry := await self._ledger.claim(self._request.key, self._request, again=again):
            raise TakenError(entry)

    async def accepted(self, job: Job) -> None:  # noqa: D102
        await self._ledger.keep(self._request.key, job, self._request)

    async def lost(self) -> None:  # noqa: D102
        await self._ledger.lose(self._request.key, self._request)

    async def refused(self) -> None:  # noqa: D102
        await self._ledger.refuse(self._request.key)


def backend_for(place: str | Path | BaseStore[str, Any]) -> LedgerBackend:
    """Return what keeps entries in a folder or a store."""
    return (
        StoreBackend(place)
        if isinstance(place, BaseStore)
        else FolderBackend(Path(place).expanduser())
    )


def key_of(model: str, sites: Sequence[str], what: Mapping[str, Any], *scope: str) -> str:
    """Return the key of a call.

    Args:
        model: Model id.
        sites: Hosts: an account has other jobs elsewhere.
        what: The request.
        scope: Thread and tool call, when inside a graph.
    """
    whole = json.dumps([model, list(sites), what, scope], sort_keys=True, default=repr)
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"{re.sub(r'[^a-z0-9.-]', '_', model.lower())}-{digest}"


def _text(
    key: str, job: Job | None, request: JobRequest | None, without: str = "submitting"
) -> str:
    whole = {
        "schema": _SCHEMA,
        "key": key,
        "state": "submitted" if job else without,
        "at": datetime.now(UTC).isoformat(),
        "job": job.model_dump(mode="json") if job else None,
        "asked": request.as_record() if request else None,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1, default=str)


def _entry(text: str) -> Entry:
    """Return what `text` says; one that is cut off is being written, or its writer died.

    Raises:
        InvalidRequestError: It is not this version's to understand.
    """
    try:
        whole = json.loads(text)
        if whole["schema"] == _SCHEMA:
            job = Job.model_validate(whole["job"]) if whole["job"] else None
            at = datetime.fromisoformat(whole["at"]).astimezone(UTC)
            lost = whole["state"] == "unknown"
            request = request_from_record(whole.get("asked"), str(whole.get("key") or ""))
            return Entry(job, at, lost=lost, request=request)
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        return Entry(None, datetime.now(UTC))
    raise InvalidRequestError(
        "the ledger's entry of this call was written by a newer version",
        phase="not sent",
        hint="update langchain-tokenhub, or give another folder or store as `ledger`",
    )


def _age(entry: Entry | None) -> float:
    """Return the seconds since an entry was written; a clock that is ahead wrote it just now."""
    return max(0.0, (datetime.now(UTC) - entry.at).total_seconds()) if entry else OTHER_WORKER
