"""Which class holds a model's parameters, and the schema a language model sees."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, create_model

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.params.base import MediaParams
from langchain_tokenhub.params.image import HyImageLite, HyImageV3, ImageParams
from langchain_tokenhub.params.three_d import Hy3D30, Hy3D31, Hy3DExpress, ThreeDParams
from langchain_tokenhub.params.validators import Text, without_query
from langchain_tokenhub.params.video import (
    HyVideo15,
    VideoParams,
    YtVideo2,
    YtVideoFx,
    YtVideoHumanactor,
)

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

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
        model: a model id; an unknown or `ep-…` id has the common parameters of its kind.
        kind: needed only for ids that are not listed.
    """
    known = _BY_MODEL.get(model.lower())
    if known:
        return known
    if kind is None:
        raise ValueError(f"model: {model!r} is not listed; say its kind: {', '.join(_BY_KIND)}")
    return _BY_KIND[kind]


def schema_class(model: str, language: Language, kind: Kind | None = None) -> type[MediaParams]:
    """Return `model`'s parameter class with the descriptions of `language`, for `args_schema`."""
    return _said(params_class(model, kind), language)


@functools.cache
def _said(cls: type[MediaParams], language: Language) -> type[MediaParams]:
    # the same fields again, each with its description: validators and order come from `cls`
    fields = {name: _field(field, language) for name, field in cls.model_fields.items()}
    made = create_model(
        cls.__name__, __base__=cls, __module__=cls.__module__, **cast("Any", fields)
    )
    return cast("type[MediaParams]", made)


def _field(field: FieldInfo, language: Language) -> tuple[Any, Any]:
    text = next(item for item in field.metadata if isinstance(item, Text))
    description = Field(description=text.zh if language == "zh" else text.en)
    annotated: Any = Annotated
    annotation = annotated[field.annotation, *field.metadata, description]
    return annotation, ... if field.is_required() else field.default


def explain(error: ValidationError, *, model: str) -> str:
    """Return one line per problem: field, value, limit, next step; no prompt, no link's query."""
    problems = error.errors(include_url=False, include_input=False)
    return "\n".join(without_query(_sentence(dict(problem), model)) for problem in problems)


def _sentence(problem: dict[str, Any], model: str) -> str:
    place = ".".join(map(str, problem["loc"]))
    where = f"{place}: " if place else ""
    match problem:
        case {"ctx": {"what": what, "advice": advice}}:
            return f"{where}{what} ({model}); {advice}"
        case {"type": "missing"}:
            return f"{where}missing ({model}); it is required"
        case {"type": "extra_forbidden"}:
            return f"{where}not a parameter of {model}; check its name, or put it into extra="
        case _:
            return f"{where}{problem['msg']} ({model})"
