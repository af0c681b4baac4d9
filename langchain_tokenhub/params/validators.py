"""Validators of a parameter's value: its rule, its JSON schema and its error text.

A validator in a field's `Annotated` replaces pydantic's own validation, so that every message names
limit, unit and next step, and none quotes a prompt.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, LiteralString

from pydantic_core import PydanticCustomError, core_schema

from langchain_tokenhub._warnings import warn_user

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

MB = 1024 * 1024

# scheme, credentials, host and path, query and fragment
_LINK = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?#'\"]*)[^\s'\"]*")

NOT_NEEDED = object()
"""Placeholder for a required parameter of a call that only resumes a job."""


def param_error(kind: LiteralString, what: str, advice: str) -> PydanticCustomError:
    """Return an error that states the fault and the remedy, without the input."""
    return PydanticCustomError(kind, "{what}; {advice}", {"what": what, "advice": advice})


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
    warn_above: int | None = None
    """Longer texts are sent with a warning, because sources disagree on the limit."""

    def _validate(self, value: Any) -> str:
        if not isinstance(value, str):
            raise param_error("text", f"{type(value).__name__}, text is needed", "give a string")
        text = _repair_surrogates(value.strip())
        if not text:
            raise param_error("text_short", "empty text", "write it, or leave the field out")
        if self.most is not None and len(text) > self.most:
            what = f"{len(text)} characters, at most {self.most}"
            raise param_error("text_long", what, "shorten it")
        if self.warn_above is not None and len(text) > self.warn_above:
            limit = f"the service may refuse more than {self.warn_above}"
            warn_user(f"{len(text)} characters; {limit}")
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
            what = f"{short_repr(value)}, {self._limits()} is needed"
            raise param_error("number", what, "give an integer")
        too_small = self.least is not None and number < self.least
        if too_small or (self.most is not None and number > self.most):
            raise param_error("range", f"{number}, {self._limits()} is needed", "change it")
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
            what = f"{short_repr(value)}, true or false is needed"
            raise param_error("flag", what, "give a boolean")
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
            what = f"{short_repr(value)}, {allowed} is needed"
            raise param_error("choice", what, "choose one of them")
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
            raise param_error("size", what, "write it with a colon, such as 1024:1024")
        fault = self._fault(*map(int, text.split(":")))
        if fault:
            raise param_error("size", f"{text}: {fault}", "choose another, such as 1024:1024")
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

    most_bytes: int
    """Bytes of the base64 text."""

    def _validate(self, value: Any) -> str:
        if not isinstance(value, str):
            advice = "give base64 text, or the file itself in the field for links"
            raise param_error("base64", f"{short_repr(value)}, base64 text is needed", advice)
        text = re.sub(r"^\s*data:[^,]{0,200};base64,|\s+", "", value)
        if not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
            raise param_error("base64", "this is not base64", "give a link in the field for links")
        if len(text) > self.most_bytes:
            what = f"{len(text) / MB:.1f} MB of base64, at most {self.most_bytes / MB:.0f} MB"
            raise param_error("base64", what, "make the file smaller, or pass a link")
        return text


@dataclass(frozen=True)
class JobId(Validator):
    """The ID of an earlier job: opaque text, or the same digits as an integer."""

    def _validate(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int):
            what = f"{short_repr(value)}, a job ID is needed"
            raise param_error("job_id", what, "give it as text")
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
    def many(self) -> bool:
        """Whether the field holds a list."""
        return self.shape in {"string_list", "object_list"}

    def _validate(self, value: Any) -> Any:
        if not self.many:
            return _check_file(value)
        files = list(value) if isinstance(value, list | tuple) else [value]
        if not self.least <= len(files) <= self.most:
            what = f"{len(files)} files, {self.least} to {self.most} are accepted"
            raise param_error("files", what, "change their number")
        return [_check_file(file) for file in files] or None

    def _json_schema(self) -> dict[str, Any]:
        if not self.many:
            return {"type": "string"}
        limits = _schema("array", minItems=self.least or None, maxItems=self.most)
        return {**limits, "items": {"type": "string"}}


def _check_file(value: object) -> object:
    """Refuse a value that cannot be a file; files are checked when they are read."""
    if value is None or isinstance(value, bool | int | float | complex | list | tuple | set):
        advice = "give a link, a path, bytes, an image or an earlier result"
        raise param_error("file", f"{type(value).__name__} is not a file", advice)
    if isinstance(value, str):
        value = value.strip()
    if isinstance(value, str | bytes | bytearray | Mapping) and not value:
        raise param_error("file", "empty", "give a file, or leave the field out")
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
