"""A result's images as content blocks, for models that accept images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.jobs.models import MediaFile
from langchain_tokenhub.transport import Runtime

MAX_SIDE = 1024
"""Pixels of a block's longer side."""
MAX_PIXELS = 64_000_000
"""Pixels of an image that is decoded."""


async def image_blocks(runtime: Runtime, files: Sequence[MediaFile]) -> list[dict[str, Any]]:
    """Return an image block for each file; one that cannot be read is omitted with a warning."""
    found = [await _block(runtime, file) for file in files]
    return [block for block in found if block is not None]


async def _block(runtime: Runtime, file: MediaFile) -> dict[str, Any] | None:
    try:
        data = await file._read(runtime)
        small = await runtime.blocking(_scale, data)
    except Exception as problem:  # noqa: BLE001 - the image is paid for, whatever Pillow raises
        warn_user(f"an image of the result is not shown to the model: {type(problem).__name__}")
        return None
    return {
        "type": "image",
        "base64": base64.b64encode(small).decode(),
        "mime_type": "image/jpeg",
    }


def _scale(data: bytes) -> bytes:
    """Return an image as JPEG, at most `MAX_SIDE` pixels a side."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("too large")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()
