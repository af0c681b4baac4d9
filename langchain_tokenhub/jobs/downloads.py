"""Read and save results: whole or not at all, never over another file, byte for byte.

What blocks goes through the wire's `blocking`, so that a slow disk holds up no event loop.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    RateLimitError,
    ResultExpiredError,
    ServerError,
    TokenHubError,
)
from langchain_tokenhub.jobs.file_store import numbered, stem_of, unpack
from langchain_tokenhub.jobs.media_types import (
    HEAD,
    PICTURES,
    TAIL,
    VIDEOS,
    complains,
    cut_short,
    media_type_of,
)
from langchain_tokenhub.jobs.models import MediaFile
from langchain_tokenhub.transport import Runtime
from langchain_tokenhub.transport.download import Fetched, fetch

__all__ = ["read", "save", "save_preview", "stem_of", "write_sidecar"]

MOST_BYTES = 2 * 1024**3
"""Of one file."""
PIECE = 1024 * 1024
"""Bytes gathered before they are written."""
TRIES = 5
"""Of a download that is cut, without getting further; it goes on where it was."""
MOST_TRIES = 50
"""Of a download that does get further each time."""
PAUSE = 0.5
"""Seconds before the second try; each further one waits so much longer."""
_PASSING = (APIConnectionError, APITimeoutError, ServerError, RateLimitError)
_SUFFIXES = {"jpeg": "jpg"}
_KNOWN = PICTURES | VIDEOS | {"glb"}
"""Types that always show in the first bytes."""
_ZIPPED = frozenset({"zip", "usdz"})
"""Types whose bytes may well begin as a ZIP."""


@dataclass
class _Sink:
    """Bytes on their way into memory or a file, and how many there are."""

    file: BinaryIO | None = None
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    head: bytes = b""
    tail: bytes = b""
    etag: str | None = None
    md5: str | None = None
    doubted: bool = False

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if len(self.head) < HEAD:
            self.head = (self.head + data)[:HEAD]
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        if self.file is None:
            self.pieces.append(data)
        else:
            self.file.write(data)

    def restart(self) -> None:
        self.size, self.head, self.tail, self.pieces, self.etag = 0, b"", b"", [], None
        self.joined = False
        if self.file is not None:
            self.file.seek(0)
            self.file.truncate()

    def parts(self) -> Iterator[bytes]:
        """Yield all that came."""
        if self.file is None:
            yield from self.pieces
            return
        self.file.seek(0)
        while part := self.file.read(PIECE):
            yield part


async def read(runtime: Runtime, file: MediaFile) -> bytes:
    """Return a file's bytes: from the answer, from disk, or from its link."""
    if file.held is not None:
        return file.held
    if file.path is not None and await runtime.blocking(file.path.is_file):
        return await runtime.blocking(file.path.read_bytes)
    sink = _Sink()
    await _download(runtime, file, sink)
    return b"".join(sink.pieces)


async def save(runtime: Runtime, file: MediaFile, folder: Path, stem: str) -> MediaFile:
    """Save a file in `folder` as `stem` and its suffix, and return it with its path.

    A name that is taken gets a number. An OBJ that comes as a ZIP is also unpacked beside.

    Raises:
        ResultExpiredError: The link is dead.
        OSError: The disk refuses.
    """
    stem = _nameable(stem)
    part = await runtime.blocking(functools.partial(_part, folder, stem))
    try:
        head = await _fill(runtime, file, part)
        suffix = _suffix(file.type, media_type_of(head))
        path = await runtime.blocking(functools.partial(_settle, part, folder, stem, suffix))
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return file.with_path(path, unpacked=await _unpacked(runtime, file, path))


async def save_preview(runtime: Runtime, file: MediaFile) -> Path:
    """Save the picture of a saved 3D model beside it, as `<name>.preview.png`, and return where.

    Raises:
        ResultExpiredError: The link is dead.
        OSError: The disk refuses.
    """
    assert file.path is not None  # noqa: S101 - the model is saved first
    assert file.preview is not None  # noqa: S101 - the caller has looked
    stem = f"{file.path.stem}.preview"
    saved = await save(runtime, file.preview, file.path.parent, stem)
    assert saved.path is not None  # noqa: S101 - `save` has raised otherwise
    return saved.path


async def _fill(runtime: Runtime, file: MediaFile, part: Path) -> bytes:
    """Write the bytes into `part`, and return the first of them."""
    with await runtime.blocking(functools.partial(_opened, part)) as opened:
        sink = _Sink(opened)
        if file.url is None or file.held is not None:
            data = await read(runtime, file)
            await runtime.blocking(functools.partial(sink.write, data))
        else:
            await _download(runtime, file, sink)
        await runtime.blocking(functools.partial(_flush, opened))
    return sink.head


async def _download(runtime: Runtime, file: MediaFile, sink: _Sink) -> None:
    """Fetch into `sink`; a cut download goes on where it was."""
    if file.url is None:
        raise InvalidRequestError("the file has neither link nor path; its bytes were not kept")
    tries = 0
    for _ in range(MOST_TRIES):
        before = sink.size
        try:
            await _continue(runtime, file.url, sink, allow_loopback=file.allow_loopback)
            _judge(sink, file.type)
            return await runtime.blocking(functools.partial(_verify, sink))
        except _PASSING as error:
            tries = 1 if sink.size > before else tries + 1
            if tries == TRIES or not error.is_retryable:
                raise
            await runtime.sleep(PAUSE * tries)
        except TokenHubError as error:
            raise _dead(error) from None
    raise APIConnectionError(f"the file was cut {MOST_TRIES} times")


async def _continue(runtime: Runtime, url: str, sink: _Sink, *, allow_loopback: bool) -> None:
    """Fetch what `sink` does not have yet, or all of it where the host cannot continue."""
    start = sink.size if sink.etag else 0
    try:
        fetched = await fetch(
            runtime, url, allow_loopback=allow_loopback, start=start, etag=sink.etag
        )
    except TokenHubError as error:
        if error.status != 416:  # the range is beyond the file
            raise
        sink.restart()
        raise APIConnectionError("the file host cannot continue the file", status=416) from None
    async with aclosing(fetched.pieces):
        _join(fetched, sink)
        await _take(runtime, fetched, sink)


def _join(fetched: Fetched, sink: _Sink) -> None:
    """Let `sink` be what the bytes that come are the rest of."""
    other = fetched.etag != sink.etag and sink.size > 0
    if fetched.start == 0:
        sink.restart()
        sink.md5 = fetched.md5
    elif fetched.start != sink.size or other:
        sink.restart()
        raise APIConnectionError("the file host went on elsewhere in the file, or in another file")
    sink.etag = fetched.etag


async def _take(runtime: Runtime, fetched: Fetched, sink: _Sink) -> None:
    wanted = sink.size + (fetched.size or 0)
    if wanted > MOST_BYTES:
        raise _too_large()
    gathered = bytearray()
    try:
        async for piece in fetched.pieces:
            gathered += piece
            if sink.size + len(gathered) > MOST_BYTES:
                raise _too_large()
            if len(gathered) >= PIECE:
                await _put(runtime, sink, gathered)
    finally:
        sink.write(bytes(gathered))  # what came before a cut is kept, and continued
    told = fetched.size is not None
    if sink.size < wanted or (not told and cut_short(sink.head, sink.tail, sink.size)):
        raise APIConnectionError(f"the file ended after {sink.size} of {wanted or '?'} bytes")


def _too_large() -> InvalidRequestError:
    return InvalidRequestError(f"the file is larger than {MOST_BYTES} bytes")


async def _put(runtime: Runtime, sink: _Sink, gathered: bytearray) -> None:
    data = bytes(gathered)
    gathered.clear()
    await runtime.blocking(functools.partial(sink.write, data))


def _dead(error: TokenHubError) -> TokenHubError:
    """Return `error`, or what it means where it is the file host's way to say that time is up."""
    if error.status not in {403, 404, 410}:
        return error
    return ResultExpiredError(
        f"the link to the file is dead (HTTP {error.status})",
        status=error.status,
        hint="result(job) asks for a fresh one while the job is known, for 24 hours",
    )


def _judge(sink: _Sink, said: str) -> None:
    if sink.size == 0:
        raise APIConnectionError("the file is empty")
    if complains(sink.head, said):
        raise ResultExpiredError("the file host answered with a page instead of the file")


def _md5_of(pieces: Iterable[bytes]) -> str:
    """Return an MD5 in base64, as `Content-MD5` has it."""
    md5 = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        md5.update(piece)
    return base64.b64encode(md5.digest()).decode()


def _verify(sink: _Sink) -> None:
    """Compare with the host's MD5; bytes that differ twice are kept, for they were paid for."""
    if sink.md5 is None or sink.md5 == _md5_of(sink.parts()):
        return
    if sink.doubted:
        warn_user("a file has another MD5 than its host says, twice; kept all the same")
        return
    sink.restart()
    sink.doubted = True
    raise APIConnectionError("the file has another MD5 than its host says")


def _suffix(said: str, found: str | None) -> str:
    """Return the suffix for what a file really is, where that can be told."""
    said = _SUFFIXES.get(said, said)
    if found is None and said in _KNOWN:
        warn_user(f"a file that should be {said} does not begin like one; saved all the same")
    if found is None or found == said or said in _ZIPPED:
        return said
    same_kind = {said, found} <= PICTURES or {said, found} <= VIDEOS
    if not same_kind and found != "zip":
        warn_user(f"a file that should be {said} begins like {found}; saved as {found}")
    return found


async def _unpacked(runtime: Runtime, file: MediaFile, path: Path) -> Path | None:
    if path.suffix != ".zip" or file.type == "zip":
        return None
    try:
        return await runtime.blocking(functools.partial(unpack, path))
    except (InvalidRequestError, OSError) as problem:
        warn_user(f"{path.name} was saved and not unpacked: {problem}")
        return None


def _nameable(stem: str) -> str:
    """Return `stem` as this system can write it: a locale may know no Chinese."""
    coding = sys.getfilesystemencoding()
    try:
        os.fsencode(stem)
    except UnicodeEncodeError:
        return stem.encode(coding, "ignore").decode(coding).strip("._- ") or "tokenhub"
    return stem


def _part(folder: Path, stem: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{stem}.part-{secrets.token_hex(4)}"
    part.open("xb").close()
    return part


def _opened(part: Path) -> BinaryIO:
    return part.open("r+b")


def _flush(opened: BinaryIO) -> None:
    opened.flush()
    os.fsync(opened.fileno())


def _settle(part: Path, folder: Path, stem: str, suffix: str) -> Path:
    """Give `part` the first free name, at once and whole; nothing is overwritten."""
    for count in range(1, 10_000):
        target = folder / f"{numbered(stem, count)}.{suffix}"
        if target.with_name(f"{target.name}.json").exists():
            continue  # the place of the sidecar is taken
        try:
            return _moved(part, target)
        except FileExistsError:
            continue
    raise FileExistsError(f"no free name for {stem!r}")


def _moved(part: Path, target: Path) -> Path:
    """Move `part` to `target`, where there is nothing yet."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError):
        return _claimed(part, target)  # a disk without hard links
    part.unlink()
    return target


def _claimed(part: Path, target: Path) -> Path:
    """Move `part` to `target`, whose name is claimed by an empty file first."""
    target.open("xb").close()
    try:
        return part.replace(target)
    except OSError:
        target.unlink(missing_ok=True)
        raise


def write_sidecar(path: Path, facts: Mapping[str, Any]) -> None:
    """Write what is known of a saved file beside it, as `<name>.json`."""
    whole = {
        "schema": 1,
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": _digest(path),
        "saved_at": datetime.now(UTC).isoformat(),
        **facts,
    }
    text = json.dumps(whole, ensure_ascii=False, indent=1, default=str)
    part = path.with_name(f"{path.name}.json.part-{secrets.token_hex(4)}")
    part.write_text(text, "utf-8", errors="backslashreplace")  # half an emoji is JSON so
    part.replace(path.with_name(f"{path.name}.json"))


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
