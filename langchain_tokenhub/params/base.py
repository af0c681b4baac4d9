"""What the parameter classes are made of: the rules of values, the base classes, the errors.

A rule in a field's `Annotated` replaces pydantic's own validation, so that every message names
limit, unit and next step, and none quotes a prompt.
"""

from __future__ import annotations

import difflib
import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError, core_schema

from langchain_tokenhub.catalogue.tables import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
    from pydantic.functional_validators import ModelWrapValidatorHandler  # older than in pydantic

Language = Literal["zh", "en"]

MB = 1024 * 1024

# scheme, credentials, host and path, query and fragment
_LINK = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?#'\"]*)[^\s'\"]*")

NOT_NEEDED = object()
"""Placeholder for a required parameter of a call that only resumes a job."""


def param_error(what: str, advice: str) -> PydanticCustomError:
    """Return an error that states the fault and the remedy, without the input."""
    return PydanticCustomError("param", "{what}; {advice}", {"what": what, "advice": advice})


def short_repr(value: object) -> str:
    """Return `value` for an error: short, links without query, bytes and objects by type."""
    if isinstance(value, bool | int | float):
        return repr(value)
    if not isinstance(value, str):
        return type(value).__name__
    text = strip_query(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def strip_query(text: str) -> str:
    """Reduce the links in `text` to host and path; a signed query gives access to the file."""
    return _LINK.sub(r"\1\2", text)


# --- the rules of values --------------------------------------------------------------------------


class Validator(ABC):
    """The rule of one value."""

    @abstractmethod
    def _validate(self, value: Any) -> Any:
        """Return the value as it is sent, or raise `param_error(...)`."""

    def _json_schema(self) -> dict[str, Any]:
        """Return the JSON schema that a language model receives."""
        return {"type": "string"}

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: None if value is NOT_NEEDED else self._validate(value)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self._json_schema()


@dataclass(frozen=True)
class String(Validator):
    """Text without surrounding space, limited in characters (code points)."""

    most: int | None = None

    def _validate(self, value: Any) -> str:
        if not isinstance(value, str):
            raise param_error(f"{type(value).__name__}, text is needed", "give a string")
        text = _repair_surrogates(value.strip())
        if not text:
            raise param_error("empty text", "write it, or leave the field out")
        if self.most is not None and len(text) > self.most:
            raise param_error(f"{len(text)} characters, at most {self.most}", "shorten it")
        return text

    def _json_schema(self) -> dict[str, Any]:
        return _schema("string", minLength=1, maxLength=self.most)


@dataclass(frozen=True)
class Integer(Validator):
    """An integer, within limits if there are any."""

    least: int | None = None
    most: int | None = None

    def _validate(self, value: Any) -> int:
        number = _integer(value)
        if number is None:
            raise param_error(f"{short_repr(value)}, {self._limits()} is needed", "give an integer")
        too_small = self.least is not None and number < self.least
        if too_small or (self.most is not None and number > self.most):
            raise param_error(f"{number}, {self._limits()} is needed", "change it")
        return number

    def _json_schema(self) -> dict[str, Any]:
        return _schema("integer", minimum=self.least, maximum=self.most)

    def _limits(self) -> str:
        match self.least, self.most:
            case None, _:
                return "an integer"
            case least, None:
                return f"an integer of at least {least}"
            case least, most:
                return f"an integer from {least} to {most}"


@dataclass(frozen=True)
class Boolean(Validator):
    """True or false."""

    def _validate(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise param_error(f"{short_repr(value)}, true or false is needed", "give a boolean")
        return value

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Choice(Validator):
    """One of a few words or integers; a word in any spelling ("low_poly", "lowpoly")."""

    values: tuple[str, ...] | tuple[int, ...]

    def _validate(self, value: Any) -> str | int:
        spellings = {_normalize(choice): choice for choice in self.values}
        choice = spellings.get(_normalize(value))
        if choice is None:
            words = [str(one) for one in self.values]
            allowed = " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"
            raise param_error(f"{short_repr(value)}, {allowed} is needed", "choose one of them")
        return choice

    def _json_schema(self) -> dict[str, Any]:
        type_ = "string" if isinstance(self.values[0], str) else "integer"
        return {"type": type_, "enum": list(self.values)}


@dataclass(frozen=True)
class PixelSize(Validator):
    """Width and height in pixels as "W:H"."""

    least: int = 1
    most: int | None = None
    pixels: int | None = None
    long_sides: tuple[int, ...] = ()

    def _validate(self, value: Any) -> str:
        text = value.strip() if isinstance(value, str) else ""
        if not re.fullmatch(r"[0-9]{1,5}:[0-9]{1,5}", text):
            what = f"{short_repr(value)}, width:height in pixels is needed"
            raise param_error(what, "write it with a colon, such as 1024:1024")
        fault = self._fault(*map(int, text.split(":")))
        if fault:
            raise param_error(f"{text}: {fault}", "choose another, such as 1024:1024")
        return text

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}

    def _fault(self, width: int, height: int) -> str | None:
        if min(width, height) < self.least or (self.most and max(width, height) > self.most):
            limit = f"{self.least} to {self.most}" if self.most else f"{self.least} or more"
            return f"each side is {limit} pixels"
        if self.pixels and width * height > self.pixels:
            return f"{width * height} pixels, at most {self.pixels}"
        if self.long_sides and max(width, height) not in self.long_sides:
            return f"the long side is one of {', '.join(map(str, self.long_sides))} pixels"
        return None


@dataclass(frozen=True)
class Base64(Validator):
    """A file as raw base64; the prefix of a data URL is removed."""

    max_bytes: int
    """Bytes of the base64 text."""

    def _validate(self, value: Any) -> str:
        if not isinstance(value, str):
            advice = "give base64 text, or the file itself in the field for links"
            raise param_error(f"{short_repr(value)}, base64 text is needed", advice)
        text = re.sub(r"^\s*data:[^,]{0,200};base64,|\s+", "", value)
        if not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
            raise param_error("this is not base64", "give a link in the field for links")
        if len(text) > self.max_bytes:
            what = f"{len(text) / MB:.1f} MB of base64, at most {self.max_bytes / MB:.0f} MB"
            raise param_error(what, "make the file smaller, or pass a link")
        return text


@dataclass(frozen=True)
class JobId(Validator):
    """The ID of an earlier job: opaque text, or the same digits as an integer."""

    def _validate(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise param_error(f"{short_repr(value)}, a job ID is needed", "give it as text")
        return str(value).strip() or None


Shape = Literal["url_or_base64_object", "string_list", "object_list", "url"]


@dataclass(frozen=True)
class FileField(Validator):
    """A file input: how it is sent, and its limits.

    A language model passes a string. Code may pass a path, bytes, an image or an earlier result;
    the value is unchanged until `jobs.inputs` reads the file.
    """

    shape: Shape
    """`{"url"}` or `{"base64"}`, a list of strings, a list of such objects, or a plain link."""
    formats: tuple[str, ...]
    base64_field: str | None = None
    """The field for files that are not links."""
    least: int = 1
    most: int = 1
    max_bytes_url: int | None = None
    max_bytes_base64: int | None = None
    """Bytes of the base64 text."""
    side_min: int | None = None
    side_max: int | None = None
    ratio_max: float | None = None
    """Long side over short side."""
    seconds_min: float | None = None
    seconds_max: float | None = None

    @property
    def is_list(self) -> bool:
        """Whether the field holds a list."""
        return self.shape in {"string_list", "object_list"}

    def _validate(self, value: Any) -> Any:
        if not self.is_list:
            return _check_file(value)
        files = list(value) if isinstance(value, list | tuple) else [value]
        if not self.least <= len(files) <= self.most:
            what = f"{len(files)} files, {self.least} to {self.most} are accepted"
            raise param_error(what, "change their number")
        return [_check_file(file) for file in files] or None

    def _json_schema(self) -> dict[str, Any]:
        if not self.is_list:
            return {"type": "string"}
        limits = _schema("array", minItems=self.least or None, maxItems=self.most)
        return {**limits, "items": {"type": "string"}}


def _check_file(value: object) -> object:
    """Refuse a value that cannot be a file; files are checked when they are read."""
    if value is None or isinstance(value, bool | int | float | complex | list | tuple | set):
        advice = "give a link, a path, bytes, an image or an earlier result"
        raise param_error(f"{type(value).__name__} is not a file", advice)
    if isinstance(value, str):
        value = value.strip()
    if isinstance(value, str | bytes | bytearray | Mapping) and not value:
        raise param_error("empty", "give a file, or leave the field out")
    return value


def _schema(type_: str, **limits: int | None) -> dict[str, Any]:
    return {"type": type_, **{name: limit for name, limit in limits.items() if limit is not None}}


def _integer(value: object) -> int | None:
    """Return an integer, also from 5.0; None for a boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def _normalize(value: object) -> str | int | None:
    """Return a word without case and punctuation, or an integer."""
    return re.sub(r"[^0-9a-z]", "", value.lower()) if isinstance(value, str) else _integer(value)


def _repair_surrogates(text: str) -> str:
    """Join split surrogate pairs and replace lone ones, which cannot be sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- the base classes -----------------------------------------------------------------------------


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        if isinstance(data, dict) and cls.model_config.get("extra") == "forbid":
            for name in data:
                if name not in cls.model_fields:
                    raise _unknown_name(name, cls)
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
    max_bytes: ClassVar[int | None] = None
    """Maximum bytes of the whole request, if that is limited."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
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
            raise param_error("job_id: it is empty", advice)
        checked = handler(given)
        checked._check_rules()  # noqa: SLF001 - of this class
        return checked

    def _check_rules(self) -> None:
        """Check the rules between parameters."""

    def names_set(self, *names: str) -> list[str]:
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


def has_files(params: BaseModel) -> bool:
    """Return True if a file is given, also inside the objects of a list."""
    fields = file_fields(type(params))
    names = {*fields, *(field.base64_field for field in fields.values())}
    given = {name: value for name, value in params if value is not None}
    lists = [value for value in given.values() if isinstance(value, list)]
    parts = [part for found in lists for part in found if isinstance(part, ParamObject)]
    return bool(names & given.keys()) or any(map(has_files, parts))


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


def _unknown_name(name: object, cls: type[BaseModel]) -> PydanticCustomError:
    near = difflib.get_close_matches(str(name), cls.model_fields, n=1)
    check = f"did you mean {near[0]}? If not," if near else "check its name, or"
    facts = {"what": f"{name}: not a parameter", "advice": f"{check} pass it in extra="}
    return PydanticCustomError("unknown_name", "{what}; {advice}", facts)


def _items(params: BaseModel) -> Iterator[tuple[str, Any]]:
    yield from ((name, _as_plain(value)) for name, value in params if value is not None)


def _as_plain(value: object) -> object:
    """Convert parameter objects to dicts; file values, which may be models too, are unchanged."""
    if isinstance(value, ParamObject):
        return dict(_items(value))
    if isinstance(value, list):
        return [_as_plain(item) for item in value]
    return value
