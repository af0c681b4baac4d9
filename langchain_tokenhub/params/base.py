"""What the parameter classes share: strictness, the job to resume, the visible mark, the wire form.

The classes of this package *are* the table of parameters. Sources, named once: the guide
(2026-04-03), pages 图像生成, 视频生成, 3D 生成; the docstrings of the official SDKs aiart, vclm and
ai3d; the product pages named beside each class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, model_validator

from langchain_tokenhub.params.validators import (
    MB,
    RESUMED,
    Base64,
    FileField,
    Integer,
    JobId,
    Length,
    Number,
    Text,
    Whole,
    problem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetJsonSchemaHandler
    from pydantic_core import core_schema


class MediaParams(BaseModel):
    """The parameters of one model, checked before anything is sent.

    A field without a default is required, yet may be `None` on a call that only resumes a job.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    model: ClassVar[str] = ""
    wire_defaults: ClassVar[dict[str, Any]] = {}
    """Sent unless told otherwise, because the service's own default does not suit a client."""
    most_bytes: ClassVar[int | None] = None
    """Of the whole request, where that is limited."""

    @model_validator(mode="wrap")
    @classmethod
    def _drop_nothing_and_resume(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Treat `None` as not given; with a job id ask for nothing else, but know every name."""
        if not isinstance(data, dict):
            return handler(data)
        given = {name: value for name, value in data.items() if value is not None}
        if not _resumes(cls, given):
            _refuse_blank(cls, given)
            return handler(given)
        required = {name: RESUMED for name, f in cls.model_fields.items() if f.is_required()}
        unknown = {name: value for name, value in given.items() if name not in cls.model_fields}
        return handler(required | unknown | {"job_id": given["job_id"]})

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if getattr(self, "job_id", None) is None:
            self._rules()
        return self

    def _rules(self) -> None:
        """Check what parameters say about each other."""

    def given(self, *names: str) -> list[str]:
        """Return those of `names` that have a value."""
        return [name for name in names if getattr(self, name) is not None]

    def __repr_args__(self) -> Iterator[tuple[None, str]]:
        return _names(self)


class Part(BaseModel):
    """An object inside the parameters."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Leave out what a language model has no use for: it pays for every word."""
        whole = handler.resolve_ref_schema(handler(schema))
        whole.pop("description", None)
        for field in whole["properties"].values():
            field.pop("default", None)
        return whole

    def __repr_args__(self) -> Iterator[tuple[None, str]]:
        return _names(self)


class Plain:
    """Shows an optional object to a language model without the alternative null."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        whole = handler(schema)
        real = [one for one in whole.get("anyOf", ()) if one.get("type") != "null"]
        return real[0] if len(real) == 1 else whole


class LogoRect(Part):
    """Where the mark goes, in pixels; below 0, x and y count from the right and bottom (video)."""

    x: Annotated[int | None, Integer()] = None
    y: Annotated[int | None, Integer()] = None
    width: Annotated[int | None, Whole(1)] = None
    height: Annotated[int | None, Whole(1)] = None


class LogoParam(Part):
    """A mark of one's own; the link wins over the image."""

    logo_url: Annotated[str | None, Length()] = None
    logo_image: Annotated[str | None, Base64(10 * MB)] = None
    logo_rect: Annotated[LogoRect | None, Plain()] = None


# Generated content must carry a mark in mainland China (GB 45438-2025): on by default.
LogoAdd = Annotated[
    int | None,
    Number((0, 1)),
    Text(
        en="1 adds the visible AI mark, 0 leaves it out. Default 1.",
        zh="1 添加可见的 AI 标识，0 不添加。默认 1。",
    ),
]
ApprovedLogoAdd = Annotated[
    int | None,
    Number((0, 1)),
    Text(
        en="1 adds the visible AI mark, 0 leaves it out once approved in the console. Default 1.",
        zh="1 添加可见的 AI 标识；0 不添加，需先在控制台通过审批。默认 1。",
    ),
]
Logo = Annotated[
    LogoParam | None,
    Plain(),
    Text(
        en="Your own mark: logo_url or logo_image (base64), stretched into logo_rect in pixels.",
        zh="自定义标识：logo_url 或 logo_image（base64），拉伸到 logo_rect（像素）。",
    ),
]
ResumedJob = Annotated[
    str | None,
    JobId(),
    Text(
        en="Id of an earlier job to resume: nothing new is submitted or charged.",
        zh="要继续等待的已有任务 ID：不会提交新任务，也不会重复计费。",
    ),
]


def encode_params(params: MediaParams) -> dict[str, Any]:
    """Return the request's parameters: what was given, without `job_id`, file values untouched.

    An empty object is not sent: language models fill optional ones in so.
    """
    given = {
        name: value for name, value in _items(params) if name != "job_id" and not _is_empty(value)
    }
    return params.wire_defaults | given


def _is_empty(value: object) -> bool:
    return isinstance(value, dict) and not value


def file_fields(cls: type[BaseModel]) -> dict[str, FileField]:
    """Return the fields of `cls` that take files, with the wire shape and limits of each."""
    found = {name: _file_field(field.metadata) for name, field in cls.model_fields.items()}
    return {name: field for name, field in found.items() if field}


def exactly_one(params: MediaParams, *names: str) -> None:
    """Refuse none and more than one of `names`."""
    given = params.given(*names)
    if len(given) == 1:
        return
    what = f"{', '.join(names)}: {len(given)} given, exactly one is taken"
    raise problem("exactly_one", what, f"keep one of {', '.join(given)}" if given else "give one")


def _resumes(cls: type[MediaParams], given: dict[str, Any]) -> bool:
    job_id = given.get("job_id")
    return (
        "job_id" in cls.model_fields and isinstance(job_id, str | int) and bool(str(job_id).strip())
    )


def _refuse_blank(cls: type[MediaParams], given: dict[str, Any]) -> None:
    """Refuse a job id that says nothing, unless a new job is described beside it.

    Language models fill optional fields with empty texts: then a new job is what they ask for.
    """
    if given.keys() == {"job_id"} <= cls.model_fields.keys() and isinstance(given["job_id"], str):
        advice = "give the id of an earlier job, or leave it out and describe a new one"
        raise problem("job_id", "job_id: it is empty", advice)


def _names(params: BaseModel) -> Iterator[tuple[None, str]]:
    """Show which fields are set, never their values: prompts and signed links stay out of logs."""
    yield from ((None, name) for name, _ in _items(params))


def _items(params: BaseModel) -> Iterator[tuple[str, Any]]:
    yield from ((name, _bare(value)) for name, value in params if value is not None)


def _bare(value: object) -> object:
    """Take our own objects apart; a file value may be a model too and stays as it is."""
    if isinstance(value, Part):
        return dict(_items(value))
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value


def _file_field(metadata: list[Any]) -> FileField | None:
    return next((item for item in metadata if isinstance(item, FileField)), None)
