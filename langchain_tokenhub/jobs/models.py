"""Job, MediaFile and MediaResult: values without keys that survive JSON."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from typing_extensions import TypedDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError, JobRef, TokenHubError
from langchain_tokenhub.jobs import downloads, render
from langchain_tokenhub.jobs.files import TYPES, stem_of
from langchain_tokenhub.params import strip_query
from langchain_tokenhub.transport import AsyncRuntime, Runtime, SyncRuntime, run_sync
from langchain_tokenhub.transport.failover import is_loopback_host

Time = Annotated[datetime, AfterValidator(lambda t: t if t.tzinfo else t.replace(tzinfo=UTC))]
"""A time with a zone, UTC if none is given: times without a zone cannot be compared with it."""
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "unknown"]

ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
"""Final states."""


class JobFault(TypedDict):
    """Why a job failed, in the service's words."""

    code: str | None
    message: str


class MediaFile(BaseModel):
    """One file of a result: a link that expires, or a saved path.

    Args:
        url: The service's link; None when the bytes came inside the answer.
        type: File type: `png`, `mp4`, `glb`, `obj` …
        preview_url: Link to a preview image of a 3D model.
        expires_at: When the links expire.
        path: Where the file was saved.
        unpacked: Folder of an OBJ that came as a ZIP.
        preview_path: Where the preview image was saved; two files may share it.
        source: Identifies the file as `<job id>#<index>`; unlike a link it does not change.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str | None = None
    type: str
    preview_url: str | None = None
    expires_at: Time | None = None
    path: Path | None = None
    unpacked: Path | None = None
    preview_path: Path | None = None
    source: str | None = None

    _data: bytes | None = PrivateAttr(default=None)
    _allow_loopback: bool = PrivateAttr(default=False)
    _job: JobRef | None = PrivateAttr(default=None)

    @classmethod
    def _from_bytes(cls, data: bytes, **fields: Any) -> Self:
        """Return a file whose bytes came inside the answer."""
        file = cls(**fields)
        file._data = data
        return file

    def _of_job(self, job: JobRef, index: int) -> MediaFile:
        """Return the same file as number `index` of a job, unless its job is known already.

        The job's host decides whether links may lead to loopback.
        """
        file = self if self.source else self.model_copy(update={"source": f"{job.id}#{index}"})
        file._job = file._job or JobRef(kind=job.kind, model=job.model, id=job.id, host=job.host)
        host = job.host or ""
        file._allow_loopback |= is_loopback_host(host.rpartition(":")[0] or host)
        return file

    def _without_bytes(self) -> MediaFile:
        """Return the same file without the bytes, which JSON does not hold."""
        file = self.model_copy()
        file._data = None
        return file

    def _source(self) -> downloads.Source:
        return downloads.Source(
            url=self.url,
            data=self._data,
            path=self.path,
            type=self.type,
            job=self._job,
            allow_loopback=self._allow_loopback,
        )

    @property
    def preview(self) -> MediaFile | None:
        """The preview image of a 3D model as a file of its own."""
        path = self.preview_path
        if self.preview_url is None and path is None:
            return None
        preview = MediaFile(
            type=path.suffix.lstrip(".") if path else "png",
            url=self.preview_url,
            path=path,
            expires_at=self.expires_at,
            source=self.source and f"{self.source} preview",
        )
        preview._job, preview._allow_loopback = self._job, self._allow_loopback
        return preview

    def expired(self, now: datetime | None = None) -> bool:
        """Return True if the links have expired, or the file host has refused the link."""
        if self.url is not None and downloads.is_known_expired(self.url):
            return True
        return self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC))

    def read(self) -> bytes:
        """Return the bytes: from the answer, the saved file or the link.

        Raises:
            ResultExpiredError: The link has expired; `tool.result(job)` returns a fresh one.
        """
        return run_sync(self._read(SyncRuntime()))

    async def aread(self) -> bytes:
        """As `read`."""
        return await self._read(AsyncRuntime())

    def save(self, to: str | Path = ".", *, name: str | None = None) -> MediaFile:
        """Save the file; an existing file is never overwritten.

        Args:
            to: Folder, or file name with a suffix.
            name: File name without suffix, inside a folder.

        Returns:
            The file with its `path`.

        Raises:
            ResultExpiredError: The link has expired; `tool.result(job)` returns a fresh one.
        """
        return run_sync(self._save(SyncRuntime(), to, name))

    async def asave(self, to: str | Path = ".", *, name: str | None = None) -> MediaFile:
        """As `save`."""
        return await self._save(AsyncRuntime(), to, name)

    async def _read(self, runtime: Runtime) -> bytes:
        return await downloads.read(runtime, self._source())

    async def _save(self, runtime: Runtime, to: str | Path, name: str | None) -> MediaFile:
        target = Path(to)
        is_file_name = target.suffix.lstrip(".").lower() in TYPES  # "v1.2" is a folder
        if is_file_name and not await runtime.blocking(target.is_dir):
            return await self._save_as(runtime, target.parent, target.stem)
        return await self._save_as(runtime, target, stem_of(name or "tokenhub"))

    async def _save_as(self, runtime: Runtime, folder: Path, stem: str) -> MediaFile:
        path, unpacked = await downloads.save(runtime, self._source(), folder, stem)
        return self.model_copy(update={"path": path, "unpacked": unpacked})

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self._data is not None and self.path is None:
            warn_user("bytes that came inside the answer are not dumped; save() the file first")
        return dict(handler(self))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in self.__dict__.items():
            if value is not None and name != "source":  # a link's query gives access to the file
                yield name, strip_query(value) if isinstance(value, str) else value

    def _text(self) -> str:
        """Return where the file is, for a language model."""
        saved = f" saved: {self.path}" if self.path else ""
        unpacked = f" unpacked: {self.unpacked}" if self.unpacked else ""
        link = f" url: {self.url}" if self.url and not saved else ""
        expires = ""
        if link and self.expires_at:
            expires = f" (link expires {self.expires_at.astimezone().isoformat(' ', 'minutes')})"
        lost = "" if saved or link else " (not kept: set save_to)"
        return f"{self.type}{saved}{unpacked}{link}{expires}{lost}"

    def _repr_html_(self) -> str:
        preview = self.preview._shown() if self.preview else None
        return render.file_html(self._shown(), preview)

    def _shown(self) -> downloads.Source:
        return replace(self._source(), url=None) if self.expired() else self._source()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Job(JobRef):
    """The known state of a job. Store it as JSON, and collect it later in another process.

    Args:
        kind: `image`, `video` or `3d`.
        model: Model id as sent.
        id: The service's id: an opaque string, never empty.
        status: `unknown` for an undocumented word; such a job is still polled.
        host: Name of the host that accepted the job; queries go to it first.
        request_id: The service's id of the submit, for its support.
        submitted_at: Time of the submit, by this machine's clock.
        completed_at: Time of the end, by this machine's clock if the submit's time is known, else
            by the service's.
        progress: Percent, if the service gives it.
        error: Why the job failed.
        files: The result.
        raw_revised_prompt: The service's rewriting of the prompt, with its markup.
        service_status: The service's own word for the status.
        created_at: Time of the submit by the service's clock.
    """

    status: Status = "queued"
    request_id: str | None = None
    submitted_at: Time | None = None
    completed_at: Time | None = None
    progress: int | None = None
    error: JobFault | None = None
    files: list[MediaFile] = Field(default_factory=list)
    raw_revised_prompt: str | None = Field(default=None, repr=False)
    service_status: str | None = None
    created_at: Time | None = None

    def model_post_init(self, _context: Any) -> None:
        """Record the job in its files."""
        self.files[:] = [file._of_job(self, index) for index, file in enumerate(self.files)]

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.status in ENDED

    @property
    def seconds(self) -> float | None:
        """Seconds from submit to completion, if both are known by one clock."""
        if self.completed_at is None or self.submitted_at is None:
            return None
        seconds = round((self.completed_at - self.submitted_at).total_seconds(), 3)
        return seconds if seconds >= 0 else None

    def age(self, now: datetime) -> float | None:
        """Return the seconds since the submit, if its time is known."""
        since = self.submitted_at
        return None if since is None else max(0.0, (now - since).total_seconds())


class MediaResult(BaseModel):
    """The result of a job. `str(result)` is the short text that a language model reads.

    Args:
        job: The job.
        files: Its files, with paths if they were saved.
        revised_prompt: The service's rewriting of the prompt, without markup.
        raw_revised_prompt: The rewriting with its markup.
        seconds: Seconds from submit to completion.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: Job
    files: list[MediaFile]
    revised_prompt: str | None = Field(default=None, repr=False)
    raw_revised_prompt: str | None = Field(default=None, repr=False)
    seconds: float | None = None

    def model_post_init(self, _context: Any) -> None:
        """Record the job in the files."""
        self.files[:] = [file._of_job(self.job, index) for index, file in enumerate(self.files)]

    def __str__(self) -> str:
        """Return one line that begins with the job's id, because models misquote long links."""
        job, took = self.job, f" in {self.seconds:.0f} s" if self.seconds is not None else ""
        files = "; ".join(file._text() for file in self.files) or "no file"
        return f"job {job.id} ({job.model}) {job.status}{took}: {files}"

    def _repr_html_(self) -> str:
        files = "".join(f"<div>{file._repr_html_()}</div>" for file in self.files)
        return f"{files}<small>{html.escape(f'{self.job.model}/{self.job.id}')}</small>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def id_of(job: object) -> str:
    """Return the id of a job, or the id itself."""
    match job:
        case JobRef():
            return job.id
        case str() | int() if not isinstance(job, bool) and (job_id := str(job).strip()):
            return job_id
        case str():
            what = "it is empty"
        case _:
            what = f"{type(job).__name__} is neither a Job nor a job ID"
    raise InvalidRequestError(f"job_id: {what}", phase="not sent", hint="nothing was sent")


MAX_RECORDED = 2000
"""Maximum characters of a recorded parameter; longer ones are files."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A job to submit.

    Args:
        body: The parameters as sent.
        label: The text that its files are named after.
        key: The call's key in the ledger.
        again: Whether to submit although the ledger has a job for the same call.
        replaced: Tokens of the only ledger entries beside which it is submitted again; None is
            any entries.
        is_looked_up: Whether the caller knows that it is to be submitted; the claim may still find
            that another worker has submitted it.
        problem: Why it cannot be sent; the job of an earlier call may still be resumed.
    """

    body: Mapping[str, Any]
    label: str = ""
    key: str = ""
    again: bool = False
    replaced: tuple[str, ...] | None = None
    is_looked_up: bool = False
    problem: TokenHubError | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the request as it is recorded: without the files in the parameters."""
        return {"title": self.label, "parameters": _without_base64(self.body)}


def request_from_record(record: Any, key: str = "") -> JobRequest | None:
    """Return a recorded request, if there is one."""
    match record:
        case {"title": str() as label, "parameters": dict() as parameters}:
            return JobRequest(body=parameters, label=label, key=key)
        case _:
            return None


def _without_base64(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _without_base64(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_without_base64(inner) for inner in value]
        case str() if len(value) > MAX_RECORDED and " " not in value[:200]:
            return f"({len(value)} characters of base64)"
        case _:
            return value
