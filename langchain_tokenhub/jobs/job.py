"""The values: a job, its files, and the result of both. They hold no key and survive JSON."""

from __future__ import annotations

import warnings
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

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.transport import AsyncWire, SyncWire, Wire, finish
from langchain_tokenhub.transport.hosts import loopback

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
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str | None = None
    type: str
    preview_url: str | None = None
    expires_at: datetime | None = None
    path: Path | None = None
    unpacked: Path | None = None
    preview_path: Path | None = None

    _data: bytes | None = PrivateAttr(default=None)
    _at_home: bool = PrivateAttr(default=False)

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
    def at_home(self) -> bool:
        """Whether the link may lead to loopback, because the API itself is there."""
        return self._at_home

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
        )
        made.place(at_home=self.at_home)
        return made

    def place(self, *, at_home: bool) -> None:
        """Say whether the API is on loopback."""
        self._at_home = at_home

    def with_path(self, path: Path | None, *, unpacked: Path | None = None) -> MediaFile:
        """Return the same file, saved."""
        return self.model_copy(update={"path": path, "unpacked": unpacked})

    def without_bytes(self) -> MediaFile:
        """Return the same file, as JSON keeps it."""
        made = MediaFile(**dict(self))
        made.place(at_home=self.at_home)
        return made

    def with_preview(self, path: Path) -> MediaFile:
        """Return the same file, its preview saved."""
        return self.model_copy(update={"preview_path": path})

    def expired(self, now: datetime | None = None) -> bool:
        """Say whether the links are dead."""
        return self.expires_at is not None and self.expires_at <= (now or datetime.now(UTC))

    def read(self) -> bytes:
        """Return the bytes: from the answer, the saved file or the link."""
        return finish(self._read(SyncWire()))

    async def aread(self) -> bytes:
        """Return the bytes: from the answer, the saved file or the link."""
        return await self._read(AsyncWire())

    def save(self, to: str | Path = ".", *, name: str | None = None) -> MediaFile:
        """Save into the folder `to`, or under the file name `to`; nothing is overwritten.

        Returns:
            The file with its `path`.
        """
        return finish(self._save(SyncWire(), to, name))

    async def asave(self, to: str | Path = ".", *, name: str | None = None) -> MediaFile:
        """Save into the folder `to`, or under the file name `to`; nothing is overwritten.

        Returns:
            The file with its `path`.
        """
        return await self._save(AsyncWire(), to, name)

    async def _read(self, wire: Wire) -> bytes:
        from langchain_tokenhub.jobs.files import read

        return await read(wire, self)

    async def _save(self, wire: Wire, to: str | Path, name: str | None) -> MediaFile:
        from langchain_tokenhub.jobs.files import save, stem_of
        from langchain_tokenhub.jobs.sniff import TYPES

        target = Path(to)
        named = target.suffix.lstrip(".").lower() in TYPES  # "v1.2" is a folder
        if named and not await wire.blocking(target.is_dir):
            return await save(wire, self, target.parent, target.stem)
        return await save(wire, self, target, stem_of(name or "tokenhub"))

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self._data is not None and self.path is None:
            caution("bytes that came inside the answer are not dumped; save() the file first")
        return dict(handler(self))

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        shown = {**self.__dict__, "url": bare(self.url), "preview_url": bare(self.preview_url)}
        return [(name, value) for name, value in shown.items() if value is not None]

    def _repr_html_(self) -> str:
        from langchain_tokenhub.jobs.show import file_html

        return file_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Job(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    kind: Kind
    model: str
    id: str = Field(min_length=1)
    status: Status = "queued"
    host: str | None = None
    request_id: str | None = None
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    progress: int | None = None
    error: JobFault | None = None
    files: list[MediaFile] = Field(default_factory=list)
    raw_revised_prompt: str | None = Field(default=None, repr=False)

    def model_post_init(self, _context: Any) -> None:
        """Let links lead to loopback where the API itself is there."""
        at_home = loopback((self.host or "").rpartition(":")[0] or (self.host or ""))
        for file in self.files:
            file.place(at_home=at_home)

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
        at_home = any(file.at_home for file in self.job.files)
        for file in self.files:
            file.place(at_home=file.at_home or at_home)

    def __str__(self) -> str:
        from langchain_tokenhub.jobs.show import result_text

        return result_text(self)

    def _repr_html_(self) -> str:
        from langchain_tokenhub.jobs.show import result_html

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


def caution(text: str) -> None:
    """Warn, and never raise: a filter that makes warnings errors must not cost a paid result."""
    import logging

    try:
        warnings.warn(text, UserWarning, stacklevel=3)
    except UserWarning:
        logging.getLogger("langchain_tokenhub.jobs").warning("%s", text)
