"""What a result looks like, to a language model and in a notebook."""

from __future__ import annotations

import base64
import html
from datetime import datetime
from typing import TYPE_CHECKING

from langchain_tokenhub.jobs.sniff import MEDIA_TYPES, PICTURES, VIDEOS

if TYPE_CHECKING:
    from langchain_tokenhub.jobs.job import MediaFile, MediaResult

INLINE = 2 * 1024**2
"""Bytes up to which a saved file is put into the notebook itself; more bloats it."""
MOST_MESH = 8 * 1024**2


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
    name = html.escape(file.path.name if file.path else file.type)
    if not source:
        return f"<p>{name}</p>"
    if file.type in PICTURES:
        return f'<img src="{source}" alt="{name}" style="max-width:100%;max-height:480px">'
    if file.type in VIDEOS:
        return f'<video src="{source}" controls style="max-width:100%;max-height:480px"></video>'
    return _mesh(file) or _preview(file) + f'<a href="{source}" download>{name}</a>'


def result_html(result: MediaResult) -> str:
    """Return the files, one below the other, over a line that names the job."""
    job = html.escape(f"{result.job.model}/{result.job.id}")
    return (
        "".join(f"<div>{file_html(file)}</div>" for file in result.files) + f"<small>{job}</small>"
    )


def _source(file: MediaFile) -> str | None:
    """Return where a browser finds the file: in the page if it is small, else its link."""
    data = file.held
    if data is None and file.path is not None and file.path.is_file():
        data = file.path.read_bytes() if file.path.stat().st_size <= INLINE else None
    if data is not None and len(data) <= INLINE:
        kind = MEDIA_TYPES.get(file.type, "application/octet-stream")
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    if file.url and not file.expired():
        return file.url
    return file.path.as_posix() if file.path else file.url


def _preview(file: MediaFile) -> str:
    if not file.preview_url or file.expired():
        return ""
    return f'<img src="{html.escape(file.preview_url, quote=True)}" style="max-height:240px"><br>'


def _mesh(file: MediaFile) -> str | None:
    """Return a viewer that needs no network, where trimesh is installed and the file is here."""
    if file.type != "glb" or file.path is None or not file.path.is_file():
        return None
    if file.path.stat().st_size > MOST_MESH:
        return None
    try:
        import trimesh
        from trimesh.viewer.notebook import scene_to_html
    except ImportError:
        return None
    page = scene_to_html(trimesh.load_scene(file.path))
    return f'<iframe srcdoc="{html.escape(page, quote=True)}" width="100%" height="480"></iframe>'
