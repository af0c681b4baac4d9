"""Renders files as HTML for a notebook."""

from __future__ import annotations

import base64
import html
import io
import logging
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from langchain_tokenhub.jobs.files import IMAGES, MEDIA_TYPES, VIDEOS

logger = logging.getLogger("langchain_tokenhub.jobs")

MAX_INLINE = 2 * 1024**2
"""Bytes up to which a file is embedded in the notebook."""
MAX_MESH = 8 * 1024**2
"""Bytes up to which a 3D model is embedded with its viewer."""
VIEWABLE = frozenset({"glb", "obj", "stl"})
"""File types that trimesh reads by itself."""
BROWSER_IMAGES = IMAGES - {"tiff"}
_SIZE = 'style="max-width:100%;max-height:480px"'


@dataclass(frozen=True)
class Shown:
    """A file to show: its bytes, the saved file, or a link that has not expired."""

    type: str
    path: Path | None
    data: bytes | None
    url: str | None


def file_html(file: Shown, preview: Shown | None) -> str:
    """Return an image, a video player, a 3D viewer, or a link below the preview image."""
    source = html.escape(_source(file) or "")
    name = html.escape(str(file.path) if file.path else file.type)
    mesh = _bytes(file, MAX_MESH) if file.type == "glb" else None
    if mesh is not None and (page := viewer_page(mesh)):
        frame = 'width="100%" height="480" style="border:0"'
        return f'<iframe srcdoc="{html.escape(page)}" {frame}></iframe>'
    if source and file.type in BROWSER_IMAGES:
        return f'<img src="{source}" alt="{name}" {_SIZE}>'
    if source and file.type in VIDEOS:
        return f'<video src="{source}" controls preload="metadata" {_SIZE}></video>'
    given = html.escape(file.path.name if file.path else f"tokenhub.{file.type}")
    link = f'<a href="{source}" download="{given}">{name}</a>' if source else name
    image = html.escape((preview and _source(preview)) or "")
    shown = f'<img src="{image}" alt="" {_SIZE}>' if image else ""
    return f"{shown}<div>{link}</div>"


def _source(file: Shown) -> str | None:
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
    return file.url if (file.url or "").startswith(("https://", "http://")) else None


def _bytes(file: Shown, most: int) -> bytes | None:
    """Return the local bytes, if there are at most `most`."""
    if file.data is not None:
        return file.data if len(file.data) <= most else None
    with suppress(OSError):
        if file.path is not None and file.path.stat().st_size <= most:
            return file.path.read_bytes()
    return None


def viewer_page(model: Path | bytes, kind: str = "glb") -> str | None:
    """Return a self-contained page, or None if trimesh is missing or cannot read the model.

    Of a file, rather than its bytes, the textures next to it are found.
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
