"""Resolves file inputs and encodes them in the shape of their parameter.

Plain code may pass links, data URLs, paths, `file:` URIs, bytes, images and earlier results. A
language model passes a string: a link, a data URL, the id of a known job, or a path or `file:` URI
inside an allowed folder.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from pydantic import BaseModel, ValidationError

from langchain_tokenhub.errors import InvalidRequestError, JobRef, ResultExpiredError, TokenHubError
from langchain_tokenhub.jobs.files import HEAD, IMAGES, file_type_of, image_size
from langchain_tokenhub.jobs.history import JobHistory, source_of
from langchain_tokenhub.jobs.media_file import MediaFile, is_link_expired
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.params import (
    FileField,
    MediaParams,
    encode_params,
    file_fields,
    short_repr,
)

Refresh = Callable[[JobRef], Awaitable[Job]]
"""Queries a completed job for fresh links."""

_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_FILE_URI = re.compile(r"file:(?://(?:localhost)?)?(/(?!/)[^?#]*)", re.IGNORECASE)
"""A file of this machine, and its path."""
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,127}")
_MAX_READ = 64 * 1024**2
"""Bytes above which a file is refused unread."""


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file as it is sent: its bytes, else its link."""

    url: str = ""
    data: bytes | None = None
    source: str | None = None
    """Its `MediaFile.source`, if it came from a job, whatever its link."""

    @property
    def identity(self) -> str:
        """What distinguishes it from other files."""
        if self.source or self.data is None:
            return self.source or self.url
        return f"sha256 {hashlib.sha256(self.data).hexdigest()}"

    @property
    def text(self) -> str:
        return self.url if self.data is None else base64.b64encode(self.data).decode()

    @property
    def as_object(self) -> dict[str, str]:
        return {"url" if self.data is None else "base64": self.text}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads the files that the parameters of one call name.

    Args:
        history: The account's earlier jobs.
        refresh: Asks for fresh links.
        folders: Folders that a language model may name files in; None for plain code.
        identities: The identities of the files, by parameter.
        problems: Why known files cannot be sent.
    """

    history: JobHistory
    refresh: Refresh
    folders: tuple[Path, ...] | None = None
    identities: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[TokenHubError] = dataclasses.field(default_factory=list)

    async def read(self, params: MediaParams) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters as sent, and those that identify the call.

        The latter hold the identity of each file in place of its link, which may change.
        """
        sent, call = await self._encode(params, encode_params(params))
        if params.max_bytes:
            with self._defer_problems():
                _check_body(sent, params.max_bytes)
        return sent, call | self.identities

    @contextmanager
    def _defer_problems(self) -> Iterator[None]:
        """Store an error about a known file for later, if a ledger may know the call."""
        try:
            yield
        except TokenHubError as problem:
            if self.history.ledger is None:
                raise
            self.problems.append(problem)

    async def _encode(
        self, params: BaseModel, values: dict[str, Any], where: str = ""
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return `values` with encoded files, and those that are not files."""
        fields = file_fields(type(params))
        by_base64 = {field.base64_field: name for name, field in fields.items()}
        sent: dict[str, Any] = {}
        call: dict[str, Any] = {}
        for name, value in values.items():
            if field := fields.get(name):
                sent |= await self._field(where + name, name, value, field)
            elif link_name := by_base64.get(name):
                file = _File(data=_decode_unpadded(value))
                _check(where + name, file, fields[link_name])
                self.identities.setdefault(where + link_name, file.identity)
                sent.setdefault(name, value)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                objects = enumerate(zip(getattr(params, name), value, strict=True))
                parts = [await self._encode(*pair, f"{name}[{n}].") for n, pair in objects]
                sent[name], call[name] = map(list, zip(*parts, strict=True))
            else:
                sent[name] = call[name] = value
        return sent, call

    async def _field(self, where: str, name: str, value: Any, field: FileField) -> dict[str, Any]:
        if field.is_list:
            files = [await self._file(f"{where}[{i}]", one, field) for i, one in enumerate(value)]
            as_text = field.shape == "string_list"
            return {name: [file.text if as_text else file.as_object for file in files]}
        file = await self._file(where, value, field)
        if field.shape == "url_or_base64_object":
            return {name: file.as_object}
        if file.data is None:
            return {name: file.url}
        return {field.base64_field or name: file.text}

    async def _file(self, where: str, value: Any, field: FileField) -> _File:
        file = await self._find(where, value, field)
        self.identities[where] = file.identity
        with self._defer_problems():
            _check(where, file, field)
        return file

    async def _find(self, where: str, value: Any, field: FileField) -> _File:
        match value:
            case str():
                return await self._from_text(where, value, field)
            case Mapping() if self.folders is None and (files := _files_in(value)):
                return await self._from_files(where, files, field)
            case {"image_url": {"url": str() as text}} | {"image_url": str() as text}:
                return await self._from_text(where, text, field)
            case {"url": str() as text}:
                return await self._from_text(where, text, field)
            case {"base64": str() as text} | {"data": str() as text}:
                return _File(data=_decode_base64(where, _DATA_URL.sub("", text)))
            case _ if self.folders is not None:
                raise _refusal(where, value, "a string is needed")
            case _:
                return await self._from_code(where, value, field)

    async def _from_code(self, where: str, value: Any, field: FileField) -> _File:
        """Resolve a value that only plain code may pass."""
        match value:
            case bytes() | bytearray() | memoryview():
                return _File(data=bytes(value))
            case os.PathLike():
                return await self._from_path(where, Path(value))
            case MediaFile():
                return await self._from_files(where, [value], field)
            case MediaResult() | Job(files=[_, *_]):
                return await self._from_files(where, value.files, field)
            case JobRef():
                known = await self.history.find(value.id)
                return await self._from_files(where, known.files if known else [], field)
            case _ if isinstance(artifact := getattr(value, "artifact", None), Mapping):
                return await self._find(where, artifact, field)
            case _ if callable(getattr(value, "save", None)) and hasattr(value, "mode"):
                return _File(data=await self._load(where, None, lambda: _as_png(value)))
            case _ if callable(getattr(value, "read", None)):
                return _File(data=await self._load(where, None, value.read))
            case _ if hasattr(value, "__array_interface__") or hasattr(value, "__array__"):
                raise _refusal(where, value, "convert the array with PIL.Image.fromarray(array)")
            case _:
                raise _refusal(where, value, _ACCEPTED)

    async def _from_path(self, where: str, path: Path) -> _File:
        blocking = self.history.runtime.blocking
        path = await blocking(_expand, path)
        data = await self._load(where, str(path), lambda: _read(path))
        return _File(data=data, source=await blocking(source_of, path, data))

    async def _load(self, where: str, shown: str | None, read: Callable[[], Any]) -> bytes:
        """Read a file, an image or an open file."""
        try:
            data = await self.history.runtime.blocking(read)
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        else:
            if isinstance(data, bytes | bytearray | memoryview):
                return bytes(data)
            if isinstance(data, Coroutine):
                data.close()
            reason = f"reading returns {type(data).__name__}, bytes are needed"
        raise _refusal(where, shown, f"the file cannot be read: {reason}")

    async def _from_text(self, where: str, text: str, field: FileField) -> _File:
        text = text.strip()
        if _LINK.fullmatch(text):
            scheme, _, rest = text.partition("://")
            link = f"{scheme.lower()}://{rest}"  # not every client accepts HTTPS://
            return _File(url=link, source=await self._source(link))
        if head := _DATA_URL.match(text):
            return _File(data=_decode_base64(where, text[head.end() :]))
        if _JOB_ID.fullmatch(text) and (job := await self.history.find(text)):
            return await self._from_files(where, job.files, field)
        if path := await self.history.runtime.blocking(_path, text, self.folders):
            return await self._from_path(where, path)
        if self.folders is None and len(text) > 64:
            with suppress(InvalidRequestError):
                return _File(data=_decode_base64(where, text))
        advice = _ACCEPTED if self.folders is None else _ACCEPTED_FROM_MODEL
        raise _refusal(where, text, f"no such file; {advice}")

    async def _from_files(self, where: str, files: list[MediaFile], field: FileField) -> _File:
        """Resolve the first file of an earlier result that fits, or its preview."""
        fitting = [file for file in files if file.type in field.formats]
        if IMAGES & set(field.formats):
            fitting += [preview for file in files if (preview := file.preview)]
        if fitting:
            return await self._from_file(where, fitting[0])
        found = ", ".join(file.type for file in files) or "no file yet"
        needed = ", ".join(field.formats)
        raise _refusal(where, None, f"the earlier job has {found}; {needed} is needed")

    async def _from_file(self, where: str, file: MediaFile) -> _File:
        """Resolve a file of an earlier result, whose link may have expired."""
        source = file.source or (file.url and (await self._source(file.url) or file.url))
        found = _File(url=file.url or "")
        with self._defer_problems():
            found = await self._resolve_earlier(where, file)
        return dataclasses.replace(found, source=source)

    async def _source(self, link: str) -> str | None:
        ledger = self.history.ledger
        return await ledger.source_of(link) if ledger else None

    async def _resolve_earlier(self, where: str, file: MediaFile) -> _File:
        """Return the link or the bytes of an earlier file; an expired link is refreshed once."""
        if await self._has_valid_link(file):
            return _File(url=file.url or "")
        with suppress(OSError):
            if (data := await file._local_bytes(self.history.runtime)) is not None:
                return _File(data=data)
        fresh = await self._find_fresh(file, file._job) if file._job else None
        if fresh is not None and await self._has_valid_link(fresh):
            return _File(url=fresh.url or "")
        try:
            return _File(data=await file._read(self.history.runtime))
        except ResultExpiredError as expired:
            expired.hint = "it was not saved, and no fresh link works; generate it again"
            if file._job is not None:
                raise
        raise _refusal(where, None, "its link has expired and it was not saved; generate it again")

    async def _has_valid_link(self, file: MediaFile) -> bool:
        """Return True if the file's link is valid; links of unknown jobs are not requested."""
        if not file.url or file.expired():
            return False
        return file._job is None or not await is_link_expired(self.history.runtime, file)

    async def _find_fresh(self, file: MediaFile, job: JobRef) -> MediaFile | None:
        """Return the same file with a fresh link, if the service still knows its job."""
        try:
            files = (await self.refresh(job)).files
        except TokenHubError:
            return None
        linked = (one for made in files for one in (made, made.preview) if one and one.url)
        return next((one for one in linked if one.source == file.source), None)


_ACCEPTED = "a link, data URL, path, bytes, image, or an earlier result or its job ID is accepted"
_ACCEPTED_FROM_MODEL = (
    "a link, a data URL, the ID of an earlier job, or a path in an allowed folder is accepted"
)


def is_path(text: str) -> bool:
    """Return True if a text for plain code can only be a file's path."""
    if _LINK.fullmatch(text) or _DATA_URL.match(text) or text[:6].lower() == "file:/":
        return False
    if len(text) > 64:
        with suppress(InvalidRequestError):
            return not _decode_base64("", text)
    return not _JOB_ID.fullmatch(text)


def _path(text: str, folders: tuple[Path, ...] | None) -> Path | None:
    """Return the path of the file that `text` names, if it exists and may be read."""
    if len(text) > 4096:
        return None
    with suppress(OSError, ValueError, RuntimeError):
        if uri := _FILE_URI.fullmatch(text):
            text = url2pathname(uri[1])
        if folders is None:
            path = Path(text).expanduser()
            return path if path.is_file() else None
        for folder in folders:
            allowed = folder.expanduser().resolve()
            for path in (Path(text).resolve(), (allowed / text).resolve()):
                if path.is_relative_to(allowed) and path.is_file():
                    return path
    return None


def _expand(path: Path) -> Path:
    """Return a path without `~`; the one of a user who does not exist is unchanged."""
    with suppress(RuntimeError):
        return path.expanduser()
    return path


def _read(path: Path) -> bytes:
    facts = path.stat()
    if facts.st_size > _MAX_READ:
        raise OSError(0, f"it is larger than {_MAX_READ // 1024**2} MB")
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
        raise OSError(0, "it is not a regular file")  # a device may be endless
    return path.read_bytes()


def _files_in(value: Mapping[str, Any]) -> list[MediaFile]:
    """Return the files of a result, a job or a file as JSON, which a tool's artifact is."""
    with suppress(ValidationError):
        match value:
            case {"job": Mapping(), "files": list()}:
                return MediaResult.model_validate(value).files
            case {"id": _, "kind": _, "files": list()}:
                return Job.model_validate(value).files
            case {"type": _, "url": _, "preview_url": _}:
                return [MediaFile.model_validate(value)]
    return []


def _as_png(image: Any) -> bytes:
    """Return a PIL image as a PNG, without importing Pillow."""
    buffer = io.BytesIO()
    is_plain = image.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}
    (image if is_plain else image.convert("RGB")).save(buffer, format="PNG")
    return buffer.getvalue()


def _decode_unpadded(text: str) -> bytes:
    """Return the bytes of validated base64, whose padding may be missing."""
    with suppress(binascii.Error):
        return base64.b64decode(text + "==")
    return b""


def _decode_base64(where: str, text: str) -> bytes:
    with suppress(ValueError):
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    raise _refusal(where, None, _ACCEPTED)


def _check(where: str, file: _File, field: FileField) -> None:
    """Raise for bytes that the service would refuse; it fetches links itself."""
    if file.data is not None and (fault := _fault_of(file.data, field)):
        raise _refusal(where, None, fault)


def _fault_of(data: bytes, field: FileField) -> str | None:
    size, encoded = len(data), (len(data) + 2) // 3 * 4
    most, most_encoded = field.max_bytes_url, field.max_bytes_base64
    found = file_type_of(data[:HEAD])
    if not data:
        return "the file is empty"
    if field.shape == "url" and field.base64_field is None:
        return "only a public link is accepted"
    if most_encoded and encoded > most_encoded:
        what = f"{_megabytes(encoded)} as base64, at most {_megabytes(most_encoded, 0)}"
        return f"{what}; make it smaller or pass a link"
    if most_encoded is None and most and size > most:
        return f"{_megabytes(size)}, at most {_megabytes(most, 0)}; make it smaller"
    if found not in field.formats:
        return f"the file is {found or 'of no known type'}; {', '.join(field.formats)} is needed"
    measured = image_size(data)
    return _fault_of_size(*measured, field) if measured else None


def _fault_of_size(width: int, height: int, field: FileField) -> str | None:
    short, long = sorted((width, height))
    least, most = field.side_min or 0, field.side_max or long
    if short < least or long > most:
        limit = f"each side is {least} to {most}"
        return f"{width}x{height} pixels, {limit}; scale the image"
    if field.ratio_max and long > short * field.ratio_max:
        limit = f"the long side is at most {field.ratio_max:g} times the short one"
        return f"{width}x{height} pixels, {limit}; crop the image"
    return None


def _check_body(body: Mapping[str, Any], most: int) -> None:
    """Raise for a request that is too large as a whole."""
    size = len(json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    if size > most:
        what = f"the request has {_megabytes(size)}, at most {_megabytes(most, 0)}"
        raise _refusal("image_base64", None, f"{what}; make the image smaller or pass a link")


def _megabytes(size: int, digits: int = 1) -> str:
    return f"{size / 1024**2:.{digits}f} MB"


def _refusal(where: str, value: Any, advice: str) -> InvalidRequestError:
    is_shown = value is not None and not isinstance(value, BaseModel)
    what = f"{short_repr(value)}: " if is_shown else ""
    return InvalidRequestError(f"{where}: {what}{advice}", phase="not sent")
