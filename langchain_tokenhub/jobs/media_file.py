"""A file of a result: shown, read, downloaded and saved.

It is saved complete or not at all, and an interrupted download is continued. Disk access goes
through the runtime's `blocking`, so that a slow disk blocks no event loop.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import (
    RETRYABLE,
    APIConnectionError,
    InvalidRequestError,
    JobRef,
    ResultExpiredError,
    TokenHubError,
)
from langchain_tokenhub.jobs import files, render
from langchain_tokenhub.params import strip_query
from langchain_tokenhub.transport import AsyncRuntime, Runtime, SyncRuntime, run_sync
from langchain_tokenhub.transport.calls import is_loopback_host
from langchain_tokenhub.transport.download import RemoteFile, fetch

MAX_BYTES = 2 * 1024**3
"""Bytes of one file."""
CHUNK = 1024 * 1024
"""Bytes buffered before they are written."""
MAX_STALLED_TRIES = 5
"""Consecutive attempts without any further byte."""
MAX_TRIES = 50
"""Attempts in total."""
PAUSE = 0.5
"""Seconds before the second attempt; each further pause is this much longer."""
_RECOGNISABLE = files.IMAGES | files.VIDEOS | {"glb"}
"""Types that the first bytes always show."""
_ZIPPED = frozenset({"zip", "usdz"})
"""Types whose first bytes are those of a ZIP."""
Time = Annotated[datetime, AfterValidator(lambda t: t if t.tzinfo else t.replace(tzinfo=UTC))]
"""A time with a zone, UTC if none is given: times without a zone cannot be compared with it."""
_expired_links: set[int] = set()
"""Hashes of links that a file host has refused in this process, whatever their expiry time."""
_MAX_EXPIRED_LINKS = 100_000


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
    _job: JobRef | None = PrivateAttr(default=None)

    @classmethod
    def _from_bytes(cls, data: bytes | None, **fields: Any) -> Self:
        """Return a file with the bytes that came inside the answer, if any did."""
        file = cls(**fields)
        file._data = data
        return file

    def _of_job(self, job: JobRef, index: int) -> MediaFile:
        """Return the same file as number `index` of a job, unless its job is known already."""
        file = self if self.source else self.model_copy(update={"source": f"{job.id}#{index}"})
        file._job = file._job or JobRef(kind=job.kind, model=job.model, id=job.id, host=job.host)
        return file

    def _without_bytes(self) -> MediaFile:
        """Return the same file without the bytes, which JSON does not hold."""
        file = self.model_copy()
        file._data = None
        return file

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
        preview._job = self._job
        return preview

    def expired(self) -> bool:
        """Return True if the links have expired, or the file host has refused the link."""
        if hash(self.url) in _expired_links:
            return True
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)

    def read(self) -> bytes:
        """Return the bytes: from the answer, the saved file or the link.

        Raises:
            ResultExpiredError: The link has expired; `tool.result(job)` returns a fresh one.
        """
        return run_sync(self._read(SyncRuntime()))

    async def aread(self) -> bytes:
        """As `read`."""
        return await self._read(AsyncRuntime())

    def save(self, to: str | Path = ".") -> MediaFile:
        """Save the file; an existing file is never overwritten.

        Args:
            to: Folder, or file name with a suffix.

        Returns:
            The file with its `path`.

        Raises:
            ResultExpiredError: The link has expired; `tool.result(job)` returns a fresh one.
        """
        return run_sync(self._save(SyncRuntime(), Path(to)))

    async def asave(self, to: str | Path = ".") -> MediaFile:
        """As `save`."""
        return await self._save(AsyncRuntime(), Path(to))

    async def _read(self, runtime: Runtime) -> bytes:
        if (data := await self._local_bytes(runtime)) is not None:
            return data
        buffer = io.BytesIO()
        await _Download(runtime, self, buffer).run()
        return buffer.getvalue()

    async def _local_bytes(self, runtime: Runtime) -> bytes | None:
        """Return the bytes from the answer or the saved file, if there are any."""
        path = self.path if self._data is None else None
        if path is not None and await runtime.blocking(path.is_file):
            return await runtime.blocking(path.read_bytes)
        return self._data

    async def _save(self, runtime: Runtime, to: Path) -> MediaFile:
        is_file_name = to.suffix.lstrip(".").lower() in files.TYPES  # "v1.2" is a folder
        if is_file_name and not await runtime.blocking(to.is_dir):
            return await self._save_as(runtime, to.parent, to.stem)
        return await self._save_as(runtime, to, "tokenhub")

    async def _save_as(self, runtime: Runtime, folder: Path, stem: str) -> MediaFile:
        """Save the file in `folder` as `stem` and its suffix.

        A number is added to a name that exists. An OBJ that is a ZIP is also unpacked next to it.
        """
        part = await runtime.blocking(files.create_part, folder, stem)
        try:
            suffix = _suffix(self.type, files.file_type_of(await self._write(runtime, part)))
            path = await runtime.blocking(files.move_to_free_name, part, suffix)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        is_zipped = path.suffix == ".zip" and self.type != "zip"
        unpacked = await _unpack(runtime, path) if is_zipped else None
        return self.model_copy(update={"path": path, "unpacked": unpacked})

    async def _write(self, runtime: Runtime, part: Path) -> bytes:
        """Write the bytes into `part` and return the first of them."""
        with await runtime.blocking(lambda: part.open("r+b")) as opened:
            download = _Download(runtime, self, opened)
            if (data := await self._local_bytes(runtime)) is not None:
                await runtime.blocking(download.write, data)
            else:
                await download.run()
            await runtime.blocking(_flush, opened)
        return download.head

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
        where = " (not kept: set save_to)"
        if self.path:
            where = f" saved: {self.path}"
            where += f" unpacked: {self.unpacked}" if self.unpacked else ""
        elif self.url:
            where = f" url: {self.url}"
            if self.expires_at:
                where += f" (link expires {self.expires_at.astimezone().isoformat(' ', 'minutes')})"
        return f"{self.type}{where}"

    def _repr_html_(self) -> str:
        preview = self.preview._shown() if self.preview else None
        return render.file_html(self._shown(), preview)

    def _shown(self) -> render.Shown:
        url = None if self.expired() else self.url
        return render.Shown(self.type, self.path, self._data, url)


async def is_link_expired(runtime: Runtime, file: MediaFile) -> bool:
    """Return True if the file host refuses the link; one small request."""
    try:
        await _Download(runtime, file, io.BytesIO()).probe()
    except TokenHubError as error:
        return isinstance(error, ResultExpiredError)  # else the service itself may reach it
    return False


def _flush(opened: io.BufferedRandom) -> None:
    opened.flush()
    os.fsync(opened.fileno())


@dataclass
class _Download:
    """Receives a file in memory or on disk, in as many attempts as it takes."""

    runtime: Runtime
    file: MediaFile
    target: io.BytesIO | io.BufferedRandom
    size: int = 0
    head: bytes = b""
    tail: bytes = b""
    etag: str | None = None
    md5: str | None = None
    has_md5_failed: bool = False

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.head = (self.head + data[: files.HEAD])[: files.HEAD]
        self.tail = (self.tail + data[-files.TAIL :])[-files.TAIL :]
        self.target.write(data)

    async def run(self) -> None:
        """Fetch the file, continuing where the previous attempt was cut."""
        tries = 0
        for _ in range(MAX_TRIES):
            before = self.size
            try:
                remote = await self._fetch()
                async with aclosing(remote.pieces):
                    self._prepare(remote)
                    await self._receive(remote)
                self._check_content()
                return await self.runtime.blocking(self._verify_md5)
            except RETRYABLE as error:
                tries = 1 if self.size > before else tries + 1
                if tries == MAX_STALLED_TRIES or not error.is_retryable:
                    raise
                await self.runtime.sleep(PAUSE * tries)
        raise APIConnectionError(f"the download was cut {MAX_TRIES} times")

    async def probe(self) -> None:
        """Fetch the first bytes only."""
        async with aclosing((await self._fetch()).pieces) as pieces:
            async for piece in pieces:
                self.write(piece)
                if self.size >= files.HEAD:
                    break
        self._check_content()

    async def _fetch(self) -> RemoteFile:
        """Open the link at the missing part, or at the start if the file cannot be continued."""
        url, job = self.file.url, self.file._job
        if url is None:
            raise InvalidRequestError(
                "the file has neither link nor path, and its bytes were not kept",
                hint="call result(job) within 24 hours, while the service knows the job",
            )
        try:
            return await fetch(
                self.runtime,
                url,
                allow_loopback=job is not None and _is_on_loopback(job),
                start=self.size,
                etag=self.etag,
            )
        except RETRYABLE:
            raise
        except TokenHubError as error:
            if error.status in {403, 404, 410}:
                raise _expired_error(self.file, f"HTTP {error.status}", error.status) from None
            if error.status != 416:
                raise
        self._restart()  # the range is beyond the end of the file
        raise APIConnectionError("the file host cannot continue the file", status=416)

    def _restart(self) -> None:
        self.size, self.head, self.tail, self.etag = 0, b"", b"", None
        self.target.seek(0)
        self.target.truncate()

    def _prepare(self, remote: RemoteFile) -> None:
        """Check that the answer continues the file, or start again."""
        if remote.start == 0:
            self._restart()
            self.md5 = remote.md5
        elif remote.start != self.size or (remote.etag != self.etag and self.size > 0):
            self._restart()
            raise APIConnectionError("the file host sent another part, or another file")
        self.etag = remote.etag

    async def _receive(self, remote: RemoteFile) -> None:
        expected = self.size + (remote.size or 0)
        buffered = bytearray()
        try:
            _check_size(expected)
            async for piece in remote.pieces:
                buffered += piece
                _check_size(self.size + len(buffered))
                if len(buffered) >= CHUNK:
                    data = bytes(buffered)
                    buffered.clear()
                    await self.runtime.blocking(self.write, data)
        finally:
            self.write(bytes(buffered))  # kept after a cut, and continued
        is_cut = self.size < expected
        if remote.size is None:
            is_cut = files.is_truncated(self.head, self.tail, self.size)
        if is_cut:
            raise APIConnectionError(f"the file ended after {self.size} of {expected or '?'} bytes")

    def _check_content(self) -> None:
        if self.size == 0:
            raise APIConnectionError("the file is empty")
        if files.is_error_page(self.head, self.file.type):
            raise _expired_error(self.file, "the file host sent an error page")
        _expired_links.discard(hash(self.file.url))

    def _verify_md5(self) -> None:
        """Compare with the host's MD5; after a second mismatch the paid file is kept."""
        if self.md5 is None:
            return
        self.target.seek(0)
        md5 = hashlib.file_digest(self.target, lambda: hashlib.md5(usedforsecurity=False))
        if self.md5 == base64.b64encode(md5.digest()).decode():
            return
        if self.has_md5_failed:
            warn_user("the MD5 of a file differs from its host's, twice; the file was kept")
            return
        self._restart()
        self.has_md5_failed = True
        raise APIConnectionError("the MD5 of the file differs from its host's")


def _is_on_loopback(job: JobRef) -> bool:
    host = job.host or ""
    return is_loopback_host(host.rpartition(":")[0] or host)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise InvalidRequestError(f"the file is larger than {MAX_BYTES} bytes")


def _expired_error(file: MediaFile, reason: str, status: int | None = None) -> ResultExpiredError:
    if len(_expired_links) >= _MAX_EXPIRED_LINKS:
        _expired_links.clear()
    _expired_links.add(hash(file.url))
    return ResultExpiredError(
        f"the link to the file has expired ({reason})",
        status=status,
        job=file._job,
        hint="result(job) returns a fresh link within 24 hours, while the service knows the job",
    )


def _suffix(declared: str, found: str | None) -> str:
    """Return the suffix of a file by its content, else the declared one."""
    declared = "jpg" if declared == "jpeg" else declared
    if found is None and declared in _RECOGNISABLE:
        warn_user(
            f"a file declared as {declared} is not recognised as one; it was saved as {declared}"
        )
    if found is None or found == declared or declared in _ZIPPED:
        return declared
    same_kind = {declared, found} <= files.IMAGES or {declared, found} <= files.VIDEOS
    if not same_kind and found != "zip":
        warn_user(f"a file declared as {declared} is {found}; it was saved as {found}")
    return found


async def _unpack(runtime: Runtime, path: Path) -> Path | None:
    try:
        folder, skipped = await runtime.blocking(files.unpack, path)
    except Exception as problem:  # noqa: BLE001 - whatever an archive raises, it is saved
        reason = str(problem) or type(problem).__name__
        warn_user(f"{path.name} was saved and not unpacked: {reason}")
        return None
    if skipped:
        warn_user(f"{path.name} was saved, and unpacked in part: {'; '.join(skipped)}")
    return folder
