"""What a result looks like, to a language model and in a notebook."""

from __future__ import annotations

import base64
import html
import io
import logging
import warnings
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from langchain_tokenhub.jobs.media_types import MEDIA_TYPES, PICTURES, VIDEOS

if TYPE_CHECKING:
    from langchain_tokenhub.jobs.models import MediaFile, MediaResult

INLINE = 2 * 1024**2
"""Bytes up to which a saved file is put into the notebook itself; more bloats it."""
MOST_MESH = 8 * 1024**2
"""Bytes of a 3D model up to which the notebook holds its viewer: nothing else can show it."""
_SEEN = PICTURES - {"tiff"}
"""Pictures that browsers show."""
_SIZE = 'style="max-width:100%;max-height:480px"'


def result_text(result: MediaResult) -> str:
    """Return a few plain words: the job's id first, because a model garbles long links."""
    job = result.job
    took = f" in {result.seconds:.0f} s" if result.seconds is not None else ""
    files = "; ".join(_file_text(file) for file in result.files)
    return f"job {job.id} ({job.model}) {job.status}{took}: {files or 'no file'}"


def _file_text(file: MediaFile) -> str:
    saved = f" saved: {file.path}" if file.path else ""
    unpacked = f" unpacked: {file.unpacked}" if file.unpacked else ""
    link = f" url: {file.url}" if file.url else ""
    dies = f" (link expires {_clock(file.expires_at)})" if file.url and file.expires_at else ""
    nowhere = "" if saved or link else " (not kept: set save_to)"
    return f"{file.type}{saved}{unpacked}{link}{dies}{nowhere}"


def _clock(moment: datetime) -> str:
    return moment.astimezone().isoformat(" ", "minutes")


def file_html(file: MediaFile) -> str:
    """Return what a notebook shows: the picture, the player, the model, or a link."""
    source = html.escape(_source(file) or "", quote=True)
    name = html.escape(str(file.path) if file.path else file.type)
    if page := _page(file):
        inside = html.escape(page, quote=True)
        frame = 'width="100%" height="480" style="border:0"'
        return f'<iframe srcdoc="{inside}" {frame}></iframe>'
    if source and file.type in _SEEN:
        return f'<img src="{source}" alt="{name}" {_SIZE}>'
    if source and file.type in VIDEOS:
        return f'<video src="{source}" controls preload="metadata" {_SIZE}></video>'
    link = f'<a href="{source}" download="{_name(file)}">{name}</a>' if source else name
    return f"{_preview(file)}<div>{link}</div>"


def result_html(result: MediaResult) -> str:
    """Return the files, one below the other, over a line that names the job."""
    job = html.escape(f"{result.job.model}/{result.job.id}")
    files = "".join(f"<div>{file_html(file)}</div>" for file in result.files)
    return f"{files}<small>{job}</small>"


def _name(file: MediaFile) -> str:
    return html.escape(file.path.name if file.path else f"tokenhub.{file.type}", quote=True)


def _source(file: MediaFile) -> str | None:
    """Return where a browser finds the file: in the page if it is small, else on disk, else afar.

    A notebook serves what lies below its own folder, and nothing else of the disk.
    """
    data = _bytes(file, INLINE)
    if data is not None:
        kind = MEDIA_TYPES.get(file.type, "application/octet-stream")
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    if file.path is not None and file.path.is_file():
        with suppress(ValueError):
            return quote(file.path.resolve().relative_to(Path.cwd()).as_posix())
    return _remote(file, file.url)


def _remote(file: MediaFile, url: str | None) -> str | None:
    """Return a link that is alive and of the web."""
    fit = url is not None and url.startswith(("https://", "http://")) and not file.expired()
    return url if fit else None


def _bytes(file: MediaFile, most: int) -> bytes | None:
    """Return the bytes that are here, if they are few."""
    if file.held is not None:
        return file.held if len(file.held) <= most else None
    with suppress(OSError):
        if file.path is not None and file.path.stat().st_size <= most:
            return file.path.read_bytes()
    return None


def _preview(file: MediaFile) -> str:
    source = _source(file.preview) if file.preview else None
    return f'<img src="{html.escape(source, quote=True)}" alt="" {_SIZE}>' if source else ""


def _page(file: MediaFile) -> str | None:
    """Return a viewer that needs no network, where trimesh is installed and the model is here."""
    data = _bytes(file, MOST_MESH) if file.type == "glb" else None
    return viewer_page(data) if data is not None else None


logger = logging.getLogger("langchain_tokenhub.jobs")

SHOWN = frozenset({"glb", "obj", "stl"})
"""File types that trimesh reads by itself."""


def viewer_page(model: Path | bytes, kind: str = "glb") -> str | None:
    """Return a self-contained page, or None where trimesh is missing or cannot read the model.

    Args:
        model: The file, so that its textures beside it are found; or its bytes.
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
        # a stranger's file in a stranger's reader: whatever it raises, there is merely no view
        logger.debug("no view of a %s", kind, exc_info=True)
        return None
