"""Which media submits are accepted. Pure: a body in, a refusal or the model's row out."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from PIL import Image

from langchain_tokenhub.testing.cards import UNREADABLE
from langchain_tokenhub.testing.errors import MediaRefusedError, check_model
from langchain_tokenhub.testing.tables import Body, Row, table

FieldCheck = Callable[[str, Any, Row], None]
_INVALID = "InvalidParameter.InvalidParameter"


def check_media(kind: str, body: Body, added: Collection[str] = ()) -> Row:
    """Return the row of a submit's model, or refuse the first field that is wrong."""
    model = body.get("model")
    _require(isinstance(model, str) and model, "model is required", "MissingParameter")
    check_model(model, kind, added)
    row: Row = table("media_rules")["model"].get(model, {})
    if row.get("kind") != kind:
        return dict(table("media_rules")["other"][kind])
    _check_fields(body, row["fields"])
    for holds, message in map(_RULES.__getitem__, row["rules"]):
        _require(holds(body), message)
    return row


def _check_fields(body: Body, fields: Mapping[str, Row]) -> None:
    for name in body.keys() - fields.keys() - {"model"}:
        raise MediaRefusedError("InvalidParameter.UnknownParameter", f"unknown parameter {name}")
    for name, field in fields.items():
        value, is_required = body.get(name), field.get("required", False)
        _require(value is not None or not is_required, f"{name} is required", "MissingParameter")
        if value is not None:
            _TYPES[field["type"]](name, value, field)


def _require(holds: object, message: str, code: str = _INVALID) -> None:
    if not holds:
        raise MediaRefusedError(code, message)


# -- types of fields ----------------------------------------------------------------------------

_LINK = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?")
_DATA = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def _string(name: str, value: Any, field: Row) -> None:
    _require(isinstance(value, str), f"{name} must be a string")
    length, limit = len(value.strip()), field.get("max", 1_000_000)
    _require(length, f"{name} is empty", "InvalidParameterValue.TextEmpty")
    text = f"{name} has {length} characters, the limit is {limit}"
    _require(length <= limit, text, "InvalidParameterValue.TextLengthExceed")
    _check_words(name, value.upper() if field.get("any_case") else value, field)


def _check_words(name: str, value: Any, field: Row) -> None:
    words = field.get("words", [value])
    _require(value in words, f"{name} only supports {', '.join(map(str, words))}")


def _exact(kind: type, expected: str) -> FieldCheck:
    def check(name: str, value: Any, _: Row) -> None:
        _require(type(value) is kind, f"{name} must be {expected}")

    return check


_object = _exact(dict, "an object")
_whole = _exact(int, "an integer")


def _integer(name: str, value: Any, field: Row) -> None:
    _whole(name, value, field)
    _check_words(name, value, field)
    _check_bounds(name, value, field)


def _check_bounds(name: str, value: int, field: Row) -> None:
    low, high = field.get("low", value), field.get("high", value)
    _require(low <= value <= high, f"{name} must be within {low}..{high}")


def _each(check: FieldCheck) -> FieldCheck:
    def check_all(name: str, value: Any, field: Row) -> None:
        _require(isinstance(value, list), f"{name} must be a list")
        _check_bounds(f"the number of {name}", len(value), field)
        for at, one in enumerate(value):
            check(f"{name}[{at}]", one, field)

    return check_all


def _link(name: str, value: Any, _: Row) -> None:
    is_link = isinstance(value, str) and _LINK.fullmatch(value)
    _require(is_link, f"{name} is not a valid URL", "InvalidParameterValue.UrlIllegal")


def _image(name: str, value: Any, field: Row) -> None:
    """Check a link, raw base64 or a data URL."""
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        _link(name, value, field)
    else:
        data = _DATA.fullmatch(value) if isinstance(value, str) else None
        _base64(name, data.group(1) if data else value, field)


def _base64(name: str, value: Any, field: Row) -> None:
    """Check raw base64 of an image; a `data:` prefix is not allowed."""
    _require(isinstance(value, str) and value, f"{name} is required")
    text, limit = f"{name}: over {field['bytes']} bytes as base64", field["bytes"]
    _require(len(value) <= limit, text, "InvalidParameterValue.InvalidImageSize")
    try:
        raw = base64.b64decode(value, validate=True)
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
            sides = image.size
    except UNREADABLE as error:
        text = f"{name} cannot be decoded"
        raise MediaRefusedError("FailedOperation.ImageDecodeFailed", text) from error
    low, high = field["side"]
    text = f"{name}: sides must be within {low}..{high} pixels"
    is_within = low <= min(sides) <= max(sides) <= high
    _require(is_within, text, "InvalidParameterValue.InvalidImageResolution")


def _file(name: str, value: Any, field: Row) -> None:
    """Check an object with a url or raw base64; the url takes precedence."""
    _object(name, value, field)
    is_known = value and not value.keys() - {"url", "base64"}
    _require(is_known, f"{name} must be an object with url or base64")
    if value.get("url") is not None:
        _link(f"{name}.url", value["url"], field)
    else:
        _base64(f"{name}.base64", value.get("base64"), field)


def _view(name: str, value: Any, field: Row) -> None:
    _object(name, value, field)
    known = {"view_type", "view_image_url", "view_image_base64"}
    _require(not value.keys() - known, f"{name} has unknown fields")
    _check_words(f"{name}.view_type", value.get("view_type"), field)
    if value.get("view_image_url") is not None:
        _link(f"{name}.view_image_url", value["view_image_url"], field)
    else:
        _image(f"{name}.view_image_base64", value.get("view_image_base64"), field)


def _logo(name: str, value: Any, field: Row) -> None:
    _object(name, value, field)
    rect = value.get("logo_rect", {})
    is_known = not value.keys() - {"logo_url", "logo_image", "logo_rect"}
    is_whole = isinstance(rect, dict) and all(type(v) is int for v in rect.values())
    is_right = is_known and is_whole and not rect.keys() - {"x", "y", "width", "height"}
    _require(is_right, f"{name} is wrong", "InvalidParameterValue.LogoParamErr")


_TYPES: dict[str, FieldCheck] = {
    "string": _string,
    "integer": _integer,
    "boolean": _exact(bool, "true or false"),
    "object": _object,
    "logo": _logo,
    "link": _link,
    "base64": _base64,
    "file": _file,
    "files": _each(_file),
    "images": _each(_image),
    "views": _each(_view),
}


# -- rules across fields ------------------------------------------------------------------------


def size_of(text: str) -> tuple[int, int]:
    """Read a resolution, width and height with a colon between them."""
    match = re.fullmatch(r"(\d{2,4}):(\d{2,4})", text)
    if not match:
        raise MediaRefusedError(_INVALID, "resolution must look like 1024:1024")
    return int(match.group(1)), int(match.group(2))


def _is_lite_size(body: Body) -> bool:
    text = body.get("resolution")
    return not text or max(size_of(text)) in table("media_rules")["lite"]["long_sides"]


def _is_v3_size(body: Body) -> bool:
    limits = table("media_rules")["v3"]
    low, high = limits["side"]
    sides = size_of(body.get("resolution") or "1024:1024")
    return bool(low <= min(sides) <= max(sides) <= high and math.prod(sides) <= limits["area"])


def _fits_template(body: Body) -> bool:
    low, high = table("media_rules")["templates"].get(body["template"], (1, 1))
    return bool(low <= len(body["images"]) <= high)


def _sources(body: Body, *names: str) -> int:
    return sum(body.get(name) is not None for name in (*names, "image_url", "image_base64"))


def _needs_image(body: Body) -> bool:
    _require(_sources(body), "image_url or image_base64 is required", "MissingParameter")
    return True


def _views_fit(body: Body) -> bool:
    kinds = [view["view_type"] for view in body.get("multi_view_images") or []]
    is_alone = body.get("prompt") is None and _sources(body) > 0
    return body.get("multi_view_images") is None or (is_alone and len(set(kinds)) == len(kinds))


_ONE_SOURCE = "exactly one of prompt, image_url, image_base64 is required"
_RULES: dict[str, tuple[Callable[[Body], bool], str]] = {
    "lite_size": (_is_lite_size, "the long side of resolution is not supported"),
    "v3_size": (_is_v3_size, "a side or the area of resolution is out of range"),
    "template_images": (_fits_template, "the template takes another number of images"),
    "needs_image": (_needs_image, ""),
    "one_source": (lambda b: _sources(b, "prompt") == 1, _ONE_SOURCE),
    "one_source_or_sketch": (
        lambda b: 1 <= _sources(b, "prompt") <= (3 if b.get("generate_type") == "Sketch" else 1),
        _ONE_SOURCE,
    ),
    "views": (_views_fit, "multi_view_images needs an image, no prompt, and different view_types"),
    "low_poly": (
        lambda b: b.get("polygon_type") is None or b.get("generate_type") == "LowPoly",
        "polygon_type needs generate_type LowPoly",
    ),
    "geometry_format": (
        lambda b: not b.get("enable_geometry") or str(b.get("result_format")).upper() != "OBJ",
        "enable_geometry does not support result_format OBJ",
    ),
}
