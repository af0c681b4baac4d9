"""A 3D model as a page that turns it: three.js inside, no network. Needs the extra `viewer`."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

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
