"""The checks a parameter can have: each is one value's rule, its JSON schema and its error text.

A check stands in a field's `Annotated`. It owns the whole validation of the value, so that every
message names limit, unit and next step, and never shows a prompt.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, LiteralString

from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

MB = 1024 * 1024

# scheme, user and password, host and path, the rest
_LINK = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?#'\"]*)[^\s'\"]*")

RESUMED = object()
"""Stands for a required parameter of a call that only resumes a job."""


@dataclass(frozen=True)
class Text:
    """What a parameter does, in both languages."""

    en: str
    zh: str


_told: ContextVar[bool] = ContextVar("tokenhub_cautions_told", default=False)


def warn_user(told: str) -> None:
    """Warn of what is taken although it may not be meant."""
    if not _told.get():
        warnings.warn(told, UserWarning, stacklevel=2)


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Keep quiet: the same parameters were checked before, as a tool call is by LangChain."""
    token = _told.set(True)
    try:
        yield
    finally:
        _told.reset(token)


def problem(kind: LiteralString, what: str, advice: str) -> PydanticCustomError:
    """Return an error that says what is wrong and what to do, without the input."""
    return PydanticCustomError(kind, "{what}; {advice}", {"what": what, "advice": advice})


def shown(value: object) -> str:
    """Return `value` for an error: short, a link without its query, bytes and objects by type."""
    if isinstance(value, bool | int | float):
        return repr(value)
    if not isinstance(value, str):
        return type(value).__name__
    text = without_query(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def without_query(text: str) -> str:
    """Cut the links in `text` to host and path: a signed link's query opens the file."""
    return _LINK.sub(r"\1\2", text)


class Check(ABC):
    """One value's rule."""

    @abstractmethod
    def _read(self, value: Any) -> Any:
        """Return the value as it is sent, or raise `problem(...)`."""

    @abstractmethod
    def _shape(self) -> dict[str, Any]:
        """Return the JSON schema a language model sees."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self._shape()

    def _check(self, value: object) -> object:
        return None if value is RESUMED else self._read(value)


@dataclass(frozen=True)
class Length(Check):
    """A text of so many characters (code points), trimmed."""

    most: int | None = None
    least: int = 1
    sure: int | None = None
    """Above this one source says no and another yes: accepted with a warning."""

    def _read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise problem("text", f"{type(value).__name__}, a text is needed", "give a string")
        text = _whole(value.strip())
        if len(text) < self.least:
            raise problem("text_short", "empty text", "write it, or leave the field out")
        if self.most is not None and len(text) > self.most:
            raise problem("text_long", f"{len(text)} characters, at most {self.most}", "shorten it")
        if self.sure is not None and len(text) > self.sure:
            told = f"{len(text)} characters; the service may refuse more than {self.sure}"
            warn_user(told)
        return text

    def _shape(self) -> dict[str, Any]:
        limits = {"minLength": self.least or None, "maxLength": self.most}
        return {"type": "string", **{key: n for key, n in limits.items() if n is not None}}


@dataclass(frozen=True)
class Whole(Check):
    """A whole number within limits."""

    least: int
    most: int | None = None

    def _read(self, value: Any) -> int:
        number = _integer(value)
        if number is None:
            raise problem(
                "number", f"{shown(value)}, {self._limits()} is needed", "give an integer"
            )
        if number < self.least or (self.most is not None and number > self.most):
            raise problem("range", f"{number}, {self._limits()} is needed", "change it")
        return number

    def _shape(self) -> dict[str, Any]:
        most = {} if self.most is None else {"maximum": self.most}
        return {"type": "integer", "minimum": self.least, **most}

    def _limits(self) -> str:
        if self.most is None:
            return f"a whole number of at least {self.least}"
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True)
class Integer(Check):
    """Any whole number: pixels from an edge."""

    def _read(self, value: Any) -> int:
        number = _integer(value)
        if number is None:
            raise problem("number", f"{shown(value)}, a whole number is needed", "give an integer")
        return number

    def _shape(self) -> dict[str, Any]:
        return {"type": "integer"}


@dataclass(frozen=True)
class Flag(Check):
    """True or false."""

    def _read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise problem("flag", f"{shown(value)}, true or false is needed", "give a boolean")
        return value

    def _shape(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Number(Check):
    """One of a few whole numbers; true and false are none."""

    values: tuple[int, ...]

    def _read(self, value: Any) -> int:
        number = _integer(value)
        if number is None or number not in self.values:
            allowed = " or ".join(map(str, self.values))
            raise problem("choice", f"{shown(value)}, only {allowed}", "choose one of them")
        return number

    def _shape(self) -> dict[str, Any]:
        return {"type": "integer", "enum": list(self.values)}


@dataclass(frozen=True)
class Word(Check):
    """One of a few words in any spelling ("low_poly", "lowpoly"), sent as the service spells it."""

    values: tuple[str, ...]

    def _read(self, value: Any) -> str:
        spelt = {_letters(word): word for word in self.values}
        word = spelt.get(_letters(value)) if isinstance(value, str) else None
        if word is None:
            allowed = ", ".join(self.values)
            raise problem("choice", f"{shown(value)}, only {allowed}", "choose one of them")
        return word

    def _shape(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True)
class Size(Check):
    """Width and height in pixels as "W:H"."""

    least: int = 1
    most: int | None = None
    pixels: int | None = None
    long_sides: tuple[int, ...] = ()
    example: str = "1024:1024"

    def _read(self, value: Any) -> str:
        text = value.strip() if isinstance(value, str) else ""
        if not re.fullmatch(r"[0-9]{1,5}:[0-9]{1,5}", text):
            what = f"{shown(value)}, width:height in pixels is needed"
            raise problem("size", what, f"write it with a colon, such as {self.example}")
        wrong = self._wrong(*map(int, text.split(":")))
        if wrong:
            raise problem("size", f"{text}: {wrong}", f"choose another, such as {self.example}")
        return text

    def _shape(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}

    def _wrong(self, width: int, height: int) -> str | None:
        if min(width, height) < self.least or (self.most and max(width, height) > self.most):
            limit = f"{self.least} to {self.most}" if self.most else f"{self.least} or more"
            return f"each side is {limit} pixels"
        if self.pixels and width * height > self.pixels:
            return f"{width * height} pixels, at most {self.pixels}"
        if self.long_sides and max(width, height) not in self.long_sides:
            return f"the long side is one of {', '.join(map(str, self.long_sides))} pixels"
        return None


@dataclass(frozen=True)
class Base64(Check):
    """A file as raw base64; the head of a data URL is taken off."""

    most_bytes: int
    """Of the base64 text."""

    def _read(self, value: Any) -> str:
        if not isinstance(value, str):
            advice = "give base64 text, or the file itself in the field for links"
            raise problem("base64", f"{shown(value)}, base64 text is needed", advice)
        text = re.sub(r"^\s*data:[^,]{0,200};base64,|\s+", "", value)
        if not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
            raise problem("base64", "this is not base64", "give a link in the field for links")
        if len(text) > self.most_bytes:
            what = f"{len(text) / MB:.1f} MB of base64, at most {self.most_bytes / MB:.0f} MB"
            raise problem("base64", what, "make the file smaller, or pass a link")
        return text

    def _shape(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True)
class JobId(Check):
    """The id of an earlier job: an opaque text; 19 digits may come as a number."""

    def _read(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise problem("job_id", f"{shown(value)}, a job id is needed", "give it as text")
        return str(value).strip() or None

    def _shape(self) -> dict[str, Any]:
        return {"type": "string"}


Shape = Literal["url_or_base64_object", "string_list", "object_list", "url"]


@dataclass(frozen=True)
class FileField(Check):
    """A file input: how it is sent and what it may be.

    To a language model it is a string. In code it may be a path, bytes, a picture, an earlier
    result: whatever names a file passes untouched and gets its wire shape where files are read.
    """

    shape: Shape
    """`{"url"}` or `{"base64"}`, a list of strings, a list of such objects, or a plain link."""
    formats: tuple[str, ...]
    base64_field: str | None = None
    """The neighbouring field that takes what is not a link."""
    least: int = 1
    most: int = 1
    max_bytes_url: int | None = None
    max_bytes_base64: int | None = None
    """Of the base64 text."""
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

    def _read(self, value: Any) -> Any:
        if not self.many:
            return _file(value)
        files = list(value) if isinstance(value, list | tuple) else [value]
        if not self.least <= len(files) <= self.most:
            what = f"{len(files)} files, {self.least} to {self.most} are taken"
            raise problem("files", what, "change their number")
        return [_file(file) for file in files] or None

    def _shape(self) -> dict[str, Any]:
        if not self.many:
            return {"type": "string"}
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": {"type": "string"}, **least, "maxItems": self.most}


def _file(value: object) -> object:
    """Refuse what can be no file; everything else is judged where files are read."""
    if value is None or isinstance(value, bool | int | float | complex | list | tuple | set):
        advice = "give a link, a path, bytes, a picture or an earlier result"
        raise problem("file", f"{type(value).__name__} is no file", advice)
    if isinstance(value, str | bytes | bytearray | Mapping) and not _filled(value):
        raise problem("file", "empty", "give a file, or leave the field out")
    return value.strip() if isinstance(value, str) else value


def _filled(value: str | bytes | bytearray | Mapping[Any, Any]) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def _integer(value: object) -> int | None:
    """Return a whole number, also one written 5.0; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def _letters(word: str) -> str:
    return re.sub(r"[^0-9a-z]", "", word.lower())


def _whole(text: str) -> str:
    """Join surrogate pairs that came apart and replace lone ones: they cannot be sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
