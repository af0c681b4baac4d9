"""The values: a job, its files, and the result of both. They hold no key and survive JSON."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from typing_extensions import TypedDict

from langchain_tokenhub.errors import InvalidRequestError, JobRef, TokenHubError
from langchain_tokenhub.transport import AsyncRuntime, Runtime, SyncRuntime, finish
from langchain_tokenhub.transport.failover import loopback

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "unknown"]

ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
"""States that a job does not leave."""


class JobFault(TypedDict):
    """Why a job failed, in the service's words."""

    code: str | None
    message: str


def bare(url: str | None) -> str | None:
    """Return `url` without its query: a signature opens the file to whoever reads it."""
    return url and url.partition("?")[0]


class MediaFile(BaseModel):
    """One file of a result: a link that dies, or a path that stays.

    Args:
        url: Where the service keeps it; None when the bytes came inside the answer.
        type: What it is: `png`, `mp4`, `glb`, `obj` …
        preview_url: A picture of a 3D model.
        expires_at: When the links die.
        path: Where it was saved.
        unpacked: Folder of an OBJ that came as a ZIP.
        preview_path: Where the picture of a 3D model was saved; two files may share it.
        source: Which job's file it is, `<job id>#<index>`: its link may change, this does not.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str | None = None
    type: str
    preview_url: str | None = None
    expires_at: datetime | None = None
    path: Path | None = None
    unpacked: Path | None = None
    preview_path: Path | None = None
    source: str | None = None

    _data: bytes | None = PrivateAttr(default=None)
    _allow_loopback: bool = PrivateAttr(default=False)

    @classmethod
    def holding(cls, data: bytes, **fields: Any) -> MediaFile:
        """Return a file whose bytes came inside the answer."""
        made = cls(**fields)
        made._data = data
        return made

    @property
    def held(self) -> bytes | None:
        """The bytes, where they came inside the answer; JSON does not keep them."""
        return self._data

    @property
    def allow_loopback(self) -> bool:
        """Whether the link may lead to loopback, because the API itself is there."""
        return self._allow_loopback

    @property
    def preview(self) -> MediaFile | None:
        """The picture of a 3D model, as a file of its own."""
        path = self.preview_path
        if self.preview_url is None and path is None:
            return None
        made = MediaFile(
            type=path.suffix.lstrip(".") if path else "png",
            url=self.preview_url,
            path=path,
            expires_at=self.expires_at,
            source=self.source and f"{self.source} preview",
        )
        made.place(allow_loopback=self.allow_loopback)
        return made

    def place(self, *, allow_loopback: bool) -> None:
        """Say whether the API is on loopback."""
        self._allow_loopback = allow_loopback

    def of_job(self, job_id: str, index: int) -> MediaFile:
        """Return the same file with its `source`, unless that is known already."""
        return self if self.source else self.model_copy(update={"source": f"{job_id}#{index}"})

    def with_path(self, path: Path | None, *, unpacked: Path | None = None) -> MediaFile:
        """Return the same file, saved."""
        return self.model_copy(update={"path": path, "unpacked": unpacked})

    def without_bytes(self) -> MediaFile:
        """Return the same file, as JSON keeps it."""
        made = MediaFile(**dict(self))
        made.place(allow_loopback=self.allow_loopback)
        return made

    def with_preview(self, path: Path) -> MediaFile:
        """Return the same file, its preview saved."""
        return self.model_copy(update={"preview_path": path})

    def expired(self, now: datetime | None = None) -> bool:
        """Say whether the links are dead."""
        return self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC))

    def read(self) -> bytes:
        """Return the bytes: from the answer, the saved file or the link."""
        return finish(self._read(SyncRuntime()))

    async def aread(self) -> bytes:
        """Return the bytes: from the answer, the saved file or the link."""
        return await self._read(AsyncRuntime())

    def save(self, to: str | Path = ".", *, name: str | None = None) -> MediaFile:
        """Save into the folder `to`, or under the file name `to`; nothing is overwritten.

        Returns:
            The file with its `path`.
        """
        return finish(self._save(SyncRuntime(), to, name))

    async def asave(self, to: str | Path = ".", *, name: str | None = None) -> MediaFile:
        """Save into the folder `to`, or under the file name `to`; nothing is overwritten.

        Returns:
            The file with its `path`.
        """
        return await self._save(AsyncRuntime(), to, name)

    async def _read(self, runtime: Runtime) -> bytes:
        from langchain_tokenhub.jobs.downloads import read

        return await read(runtime, self)

    async def _save(self, runtime: Runtime, to: str | Path, name: str | None) -> MediaFile:
        from langchain_tokenhub.jobs.downloads import save, stem_of
        from langchain_tokenhub.jobs.media_types import TYPES

        target = Path(to)
        named = target.suffix.lstrip(".").lower() in TYPES  # "v1.2" is a folder
        if named and not await runtime.blocking(target.is_dir):
            return await save(runtime, self, target.parent, target.stem)
        return await save(runtime, self, target, stem_of(name or "tokenhub"))

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self._data is not None and self.path is None:
            warn_user("bytes that came inside the answer are not dumped; save() the file first")
        return dict(handler(self))

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        shown = {
            **self.__dict__,
            "source": None,
            "url": bare(self.url),
            "preview_url": bare(self.preview_url),
        }
        return [(name, value) for name, value in shown.items() if value is not None]

    def _repr_html_(self) -> str:
        from langchain_tokenhub.jobs.render import file_html

        return file_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Job(JobRef):
    """What is known of a job. Keep it as JSON, and collect it later in another process.

    Args:
        kind: `image`, `video` or `3d`.
        model: Model id as it was sent.
        id: The service's id: an opaque text. Empty never.
        status: `unknown` for a word that nobody documented: the job is then still waited for.
        host: Name of the host that took it; asked first.
        request_id: The service's id of the submit, for its support.
        submitted_at: By this machine's clock.
        completed_at: By the service's clock, or this machine's.
        progress: Percent, where the service says it.
        error: Why it failed.
        files: What it made.
        raw_revised_prompt: The service's rewriting, with its markup.
    """

    status: Status = "queued"
    request_id: str | None = None
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    progress: int | None = None
    error: JobFault | None = None
    files: list[MediaFile] = Field(default_factory=list)
    raw_revised_prompt: str | None = Field(default=None, repr=False)

    def model_post_init(self, _context: Any) -> None:
        """Let links lead to loopback where the API itself is there, and files know their job."""
        self.files[:] = [file.of_job(self.id, index) for index, file in enumerate(self.files)]
        allow_loopback = loopback((self.host or "").rpartition(":")[0] or (self.host or ""))
        for file in self.files:
            file.place(allow_loopback=allow_loopback)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED

    def age(self, now: datetime) -> float | None:
        """Return the seconds since the submit, if that is known."""
        since = self.submitted_at
        return None if since is None else max(0.0, (now - since).total_seconds())


class MediaResult(BaseModel):
    """What a job made. `str(result)` is the short text that a language model sees.

    Args:
        job: The job.
        files: What it made, with paths where it was saved.
        revised_prompt: The service's rewriting of the prompt, without markup.
        raw_revised_prompt: The same as it came.
        seconds: From submit to completion.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: Job
    files: list[MediaFile]
    revised_prompt: str | None = Field(default=None, repr=False)
    raw_revised_prompt: str | None = Field(default=None, repr=False)
    seconds: float | None = None

    def model_post_init(self, _context: Any) -> None:
        """Give the files what the job knows."""
        files = [file.of_job(self.job.id, index) for index, file in enumerate(self.files)]
        self.files[:] = files
        allow_loopback = any(file.allow_loopback for file in self.job.files)
        for file in self.files:
            file.place(allow_loopback=file.allow_loopback or allow_loopback)

    def __str__(self) -> str:
        from langchain_tokenhub.jobs.render import result_text

        return result_text(self)

    def _repr_html_(self) -> str:
        from langchain_tokenhub.jobs.render import result_html

        return result_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def id_of(job: object) -> str:
    """Return the id that a job has, or is."""
    match job:
        case Job():
            return job.id
        case str() | int() if not isinstance(job, bool) and (job_id := str(job).strip()):
            return job_id
        case str():
            what = "it is empty"
        case _:
            what = f"{type(job).__name__} is neither a Job nor a job's id"
    raise InvalidRequestError(f"job_id: {what}", phase="not sent", hint="nothing was sent")


def warn_user(text: str) -> None:
    """Warn, and never raise: a filter that makes warnings errors must not cost a paid result."""
    import logging

    try:
        warnings.warn(text, UserWarning, stacklevel=3)
    except UserWarning:
        logging.getLogger("langchain_tokenhub.jobs").warning("%s", text)


_PLAIN = 2000
"""Characters of a parameter that are written down; longer ones are files."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is wanted.

    Args:
        body: The parameters as they are sent.
        title: What a saved file is called after.
        key: The call's key in the ledger.
        problem: Why it cannot be sent, although an earlier call's job may be resumed.
    """

    body: Mapping[str, Any]
    title: str = ""
    key: str = ""
    problem: TokenHubError | None = None

    def as_record(self) -> dict[str, Any]:
        """Return what is written down: the files inside the parameters are not."""
        return {"title": self.title, "parameters": _short(self.body)}


def request_from_record(as_record: Any, key: str = "") -> JobRequest | None:
    """Return the order that was written down, where there is one."""
    match as_record:
        case {"title": str() as title, "parameters": dict() as parameters}:
            return JobRequest(body=parameters, title=title, key=key)
        case _:
            return None


def _short(value: Any) -> Any:
    """Return parameters without the files inside them."""
    match value:
        case Mapping():
            return {name: _short(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_short(inner) for inner in value]
        case str() if len(value) > _PLAIN and " " not in value[:200]:
            return f"({len(value)} characters of base64)"
        case _:
            return value
