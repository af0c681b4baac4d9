"""Resolves file inputs and encodes them in the shape of their parameter.

Plain code may pass links, data URLs, paths, `file:` URIs, bytes, pictures and earlier results. A
language model passes a string: a link, a data URL, the id of a known job, or a path or `file:` URI
inside an allowed folder.
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
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import BaseModel, ValidationError

from langchain_tokenhub.errors import InvalidRequestError, JobRef, ResultExpiredError, TokenHubError
from langchain_tokenhub.jobs.media_types import HEAD, PICTURES, media_type_of, sides
from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult, without_query
from langchain_tokenhub.jobs.sidecars import source_of
from langchain_tokenhub.params import (
    FileField,
    MediaParams,
    ParamObject,
    encode_params,
    file_fields,
    short_repr,
)
from langchain_tokenhub.transport import Runtime

Find = Callable[[str], Awaitable[Job | None]]
"""Looks a job up by its id."""
Refresh = Callable[[JobRef], Awaitable[Job]]
"""Queries a completed job for fresh links."""

_LINK = re.compile(r"https?://\S+", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_FILE_URI = re.compile(r"file:/", re.IGNORECASE)
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{5,127}")
_MAX_READ = 64 * 1024**2
"""Bytes above which a file is refused unread."""


@dataclass(frozen=True)
class Link:
    """A file sent as a link; `source` tells which file it is, whatever its link."""

    url: str
    source: str | None = None

    @property
    def identity(self) -> str:
        """What tells it from other files."""
        return self.source or self.url


@dataclass(frozen=True)
class Data:
    """A file sent as bytes; `source` tells which file it is, if it came from a job."""

    data: bytes
    source: str | None = None

    @property
    def identity(self) -> str:
        """What tells it from other files."""
        return self.source or f"sha256 {hashlib.sha256(self.data).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads the files that parameters name.

    Args:
        runtime: Sync or async runtime.
        find: Looks up an earlier job.
        refresh: Asks for fresh links.
        folders: Folders that a language model may name files in; None for plain code.
        find_source: Returns which job's file a link leads to; None without a ledger.
        identities: The files of the parameters by their places, once `body` has found them.
        problems: Why files that are known cannot be sent, or not any more.
    """

    runtime: Runtime
    find: Find
    refresh: Refresh
    folders: tuple[Path, ...] | None = None
    find_source: Callable[[str], Awaitable[str | None]] | None = None
    identities: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[TokenHubError] = dataclasses.field(default_factory=list)

    async def body(self, params: MediaParams) -> dict[str, Any]:
        """Return the parameters as sent, with encoded files."""
        sent = await self._encoded(params)
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

    async def _encoded(self, params: MediaParams) -> dict[str, Any]:
        body = await self._with_files(encode_params(params), file_fields(type(params)))
        for name, value in params:
            if isinstance(value, list) and value and isinstance(value[0], ParamObject):
                body[name] = [
                    await self._with_files(sent, file_fields(type(part)), f"{name}[{number}].")
                    for number, (part, sent) in enumerate(zip(value, body[name], strict=True))
                ]
        return body

    def call_of(self, params: MediaParams, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what makes a request the same as another: its files as what they are."""
        call = _without_files(body, params)
        for name, value in params:
            if isinstance(value, list) and value and isinstance(value[0], ParamObject):
                call[name] = [
                    _without_files(sent, part) for sent, part in zip(call[name], value, strict=True)
                ]
        return call | self.identities

    async def _with_files(
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

    async def _field(self, where: str, name: str, value: Any, field: FileField) -> dict[str, Any]:
        if field.many:
            files = [await self._file(f"{where}[{i}]", one, field) for i, one in enumerate(value)]
            strings = field.shape == "string_list"
            return {name: [_text(file) if strings else _object(file) for file in files]}
        file = await self._file(where, value, field)
        if field.shape == "url_or_base64_object":
            return {name: _object(file)}
        if isinstance(file, Link):
            return {name: file.url}
        if field.base64_field is None:
            self._defer(refusal(where, value, "only a public link is taken here"))
        return {field.base64_field or name: _text(file)}

    async def _file(self, where: str, value: Any, field: FileField) -> Link | Data:
        file = await self._find(where, value, field)
        self.identities[where] = file.identity
        if isinstance(file, Data):
            try:
                check(where, file.data, field)
            except InvalidRequestError as problem:
                self._defer(problem)
        return file

    async def _find(self, where: str, value: Any, field: FileField) -> Link | Data:
        match value:
            case str():
                return await self._from_text(where, value, field)
            case Mapping() if self.folders is None and (files := _earlier(value)):
                return await self._from_files(where, files, field)
            case Mapping():
                return await self._from_block(where, value, field)
            case _ if self.folders is not None:
                raise refusal(where, value, "a string is needed")
            case _:
                return await self._from_code(where, value, field)

    async def _from_code(self, where: str, value: Any, field: FileField) -> Link | Data:
        """Resolve a value that only plain code may pass."""
        match value:
            case bytes() | bytearray() | memoryview():
                return Data(bytes(value))
            case os.PathLike():
                return await self._load(where, Path(value))
            case MediaFile():
                return await self._from_files(where, [value], field)
            case MediaResult():
                return await self._from_files(where, value.files, field)
            case JobRef():
                known = value if isinstance(value, Job) and value.files else None
                known = known or await self.find(value.id)
                return await self._from_files(where, known.files if known else [], field)
            case _ if isinstance(artifact := getattr(value, "artifact", None), Mapping):
                return await self._find(where, artifact, field)
            case _ if callable(getattr(value, "save", None)) and hasattr(value, "mode"):
                return await self._read(where, functools.partial(_as_png, value))
            case _ if callable(getattr(value, "read", None)):
                return await self._read(where, value.read)
            case _ if hasattr(value, "__array_interface__") or hasattr(value, "__array__"):
                raise refusal(where, value, "an array is taken as PIL.Image.fromarray(array)")
            case _:
                raise refusal(where, value, _TAKEN)

    async def _read(self, where: str, read: Callable[[], Any]) -> Data:
        """Return the bytes of a picture or an open file."""
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
        raise refusal(where, None, f"the file cannot be read: {reason}")

    async def _from_text(self, where: str, text: str, field: FileField) -> Link | Data:
        text = text.strip()
        if _LINK.fullmatch(text):
            scheme, _, rest = text.partition("://")
            link = f"{scheme.lower()}://{rest}"  # not every fetcher knows HTTPS://
            return Link(link, await self._source(link))
        if head := _DATA_URL.match(text):
            return Data(_decoded(where, text[head.end() :]))
        if _JOB_ID.fullmatch(text) and (job := await self.find(text)):
            return await self._from_files(where, job.files, field)
        path = await self._path(text)
        if path is not None:
            return await self._load(where, path)
        if self.folders is None and len(text) > 64:
            with suppress(InvalidRequestError):
                return Data(_decoded(where, text))
        advice = _TAKEN if self.folders is None else _TAKEN_FROM_MODEL
        raise refusal(where, text, f"no file is there; {advice}")

    async def _from_block(
        self, where: str, block: Mapping[str, Any], field: FileField
    ) -> Link | Data:
        """Resolve a LangChain image block, or the service's own shape."""
        match block:
            case {"image_url": {"url": str() as text}} | {"image_url": str() as text}:
                return await self._from_text(where, text, field)
            case {"url": str() as text}:
                return await self._from_text(where, text, field)
            case {"base64": str() as text} | {"data": str() as text}:
                return Data(_decoded(where, _DATA_URL.sub("", text)))
            case _:
                raise refusal(where, block, _TAKEN)

    async def _from_files(
        self, where: str, files: list[MediaFile], field: FileField
    ) -> Link | Data:
        """Resolve the first file of an earlier result that fits, or its preview."""
        fitting = [file for file in files if normal(file.type) in map(normal, field.formats)]
        if fitting:
            return await self._from_file(where, fitting[0])
        pictures = [picture for file in files if (picture := file.preview)]
        if pictures and PICTURES & set(field.formats):
            return await self._from_file(where, pictures[0])
        found = ", ".join(file.type for file in files) or "no file yet"
        raise refusal(where, None, f"the earlier job made {found}; {formats(field)} is needed")

    async def _from_file(self, where: str, file: MediaFile) -> Link | Data:
        """Resolve a file of an earlier result; if it is gone, a ledger may know its call."""
        source = file.source or (file.url and (await self._source(file.url) or file.url))
        problem: TokenHubError
        try:
            found = await self._from_live_file(where, file)
        except TokenHubError as error:
            problem = error
        else:
            return dataclasses.replace(found, source=source)
        self._defer(problem)
        return Link(file.url or "", source)

    async def _source(self, link: str) -> str | None:
        return await self.find_source(link) if self.find_source else None

    async def _from_live_file(self, where: str, file: MediaFile) -> Link | Data:
        """Resolve a file of an earlier result; a dead link is refreshed once.

        Raises:
            ResultExpiredError: The link is dead, and so is the fresh one.
        """
        if await self._has_live_link(file):
            return Link(file.url or "")
        with suppress(InvalidRequestError, OSError):
            return Data(await file.model_copy(update={"url": None})._read(self.runtime))
        fresh = await self._fresh(file, file._job) if file._job else None
        if fresh is not None and not await fresh._is_dead(self.runtime):
            return Link(fresh.url or "")
        try:
            return Data(await file._read(self.runtime))
        except ResultExpiredError as dead:
            dead.hint = "it was not saved, and no fresh link works; make it anew"
            if file._job is not None:
                raise
        raise refusal(where, None, "its link is dead and it was not saved; make it anew")

    async def _has_live_link(self, file: MediaFile) -> bool:
        """Return True if the file's link works; links of unknown jobs are not tried."""
        if not file.url or file.expired():
            return False
        return file._job is None or not await file._is_dead(self.runtime)

    async def _fresh(self, file: MediaFile, job: JobRef) -> MediaFile | None:
        """Return the same file with a fresh link, if the service still knows its job."""
        try:
            files = (await self.refresh(job)).files
        except TokenHubError:
            return None
        linked = [one for made in files for one in (made, made.preview) if one and one.url]
        same = [one for one in linked if without_query(one.url) == without_query(file.url)]
        alike = [one for one in linked if one.type == file.type]
        return same[0] if same else alike[0] if len(alike) == 1 else None

    async def _path(self, text: str) -> Path | None:
        return await self.runtime.blocking(functools.partial(_path, text, self.folders))

    async def _load(self, where: str, path: Path) -> Data:
        try:
            return await self.runtime.blocking(functools.partial(_load, path))
        except OSError as problem:
            reason = problem.strerror or type(problem).__name__
        raise refusal(where, str(path), f"the file cannot be read: {reason}")


_TAKEN = "a link, data URL, path, bytes, image, or an earlier result or its job ID is taken"
_TAKEN_FROM_MODEL = (
    "a link, a data URL, the ID of an earlier job, or a path in an allowed folder is taken"
)


def is_path(text: str) -> bool:
    """Return True if a text for plain code can only be a file's path."""
    if _LINK.fullmatch(text) or _DATA_URL.match(text) or _FILE_URI.match(text):
        return False
    if len(text) > 64:
        with suppress(InvalidRequestError):
            return not _decoded("", text)
    return not _JOB_ID.fullmatch(text)


def _path(text: str, folders: tuple[Path, ...] | None) -> Path | None:
    """Return the path of the file that `text` names, if it exists and may be read."""
    if _FILE_URI.match(text):
        text = _path_of_uri(text)
    if not text or len(text) > 4096 or "\x00" in text:
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


def _path_of_uri(uri: str) -> str:
    """Return the path of a `file:` URI of this machine, else an empty string."""
    with suppress(ValueError):
        parts = urlsplit(uri)
        if parts.netloc.lower() in {"", "localhost"} and not parts.query and not parts.fragment:
            return url2pathname(parts.path)
    return ""


def _load(path: Path) -> Data:
    path = path.expanduser()
    facts = path.stat()
    if facts.st_size > _MAX_READ:
        raise OSError(0, f"it is larger than {_MAX_READ // 1024**2} MB")
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
        raise OSError(0, "it is no regular file")  # a device may be endless
    data = path.read_bytes()
    return Data(data, source_of(path, data))


def _without_files(body: Mapping[str, Any], params: BaseModel) -> dict[str, Any]:
    fields = file_fields(type(params))
    files = {*fields, *(field.base64_field for field in fields.values())}
    return {name: value for name, value in body.items() if name not in files}


def _earlier(value: Mapping[str, Any]) -> list[MediaFile]:
    """Return the files of a dumped result, job or file: a tool's artifact, a sidecar."""
    with suppress(ValidationError):
        match value:
            case {"job": Mapping() as job, "files": list() as files}:
                return MediaResult.model_validate({"job": job, "files": files}).files
            case {"id": _, "kind": _, "files": list()}:
                return Job.model_validate(value).files
            case {"files": list() as files}:
                return [MediaFile.model_validate(file) for file in files]
            case {"type": _, "url": _, "preview_url": _}:
                return [MediaFile.model_validate(value)]
    return []


def _as_png(picture: Any) -> bytes:
    """Return a PIL image as a PNG, without importing Pillow."""
    buffer = io.BytesIO()
    plain = (
        picture if picture.mode in {"1", "L", "LA", "P", "RGB", "RGBA"} else picture.convert("RGB")
    )
    plain.save(buffer, format="PNG")
    return buffer.getvalue()


def _plain(text: str) -> bytes:
    """Return the bytes of validated base64, whose padding may be missing."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except binascii.Error:
        return b""


def _decoded(where: str, text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise refusal(where, None, _TAKEN)


def _text(file: Link | Data) -> str:
    return file.url if isinstance(file, Link) else base64.b64encode(file.data).decode()


def _object(file: Link | Data) -> dict[str, str]:
    return {"url" if isinstance(file, Link) else "base64": _text(file)}


_SAME = {"jpg": "jpeg", "tif": "tiff"}


def check(where: str, data: bytes, field: FileField) -> None:
    """Raise for bytes that the service would refuse."""
    if not data:
        raise refusal(where, None, "the file is empty")
    _check_size(where, len(data), field)
    found = media_type_of(data[:HEAD])
    if found is None or normal(found) not in map(normal, field.formats):
        raise refusal(
            where, None, f"the file is {found or 'of no known type'}; {formats(field)} is needed"
        )
    if (measured := sides(data)) is not None:
        _check_sides(where, measured, field)


def _check_size(where: str, size: int, field: FileField) -> None:
    encoded, most = (size + 2) // 3 * 4, field.max_bytes_base64
    if most and encoded > most:
        what = f"{_megabytes(encoded)} as base64, {_megabytes(most, 0)} is the most"
        raise refusal(where, None, f"{what}; make it smaller or pass a link")
    if most is None and field.max_bytes_url and size > field.max_bytes_url:
        what = f"{_megabytes(size)}, {_megabytes(field.max_bytes_url, 0)} is the most"
        raise refusal(where, None, f"{what}; make it smaller")


def check_body(body: Mapping[str, Any], most: int) -> None:
    """Raise for a request that is too large as a whole."""
    size = len(json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    if size > most:
        what = f"the request has {_megabytes(size)}, {_megabytes(most, 0)} is the most"
        raise refusal("image_base64", None, f"{what}; make the picture smaller or pass a link")


def _megabytes(size: int, digits: int = 1) -> str:
    return f"{size / 1024**2:.{digits}f} MB"


def _check_sides(where: str, measured: tuple[int, int], field: FileField) -> None:
    short, long = sorted(measured)
    least, most = field.side_min or 0, field.side_max or long
    if short < least or long > most:
        what = f"{measured[0]}x{measured[1]} pixels, each side is {least} to {most}"
        raise refusal(where, None, f"{what}; scale the picture")
    if field.ratio_max and long > short * field.ratio_max:
        what = (
            f"{measured[0]}x{measured[1]} pixels, sides differ by {field.ratio_max:g} times at most"
        )
        raise refusal(where, None, f"{what}; crop the picture")


def normal(name: str) -> str:
    """Return the canonical name of a file type."""
    return _SAME.get(name, name)


def formats(field: FileField) -> str:
    """Return the file types of a field, for an error."""
    return ", ".join(field.formats)


def refusal(where: str, value: Any, advice: str) -> InvalidRequestError:
    """Return an error with the field, the shortened value and what to do."""
    what = (
        f"{short_repr(value)}: " if value is not None and not isinstance(value, BaseModel) else ""
    )
    return InvalidRequestError(f"{where}: {what}{advice}", phase="not sent")
