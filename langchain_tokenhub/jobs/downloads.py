"""Downloads results, complete or not at all; an interrupted download is continued.

Disk access goes through the runtime's `blocking`, so that a slow disk blocks no event loop.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import (
    RETRYABLE,
    APIConnectionError,
    InvalidRequestError,
    JobRef,
    ResultExpiredError,
    TokenHubError,
)
from langchain_tokenhub.jobs.files import (
    HEAD,
    IMAGES,
    TAIL,
    VIDEOS,
    create_part,
    file_type_of,
    is_error_page,
    is_truncated,
    move_to_free_name,
    unpack,
)
from langchain_tokenhub.transport import Runtime
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
_RECOGNISABLE = IMAGES | VIDEOS | {"glb"}
"""Types that the first bytes always show."""
_ZIPPED = frozenset({"zip", "usdz"})
"""Types whose first bytes are those of a ZIP."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the bytes of a file are.

    Args:
        url: The file's link.
        data: Bytes that came inside the answer.
        path: The saved file.
        type: `png`, `mp4`, `glb`, `obj` …
        job: The job that the file belongs to.
        allow_loopback: Whether the link may lead to loopback.
    """

    url: str | None = None
    data: bytes | None = None
    path: Path | None = None
    type: str
    job: JobRef | None = None
    allow_loopback: bool = False


_expired_links: set[int] = set()
"""Hashes of links that a file host has refused in this process, whatever their expiry time."""
_MAX_EXPIRED_LINKS = 100_000


def is_known_expired(url: str) -> bool:
    """Return True if a file host has refused `url` before."""
    return hash(url) in _expired_links


async def read(runtime: Runtime, source: Source) -> bytes:
    """Return the bytes: from the answer, the saved file or the link.

    Raises:
        ResultExpiredError: The link has expired.
    """
    if source.data is not None:
        return source.data
    if source.path is not None and await runtime.blocking(source.path.is_file):
        return await runtime.blocking(source.path.read_bytes)
    buffer = io.BytesIO()
    await _Download(runtime, source, buffer).run()
    return buffer.getvalue()


async def save(
    runtime: Runtime, source: Source, folder: Path, stem: str
) -> tuple[Path, Path | None]:
    """Save a file in `folder` as `stem` and its suffix.

    A number is added to a name that exists. An OBJ that is a ZIP is also unpacked next to it.

    Returns:
        The file, and the folder into which it was unpacked.

    Raises:
        ResultExpiredError: The link has expired.
        OSError: The disk failed.
    """
    part = await runtime.blocking(create_part, folder, stem)
    try:
        head = await _fill(runtime, source, part)
        suffix = _suffix(source.type, file_type_of(head))
        path = await runtime.blocking(move_to_free_name, part, suffix)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    is_zipped = path.suffix == ".zip" and source.type != "zip"
    return path, await _unpack(runtime, path) if is_zipped else None


async def is_link_expired(runtime: Runtime, source: Source) -> bool:
    """Return True if the file host refuses the link; one small request."""
    try:
        await _Download(runtime, source, io.BytesIO()).probe()
    except ResultExpiredError:
        return True
    except TokenHubError:
        return False  # not known; the service itself may reach it
    return False


async def _fill(runtime: Runtime, source: Source, part: Path) -> bytes:
    """Write the bytes into `part` and return the first of them."""
    with await runtime.blocking(lambda: part.open("r+b")) as opened:
        download = _Download(runtime, source, opened)
        if source.url is None or source.data is not None:
            await runtime.blocking(download.write, await read(runtime, source))
        else:
            await download.run()
        await runtime.blocking(_flush, opened)
    return download.head


def _flush(opened: io.BufferedRandom) -> None:
    opened.flush()
    os.fsync(opened.fileno())


@dataclass
class _Download:
    """Receives a file in memory or on disk, in as many attempts as it takes."""

    runtime: Runtime
    source: Source
    file: io.BytesIO | io.BufferedRandom
    size: int = 0
    head: bytes = b""
    tail: bytes = b""
    etag: str | None = None
    md5: str | None = None
    md5_failed: bool = False

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.head = (self.head + data[:HEAD])[:HEAD]
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        self.file.write(data)

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
        raise APIConnectionError(f"the file was cut {MAX_TRIES} times")

    async def probe(self) -> None:
        """Fetch the first bytes only."""
        async with aclosing((await self._fetch()).pieces) as pieces:
            async for piece in pieces:
                self.write(piece)
                if self.size >= HEAD:
                    break
        self._check_content()

    async def _fetch(self) -> RemoteFile:
        """Open the link at the missing part, or at the start if the file cannot be continued."""
        url, is_loopback = self.source.url, self.source.allow_loopback
        if url is None:
            raise InvalidRequestError(
                "the file has neither link nor path, and its bytes were not kept",
                hint="call result(job) within 24 hours, while the service knows the job",
            )
        try:
            return await fetch(
                self.runtime, url, allow_loopback=is_loopback, start=self.size, etag=self.etag
            )
        except RETRYABLE:
            raise
        except TokenHubError as error:
            if error.status in {403, 404, 410}:
                raise _expired_error(self.source, f"HTTP {error.status}", error.status) from None
            if error.status != 416:
                raise
        self._restart()  # the range is beyond the end of the file
        raise APIConnectionError("the file host cannot continue the file", status=416)

    def _restart(self) -> None:
        self.size, self.head, self.tail, self.etag = 0, b"", b"", None
        self.file.seek(0)
        self.file.truncate()

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
            is_cut = is_truncated(self.head, self.tail, self.size)
        if is_cut:
            raise APIConnectionError(f"the file ended after {self.size} of {expected or '?'} bytes")

    def _check_content(self) -> None:
        if self.size == 0:
            raise APIConnectionError("the file is empty")
        if is_error_page(self.head, self.source.type):
            raise _expired_error(self.source, "the file host sent an error page")
        _expired_links.discard(hash(self.source.url))

    def _verify_md5(self) -> None:
        """Compare with the host's MD5; after a second mismatch the paid file is kept."""
        if self.md5 is None:
            return
        self.file.seek(0)
        md5 = hashlib.file_digest(self.file, lambda: hashlib.md5(usedforsecurity=False))
        if self.md5 == base64.b64encode(md5.digest()).decode():
            return
        if self.md5_failed:
            warn_user("the MD5 of a file differs from its host's, twice; the file was kept")
            return
        self._restart()
        self.md5_failed = True
        raise APIConnectionError("the MD5 of the file differs from its host's")


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise InvalidRequestError(f"the file is larger than {MAX_BYTES} bytes")


def _expired_error(source: Source, reason: str, status: int | None = None) -> ResultExpiredError:
    if len(_expired_links) >= _MAX_EXPIRED_LINKS:
        _expired_links.clear()
    _expired_links.add(hash(source.url))
    return ResultExpiredError(
        f"the link to the file has expired ({reason})",
        status=status,
        job=source.job,
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
    same_kind = {declared, found} <= IMAGES or {declared, found} <= VIDEOS
    if not same_kind and found != "zip":
        warn_user(f"a file declared as {declared} is {found}; it was saved as {found}")
    return found


async def _unpack(runtime: Runtime, path: Path) -> Path | None:
    try:
        folder, skipped = await runtime.blocking(unpack, path)
    except Exception as problem:  # noqa: BLE001 - whatever an archive raises, it is saved
        reason = str(problem) or type(problem).__name__
        warn_user(f"{path.name} was saved and not unpacked: {reason}")
        return None
    if skipped:
        warn_user(f"{path.name} was saved, and unpacked in part: {'; '.join(skipped)}")
    return folder
