"""Renders results: as text for a language model, as HTML for a notebook."""

from __future__ import annotations

import base64
import html
import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from langchain_tokenhub.jobs.media_types import IMAGES, MEDIA_TYPES, VIDEOS

logger = logging.getLogger("langchain_tokenhub.jobs")

MAX_INLINE = 2 * 1024**2
"""Bytes up to which a file is embedded in the notebook."""
MAX_MESH = 8 * 1024**2
"""Bytes up to which a 3D model is embedded with its viewer."""
VIEWABLE = frozenset({"glb", "obj", "stl"})
"""File types that trimesh reads by itself."""
_BROWSER_IMAGES = IMAGES - {"tiff"}
_SIZE = 'style="max-width:100%;max-height:480px"'


class File(Protocol):
    """The attributes of a `MediaFile` that are rendered."""

    _data: bytes | None

    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def url(self) -> str | None: ...  # noqa: D102
    @property
    def path(self) -> Path | None: ...  # noqa: D102
    @property
    def unpacked(self) -> Path | None: ...  # noqa: D102
    @property
    def expires_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def preview(self) -> File | None: ...  # noqa: D102
    def expired(self) -> bool: ...  # noqa: D102


class Result(Protocol):
    """The attributes of a `MediaResult` that are rendered."""

    @property
    def job(self) -> Any: ...  # noqa: D102
    @property
    def files(self) -> Sequence[File]: ...  # noqa: D102
    @property
    def seconds(self) -> float | None: ...  # noqa: D102


def result_text(result: Result) -> str:
    """Return one line that begins with the job's id, because models misquote long links."""
    job = result.job
    took = f" in {result.seconds:.0f} s" if result.seconds is not None else ""
    files = "; ".join(_file_text(file) for file in result.files)
    return f"job {job.id} ({job.model}) {job.status}{took}: {files or 'no file'}"


def _file_text(file: File) -> str:
    saved = f" saved: {file.path}" if file.path else ""
    unpacked = f" unpacked: {file.unpacked}" if file.unpacked else ""
    link = f" url: {file.url}" if file.url and not saved else ""
    expires = ""
    if link and file.expires_at:
        expires = f" (link expires {file.expires_at.astimezone().isoformat(' ', 'minutes')})"
    lost = "" if saved or link else " (not kept: set save_to)"
    return f"{file.type}{saved}{unpacked}{link}{expires}{lost}"


def file_html(file: File) -> str:
    """Return an image, a video player, a 3D viewer, or a link."""
    source = html.escape(_source(file) or "", quote=True)
    name = html.escape(str(file.path) if file.path else file.type)
    if page := _page(file):
        inside = html.escape(page, quote=True)
        frame = 'width="100%" height="480" style="border:0"'
        return f'<iframe srcdoc="{inside}" {frame}></iframe>'
    if source and file.type in _BROWSER_IMAGES:
        return f'<img src="{source}" alt="{name}" {_SIZE}>'
    if source and file.type in VIDEOS:
        return f'<video src="{source}" controls preload="metadata" {_SIZE}></video>'
    link = f'<a href="{source}" download="{_name(file)}">{name}</a>' if source else name
    return f"{_preview(file)}<div>{link}</div>"


def result_html(result: Result) -> str:
    """Return the files, and a line that names the job."""
    job = html.escape(f"{result.job.model}/{result.job.id}")
    files = "".join(f"<div>{file_html(file)}</div>" for file in result.files)
    return f"{files}<small>{job}</small>"


def _name(file: File) -> str:
    return html.escape(file.path.name if file.path else f"tokenhub.{file.type}", quote=True)


def _source(file: File) -> str | None:
    """Return a data URL for a small file, else its path below this folder, else its link.

    A notebook serves only files below its own folder.
    """
    data = _bytes(file, MAX_INLINE)
    if data is not None:
        kind = MEDIA_TYPES.get(file.type, "application/octet-stream")
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    if file.path is not None and file.path.is_file():
        with suppress(ValueError):
            return quote(file.path.resolve().relative_to(Path.cwd()).as_posix())
    url = file.url or ""
    return url if url.startswith(("https://", "http://")) and not file.expired() else None


def _bytes(file: File, most: int) -> bytes | None:
    """Return the local bytes, if there are at most `most`."""
    if file._data is not None:
        return file._data if len(file._data) <= most else None
    with suppress(OSError):
        if file.path is not None and file.path.stat().st_size <= most:
            return file.path.read_bytes()
    return None


def _preview(file: File) -> str:
    source = _source(file.preview) if file.preview else None
    return f'<img src="{html.escape(source, quote=True)}" alt="" {_SIZE}>' if source else ""


def _page(file: File) -> str | None:
    """Return a viewer page if trimesh is installed and the model is local."""
    data = _bytes(file, MAX_MESH) if file.type == "glb" else None
    return viewer_page(data) if data is not None else None


def viewer_page(model: Path | bytes, kind: str = "glb") -> str | None:
    """Return a self-contained page, or None if trimesh is missing or cannot read the model.

    Args:
        model: The file, so that textures next to it are found; or its bytes.
        kind: File type of the bytes.
    """
    try:
        import trimesh
        from trimesh.viewer.notebook import scene_to_html
    except ImportError:
        return None
    source = io.BytesIO(model) if isinstance(model, bytes) else model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scene = trimesh.load_scene(source, file_type=kind)
            return str(scene_to_html(scene)) if scene.geometry else None
    except Exception:
        # trimesh raises all kinds of errors for broken files
        logger.debug("no view of a %s", kind, exc_info=True)
        return None
