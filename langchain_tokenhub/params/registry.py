"""The parameter class of a model, its localized schema, and the text of its errors."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.catalogue.toml import rows
from langchain_tokenhub.params.base import MediaParams
from langchain_tokenhub.params.image import HyImageLite, HyImageV3, ImageParams
from langchain_tokenhub.params.three_d import Hy3D30, Hy3D31, Hy3DExpress, ThreeDParams
from langchain_tokenhub.params.validators import strip_query
from langchain_tokenhub.params.video import (
    HyVideo15,
    VideoParams,
    YtVideo2,
    YtVideoFx,
    YtVideoHumanactor,
)

if TYPE_CHECKING:
    from pydantic import ValidationError

Language = Literal["zh", "en"]

_MODELS: tuple[type[MediaParams], ...] = (
    *(HyImageLite, HyImageV3),
    *(HyVideo15, YtVideo2, YtVideoFx, YtVideoHumanactor),
    *(Hy3D30, Hy3D31, Hy3DExpress),
)
_BY_MODEL = {cls.model: cls for cls in _MODELS}
_BY_KIND: dict[Kind, type[MediaParams]] = {
    "image": ImageParams,
    "video": VideoParams,
    "3d": ThreeDParams,
}


def params_class(model: str, kind: Kind | None = None) -> type[MediaParams]:
    """Return the parameter class of `model` in any letter case.

    Args:
        model: Model id; an unknown or `ep-…` id has the common parameters of its kind.
        kind: Kind of the model; needed only for ids that are not listed.

    Raises:
        ValueError: The id is not listed, and no kind was given.
    """
    known = _BY_MODEL.get(model.lower())
    if known:
        return known
    if kind is None:
        raise ValueError(f"model: {model!r} is not listed; give its kind: {', '.join(_BY_KIND)}")
    return _BY_KIND[kind]


def schema_class(model: str, language: Language, kind: Kind | None = None) -> type[MediaParams]:
    """Return `model`'s parameter class with the descriptions of `language`, for `args_schema`."""
    return _localize(params_class(model, kind), language)


@functools.cache
def _localize(cls: type[MediaParams], language: Language) -> type[MediaParams]:
    # the same fields again, each with its description: validators and order come from `cls`
    fields: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        described = Field(description=description(cls, name, language))
        annotated: Any = Annotated
        annotation = annotated[field.annotation, *field.metadata, described]
        fields[name] = annotation, ... if field.is_required() else field.default
    return create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **fields)


def description(cls: type[MediaParams], name: str, language: Language) -> str:
    """Return the description of a parameter for language models."""
    texts = rows("param_descriptions")
    tables = (texts.get(base.__name__, {}) for base in cls.__mro__)
    text: str = next(table[name][language] for table in tables if name in table)
    return text.replace("{sources}", texts["sources"][language])


def explain(error: ValidationError, *, model: str) -> str:
    """Return one line per error: field, value, limit, next step; no prompt, no link's query."""
    errors = error.errors(include_url=False, include_input=False)
    return "\n".join(strip_query(_sentence(dict(one), model)) for one in errors)


def _sentence(error: dict[str, Any], model: str) -> str:
    path = ".".join(map(str, error["loc"]))
    field = f"{path}: " if path else ""
    match error:
        case {"type": "unknown_name", "ctx": {"what": what, "advice": advice}}:
            return f"{field}{what} of {model}; {advice}"
        case {"ctx": {"what": what, "advice": advice}}:
            return f"{field}{what} ({model}); {advice}"
        case {"type": "missing"}:
            return f"{field}missing ({model}); it is required"
        case _:
            return f"{field}{error['msg']} ({model})"
