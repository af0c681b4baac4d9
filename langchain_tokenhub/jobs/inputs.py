"""File inputs: from whatever names a file to the shape that a parameter wants.

Two kinds of callers. Plain code may pass links, data URLs, paths, bytes, pictures and earlier
results. What a language model wrote is a string, and may only be a link, a data URL, the id of a
job that is known here, or a path inside folders that were allowed.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from langchain_tokenhub.errors import InvalidRequestError, ResultExpiredError, TokenHubError
from langchain_tokenhub.jobs.downloads import read
from langchain_tokenhub.jobs.media_types import HEAD, PICTURES, media_type_of, sides
from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult
from langchain_tokenhub.jobs.sidecars import source_of
from langchain_tokenhub.params import (
    FileField,
    MediaParams,
    Part,
    encode_params,
    file_fields,
    shown,
)
from langchain_tokenhub.transport import Runtime

Find = Callable[[str], Awaitable[Job | None]]
"""Looks a job up by its id."""

_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,127}")
_MANY_BYTES = 64 * 1024**2
"""A file larger than this is not read to learn that it is too large."""


@dataclass(frozen=True)
class Link:
    """A file that the service fetches; `source` is what it is, wherever it is."""

    url: str
    source: str | None = None

    @property
    def identity(self) -> str:
        """What tells it from other files."""
        return self.source or self.url


@dataclass(frozen=True)
class Data:
    """A file that is sent; `source` is what it is, wherever it is."""

    data: bytes
    source: str | None = None

    @property
    def identity(self) -> str:
        """What tells it from other files."""
        return self.source or f"sha256 {hashlib.sha256(self.data).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Finds what a value names.

    Args:
        runtime: What waits.
        find: Looks up an earlier job.
        folders: Where a language model's paths may lead; None where plain code asks.
        find_source: Returns which job's file a link leads to; None without a ledger.
        identities: The files of the parameters by their places, once `body` has found them.
        problems: Why files that are known cannot be sent, or not any more.
    """

    runtime: Runtime
    find: Find
    folders: tuple[Path, ...] | None = None
    find_source: Callable[[str], Awaitable[str | None]] | None = None
    identities: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[TokenHubError] = dataclasses.field(default_factory=list)

    async def body(self, params: MediaParams) -> dict[str, Any]:
        """Return the parameters as they are sent, files in their wire shapes."""
        sent = await self._sent(params)
        if params.most_bytes:
            try:
                check_body(sent, params.most_bytes)
            except InvalidRequestError as problem:
                self._defer(problem)
        return sent

    def _defer(self, problem: TokenHubError) -> None:
        """Keep what is wrong with a known file, if a ledger may know its call all the same."""
        if self.find_source is None:
            raise problem
        self.problems.append(problem)

    async def _sent(self, params: MediaParams) -> dict[str, Any]:
        body = await self._placed(encode_params(params), file_fields(type(params)))
        for name, value in params:
            if isinstance(value, list) and value and isinstance(value[0], Part):
                body[name] = [
                    await self._placed(sent, file_fields(type(part)), f"{name}[{number}].")
                    for number, (part, sent) in enumerate(zip(value, body[name], strict=True))
                ]
        return body

    def call_of(self, params: MediaParams, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what makes a request the same as another: its files as what they are."""
        call = _without_files(body, params)
        for name, value in params:
            if isinstance(value, list) and value and isinstance(value[0], Part):
                call[name] = [
                    _without_files(sent, part) for sent, part in zip(call[name], value, strict=True)
                ]
        return call | self.identities

    async def _placed(
        self, values: dict[str, Any], fields: Mapping[str, FileField], where: str = ""
    ) -> dict[str, Any]:
        placed = dict(values)
        for name, field in fields.items():
            if field.base64_field and (text := placed.get(field.base64_field)):
                data = Data(_plain(text))
                check(where + field.base64_field, data.data, field)
                self.identities[where + name] = data.identity
            if placed.get(name) is not None:
                value = placed.pop(name)
                placed |= await self._field(where + name, name, value, field)
        return placed

    async def _field(self, place: str, name: str, value: Any, field: FileField) -> dict[str, Any]:
        if field.many:
            files = [await self._file(f"{place}[{i}]", one, field) for i, one in enumerate(value)]
            strings = field.shape == "string_list"
            return {name: [_text(file) if strings else _object(file) for file in files]}
        file = await self._file(place, value, field)
        if field.shape == "url_or_base64_object":
            return {name: _object(file)}
        if isinstance(file, Link):
            return {name: file.url}
        if field.base64_field is None:
            self._defer(refuse(place, value, "only a public link is taken here"))
        return {field.base64_field or name: _text(file)}

    async def _file(self, place: str, value: Any, field: FileField) -> Link | Data:
        file = await self._find(place, value, field)
        self.identities[place] = file.identity
        if isinstance(file, Data):
            try:
                check(place, file.data, field)
            except InvalidRequestError as problem:
                self._defer(problem)
        return file

    async def _find(self, place: str, value: Any, field: FileField) -> Link | Data:
        match value:
            case str():
                return await self._from_text(place, value, field)
            case Mapping() if self.folders is None and (files := _earlier(value)):
                return await self._from_files(place, files, field)
            case Mapping():
                return await self._from_block(place, value, field)
            case _ if self.folders is not None:
                raise refuse(place, value, "a string is needed")
            case _:
                return await self._from_code(place, value, field)

    async def _from_code(self, place: str, value: Any, field: FileField) -> Link | Data:
        """Take what plain code may pass and a language model cannot."""
        match value:
            case bytes() | bytearray() | memoryview():
                return Data(bytes(value))
            case os.PathLike():
                return await self._load(place, Path(value))
            case MediaFile():
                return await self._from_files(place, [value], field)
            case MediaResult():
                return await self._from_files(place, value.files, field)
            case Job():
                return await self._from_files(place, value.files, field)
            case _ if isinstance(artifact := getattr(value, "artifact", None), Mapping):
                return await self._find(place, artifact, field)
            case _ if callable(getattr(value, "save", None)) and hasattr(value, "mode"):
                return await self._read(place, functools.partial(_drawn, value))
            case _ if callable(getattr(value, "read", None)):
                return await self._read(place, value.read)
            case _:
                raise refuse(place, value, _TAKEN)

    async def _read(self, place: str, read: Callable[[], Any]) -> Data:
        """Take what a picture or an open file gives."""
        try:
            data = await self.runtime.blocking(read)
        except (OSError, ValueError) as problem:
            reason = str(problem)
        else:
            if isinstance(data, bytes | bytearray | memoryview):
                return Data(bytes(data))
            if isinstance(data, Coroutine):
                data.close()
            reason = f"it reads {type(data).__name__}, bytes are needed"
        raise refuse(place, None, f"the file cannot be read: {reason}")

    async def _from_text(self, place: str, text: str, field: FileField) -> Link | Data:
        text = text.strip()
        if _LINK.fullmatch(text):
            scheme, _, rest = text.partition("://")
            link = f"{scheme.lower()}://{rest}"  # not every fetcher knows HTTPS://
            return Link(link, await self._source(link))
        if head := _DATA_URL.match(text):
            return Data(_decoded(place, text[head.end() :]))
        if _JOB_ID.fullmatch(text) and (job := await self.find(text)):
            return await self._from_files(place, job.files, field)
        path = await self._path(text)
        if path is not None:
            return await self._load(place, path)
        if self.folders is None and len(text) > 64:
            with suppress(InvalidRequestError):
                return Data(_decoded(place, text))
        advice = _TAKEN if self.folders is None else _TAKEN_FROM_MODEL
        raise refuse(place, text, f"no file is there; {advice}")

    async def _from_block(
        self, place: str, block: Mapping[str, Any], field: FileField
    ) -> Link | Data:
        """Take an image block of LangChain's, or the shape that the service itself wants."""
        match block:
            case {"image_url": {"url": str() as text}} | {"image_url": str() as text}:
                return await self._from_text(place, text, field)
            case {"url": str() as text}:
                return await self._from_text(place, text, field)
            case {"base64": str() as text} | {"data": str() as text}:
                return Data(_decoded(place, _DATA_URL.sub("", text)))
            case _:
                raise refuse(place, block, _TAKEN)

    async def _from_files(
        self, place: str, files: list[MediaFile], field: FileField
    ) -> Link | Data:
        """Take the first file of an earlier result that fits, or a picture of it."""
        fitting = [file for file in files if normal(file.type) in map(normal, field.formats)]
        if fitting:
            return await self._from_file(place, fitting[0])
        pictures = [p for f in files if (p := f.preview) and (p.path or not p.expired())]
        if pictures and PICTURES & set(field.formats):
            return await self._from_file(place, pictures[0])
        found = ", ".join(file.type for file in files) or "no file yet"
        raise refuse(place, None, f"the earlier job made {found}; {formats(field)} is needed")

    async def _from_file(self, place: str, file: MediaFile) -> Link | Data:
        source = file.source or (file.url and (await self._source(file.url) or file.url))
        if file.url and not file.expired():
            return Link(file.url, source)
        problem: TokenHubError
        try:
            return Data(await read(self.runtime, file), source)
        except (ResultExpiredError, OSError):
            advice = "its link is dead and it was not saved; make it again, or call result(job)"
            problem = refuse(place, None, advice)
        except TokenHubError as error:
            problem = error
        self._defer(problem)
        return Link(file.url or "", source)

    async def _source(self, link: str) -> str | None:
        return await self.find_source(link) if self.find_source else None

    async def _path(self, text: str) -> Path | None:
        return await self.runtime.blocking(functools.partial(_path, text, self.folders))

    async def _load(self, place: str, path: Path) -> Data:
        try:
            return await self.runtime.blocking(functools.partial(_load, path))
        except OSError as problem:
            reason = problem.strerror or type(problem).__name__
        raise refuse(place, str(path), f"the file cannot be read: {reason}")


_TAKEN = "a link, data URL, path, bytes, picture, or an earlier result or its job id is taken"
_TAKEN_FROM_MODEL = (
    "a link, a data URL, the id of an earlier job, or a path in an allowed folder is taken"
)


def _path(text: str, folders: tuple[Path, ...] | None) -> Path | None:
    """Return the file that `text` names, if it is one and may be read."""
    if len(text) > 4096 or "\x00" in text:
        return None
    with suppress(OSError, ValueError, RuntimeError):
        if folders is None:
            path = Path(text).expanduser()
            return path if path.is_file() else None
        for folder in folders:
            home = folder.expanduser().resolve()
            for path in (Path(text).resolve(), (home / text).resolve()):
                if path.is_relative_to(home) and path.is_file():
                    return path
    return None


def _load(path: Path) -> Data:
    path = path.expanduser()
    facts = path.stat()
    if facts.st_size > _MANY_BYTES:
        raise OSError(0, f"it is larger than {_MANY_BYTES // 1024**2} MB")
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
        raise OSError(0, "it is no regular file")  # a device may never end
    data = path.read_bytes()
    return Data(data, source_of(path, data))


def _without_files(body: Mapping[str, Any], params: BaseModel) -> dict[str, Any]:
    fields = file_fields(type(params))
    files = {*fields, *(field.base64_field for field in fields.values())}
    return {name: value for name, value in body.items() if name not in files}


def _earlier(value: Mapping[str, Any]) -> list[MediaFile]:
    """Return the files of a result, job or file that was dumped: a tool's artifact, a sidecar."""
    with suppress(ValidationError):
        match value:
            case {"files": list(), "job": Mapping()}:
                return MediaResult.model_validate(value).files
            case {"files": list(), "id": _, "kind": _}:
                return Job.model_validate(value).files
            case {"files": list() as files}:
                return [MediaFile.model_validate(file) for file in files]
            case {"type": _, "url": _, "preview_url": _}:
                return [MediaFile.model_validate(value)]
    return []


def _drawn(picture: Any) -> bytes:
    """Return a PIL picture as a PNG, without importing Pillow."""
    buffer = io.BytesIO()
    plain = (
        picture if picture.mode in {"1", "L", "LA", "P", "RGB", "RGBA"} else picture.convert("RGB")
    )
    plain.save(buffer, format="PNG")
    return buffer.getvalue()


def _plain(text: str) -> bytes:
    """Return the bytes of base64 whose letters were looked at; its padding may be missing."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return b""


def _decoded(place: str, text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise refuse(place, None, _TAKEN)


def _text(file: Link | Data) -> str:
    return file.url if isinstance(file, Link) else base64.b64encode(file.data).decode()


def _object(file: Link | Data) -> dict[str, str]:
    return {"url" if isinstance(file, Link) else "base64": _text(file)}


_SAME = {"jpg": "jpeg", "tif": "tiff"}


def check(place: str, data: bytes, field: FileField) -> None:
    """Refuse bytes that the service would refuse."""
    if not data:
        raise refuse(place, None, "the file is empty")
    _check_size(place, len(data), field)
    found = media_type_of(data[:HEAD])
    if found is None or normal(found) not in map(normal, field.formats):
        raise refuse(
            place, None, f"the file is {found or 'of no known type'}; {formats(field)} is needed"
        )
    if (measured := sides(data)) is not None:
        _check_sides(place, measured, field)


def _check_size(place: str, size: int, field: FileField) -> None:
    encoded, most = (size + 2) // 3 * 4, field.max_bytes_base64
    if most and encoded > most:
        what = f"{_megabytes(encoded)} as base64, {_megabytes(most, 0)} is the most"
        raise refuse(place, None, f"{what}; make it smaller or pass a link")
    if most is None and field.max_bytes_url and size > field.max_bytes_url:
        what = f"{_megabytes(size)}, {_megabytes(field.max_bytes_url, 0)} is the most"
        raise refuse(place, None, f"{what}; make it smaller")


def check_body(body: Mapping[str, Any], most: int) -> None:
    """Refuse a request that is too large as a whole."""
    size = len(json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    if size > most:
        what = f"the request has {_megabytes(size)}, {_megabytes(most, 0)} is the most"
        raise refuse("image_base64", None, f"{what}; make the picture smaller or pass a link")


def _megabytes(size: int, digits: int = 1) -> str:
    return f"{size / 1024**2:.{digits}f} MB"


def _check_sides(place: str, measured: tuple[int, int], field: FileField) -> None:
    short, long = sorted(measured)
    least, most = field.side_min or 0, field.side_max or long
    if short < least or long > most:
        what = f"{measured[0]}x{measured[1]} pixels, each side is {least} to {most}"
        raise refuse(place, None, f"{what}; scale the picture")
    if field.ratio_max and long > short * field.ratio_max:
        what = (
            f"{measured[0]}x{measured[1]} pixels, sides differ by {field.ratio_max:g} times at most"
        )
        raise refuse(place, None, f"{what}; crop the picture")


def normal(name: str) -> str:
    """Return the one name of a file type that has two."""
    return _SAME.get(name, name)


def formats(field: FileField) -> str:
    """Return the file types that a field takes, for an error."""
    return ", ".join(field.formats)


def refuse(place: str, value: Any, advice: str) -> InvalidRequestError:
    """Return the error of a file input: its field, its value cut short, and what to do."""
    what = f"{shown(value)}: " if value is not None and not isinstance(value, BaseModel) else ""
    return InvalidRequestError(f"{place}: {what}{advice}", phase="not sent")
