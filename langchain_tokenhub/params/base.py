"""The base of the parameter classes: strictness, resumed jobs, shared fields, descriptions, errors.

The classes of this package are the table of parameters. Sources: the guide (2026-04-03), pages
图像生成, 视频生成, 3D 生成; the docstrings of the official SDKs aiart, vclm and ai3d; the product
pages named beside each class.
"""

from __future__ import annotations

import difflib
import functools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    create_model,
    model_validator,
)

from langchain_tokenhub.catalogue.toml import rows
from langchain_tokenhub.params.validators import (
    MB,
    NOT_NEEDED,
    Base64,
    Choice,
    FileField,
    Integer,
    JobId,
    String,
    param_error,
    strip_query,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetJsonSchemaHandler, ValidationError
    from pydantic_core import core_schema

Language = Literal["zh", "en"]


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        if isinstance(data, dict) and cls.model_config.get("extra") == "forbid":
            for name in data:
                if name not in cls.model_fields:
                    what = f"{name}: not a parameter"
                    raise param_error("unknown_name", what, _spelling_advice(name, cls))
        return data

    def __repr_args__(self) -> Iterator[tuple[None, str]]:
        """Show which fields are set, never their values: those may be prompts or signed links."""
        yield from ((None, name) for name, _ in _items(self))


class MediaParams(_Params):
    """The parameters of one model, checked before anything is sent.

    A field without a default is required, but may be None in a call that only resumes a job.
    """

    model: ClassVar[str] = ""
    defaults: ClassVar[dict[str, Any]] = {}
    """Sent unless the caller sets them, because the service's defaults do not suit a client."""
    most_bytes: ClassVar[int | None] = None
    """Maximum bytes of the whole request, if that is limited."""

    @model_validator(mode="wrap")
    @classmethod
    def _drop_none_and_resume(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Treat None as not given, and require no other field together with a job ID."""
        if not isinstance(data, dict):
            return handler(data)
        given = {name: value for name, value in data.items() if value is not None}
        job_id = given.get("job_id") if "job_id" in cls.model_fields else None
        if isinstance(job_id, str | int) and str(job_id).strip():
            required = {name: NOT_NEEDED for name, f in cls.model_fields.items() if f.is_required()}
            unknown = {name: value for name, value in given.items() if name not in cls.model_fields}
            return handler(required | unknown | {"job_id": job_id})
        # an empty ID is ignored: language models fill optional fields with empty texts
        if isinstance(job_id, str) and given.keys() == {"job_id"}:
            advice = "pass the ID of an earlier job, or leave it out and describe a new one"
            raise param_error("job_id", "job_id: it is empty", advice)
        return handler(given)

    @model_validator(mode="after")
    def _check_unless_resumed(self) -> Self:
        if getattr(self, "job_id", None) is None:
            self._check_rules()
        return self

    def _check_rules(self) -> None:
        """Check the rules between parameters."""

    def given(self, *names: str) -> list[str]:
        """Return those of `names` that have a value."""
        return [name for name in names if getattr(self, name) is not None]


class ParamObject(_Params):
    """An object inside the parameters."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Omit descriptions and defaults, which cost tokens and are not needed."""
        resolved = handler.resolve_ref_schema(handler(schema))
        resolved.pop("description", None)
        for field in resolved["properties"].values():
            field.pop("default", None)
        return resolved


class HideNull:
    """Omits the alternative null from an optional object's JSON schema."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        full = handler(schema)
        others = [one for one in full.get("anyOf", ()) if one.get("type") != "null"]
        return others[0] if len(others) == 1 else full


class LogoRect(ParamObject):
    """Position of the mark in pixels; negative x and y count from the right and bottom (video)."""

    x: Annotated[int | None, Integer()] = None
    y: Annotated[int | None, Integer()] = None
    width: Annotated[int | None, Integer(1)] = None
    height: Annotated[int | None, Integer(1)] = None


class LogoParam(ParamObject):
    """A custom mark; `logo_url` wins over `logo_image`."""

    logo_url: Annotated[str | None, String()] = None
    logo_image: Annotated[str | None, Base64(10 * MB)] = None
    logo_rect: Annotated[LogoRect | None, HideNull()] = None


# Generated content must carry a mark in mainland China (GB 45438-2025): on by default.
LogoAdd = Annotated[int | None, Choice((0, 1))]
Logo = Annotated[LogoParam | None, HideNull()]
ResumedJob = Annotated[str | None, JobId()]


def encode_params(params: MediaParams) -> dict[str, Any]:
    """Return the parameters of the request, without `job_id` and with file values unchanged.

    Empty objects are not sent: language models fill optional fields with them.
    """
    given = {
        name: value
        for name, value in _items(params)
        if name != "job_id" and not (isinstance(value, dict) and not value)
    }
    return params.defaults | given


def file_fields(cls: type[BaseModel]) -> dict[str, FileField]:
    """Return the fields of `cls` that take files, with the shape and the limits of each."""
    return {
        name: item
        for name, field in cls.model_fields.items()
        for item in field.metadata
        if isinstance(item, FileField)
    }


@functools.cache
def localize(cls: type[MediaParams], language: Language) -> type[MediaParams]:
    """Return `cls` with the descriptions of `language`; its validators and order stay."""
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


def _spelling_advice(name: object, cls: type[BaseModel]) -> str:
    near = difflib.get_close_matches(str(name), cls.model_fields, n=1)
    check = f"did you mean {near[0]}? If not," if near else "check its name, or"
    return f"{check} pass it in extra="


def _items(params: BaseModel) -> Iterator[tuple[str, Any]]:
    yield from ((name, _as_plain(value)) for name, value in params if value is not None)


def _as_plain(value: object) -> object:
    """Convert parameter objects to dicts; file values, which may be models too, are unchanged."""
    if isinstance(value, ParamObject):
        return dict(_items(value))
    if isinstance(value, list):
        return [_as_plain(item) for item in value]
    return value
