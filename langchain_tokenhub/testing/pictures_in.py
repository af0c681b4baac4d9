"""Pictures that come with a request: links, base64, and what they hold. Pure."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image, UnidentifiedImageError

from langchain_tokenhub.testing.refusals import MediaRefusedError, wrong

Row = Mapping[str, Any]
_LINK = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?")
_DATA = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def check_link(name: str, value: Any) -> None:
    """Check an http or https address."""
    if not isinstance(value, str) or not _LINK.fullmatch(value):
        raise MediaRefusedError("InvalidParameterValue.UrlIllegal", f"{name} is no valid URL")


def check_picture(name: str, value: Any, field: Row) -> None:
    """Check a link, raw base64 or a data URL."""
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        check_link(name, value)
        return
    data = _DATA.fullmatch(value) if isinstance(value, str) else None
    check_base64(name, data.group(1) if data else value, field)


def check_base64(name: str, value: Any, field: Row) -> None:
    """Check raw base64 of a picture; a `data:` prefix is no base64."""
    if not isinstance(value, str) or not value:
        raise wrong(f"{name} is required")
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise _undecodable(name) from error
    if len(value) > field["bytes"]:
        limit = f"{field['bytes']} bytes as base64"
        raise MediaRefusedError("InvalidParameterValue.InvalidImageSize", f"{name}: over {limit}")
    _check_pixels(name, raw, field)


def _undecodable(name: str) -> MediaRefusedError:
    return MediaRefusedError("FailedOperation.ImageDecodeFailed", f"{name} cannot be decoded")


def _check_pixels(name: str, raw: bytes, field: Row) -> None:
    low, high = field["side"]
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as picture:
            sides = picture.size
    except (UnidentifiedImageError, OSError) as error:
        raise _undecodable(name) from error
    if not low <= min(sides) <= max(sides) <= high:
        text = f"{name}: sides must be within {low}..{high} pixels"
        raise MediaRefusedError("InvalidParameterValue.InvalidImageResolution", text)
