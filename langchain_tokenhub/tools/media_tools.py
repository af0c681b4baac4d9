"""The image, video and 3D tools."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, TypedDict, Unpack

from langchain_core.callbacks import Callbacks
from langchain_core.messages import ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import ArgsSchema, BaseTool
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SkipValidation,
    field_validator,
    model_validator,
)
from typing_extensions import override

from langchain_tokenhub._warnings import suppress_warnings, warn_user
from langchain_tokenhub.catalogue import Kind, similar_media_model
from langchain_tokenhub.errors import (
    RETRYABLE,
    AuthenticationError,
    TokenHubError,
)
from langchain_tokenhub.jobs.media_file import MediaFile
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.params import Language, schema_class
from langchain_tokenhub.params.models import FxExtraParam, LogoParam, ViewImage, ViewImage31
from langchain_tokenhub.tools.budget import MESSAGES, Budget, with_messages
from langchain_tokenhub.tools.client import MediaClient, MediaOptions, ModelId, call_id
from langchain_tokenhub.tools.llm_text import charge_state, description_of, error_text
from langchain_tokenhub.transport import Runtime, Transport, run_sync

Content: TypeAlias = str | list[str | dict[str, Any]]

MAX_SIDE = 1024
"""Pixels of a block's longer side."""
MAX_PIXELS = 64_000_000
"""Pixels of an image that is decoded."""


class ToolErrorMixin(BaseTool):
    """A tool that returns an error to a tool call, and raises it to any other caller."""

    def run(
        self, tool_input: Any, *args: Any, tool_call_id: str | None = None, **kwargs: Any
    ) -> Any:
        """Run the tool; a tool call gets an error as a message."""
        token = call_id.set(tool_call_id)
        try:
            return super().run(tool_input, *args, tool_call_id=tool_call_id, **kwargs)
        except TokenHubError as error:
            return self._error_message(error, tool_call_id)
        finally:
            call_id.reset(token)

    async def arun(
        self, tool_input: Any, *args: Any, tool_call_id: str | None = None, **kwargs: Any
    ) -> Any:
        """Async version of `run`."""
        token = call_id.set(tool_call_id)
        try:
            return await super().arun(tool_input, *args, tool_call_id=tool_call_id, **kwargs)
        except TokenHubError as error:
            return self._error_message(error, tool_call_id)
        finally:
            call_id.reset(token)

    def with_retry(
        self,
        *,
        retry_if_exception_type: tuple[type[BaseException], ...]
        | Callable[[BaseException], bool] = RETRYABLE,
        **kwargs: Any,
    ) -> Runnable[Any, Any]:
        """As in LangChain; by default only errors before a job was paid for are retried."""
        retried: Any = retry_if_exception_type  # older versions of core accept tuples only
        return super().with_retry(retry_if_exception_type=retried, **kwargs)

    def _error_message(self, error: TokenHubError, tool_call_id: str | None) -> ToolMessage:
        """Return the error as a message: raising would lose the results of parallel calls."""
        if tool_call_id is None or isinstance(error, AuthenticationError):
            raise error
        return ToolMessage(
            error_text(error),
            name=self.name,
            tool_call_id=tool_call_id,
            status="error",
            artifact={
                "error": type(error).__name__,
                "job_id": error.job.id if error.job else None,
                "charged": charge_state(error),
            },
        )


class ToolOptions(TypedDict, total=False):
    """Constructor keywords of LangChain's `BaseTool`."""

    name: str
    description: str
    args_schema: ArgsSchema | None
    return_direct: bool
    verbose: bool
    callbacks: Callbacks
    tags: list[str] | None
    metadata: dict[str, Any] | None
    handle_tool_error: bool | str | Callable[..., Any] | None
    handle_validation_error: bool | str | Callable[..., Any] | None
    response_format: Literal["content", "content_and_artifact"]
    extras: dict[str, Any] | None


class MediaToolOptions(MediaOptions, ToolOptions, total=False):
    """Constructor keywords of the image, video and 3D tools."""

    model: str
    language: Language
    shared_folders: Sequence[str | Path]
    shared_budget: Budget | None


class MediaTool(MediaClient, ToolErrorMixin):
    """A media model as a tool for agents, and as plain methods for code."""

    model_config = ConfigDict(extra="forbid")  # BaseTool's is "ignore"

    name: str = ""
    """Tool name; the default depends on the model."""
    description: str = ""
    """Tool description; the default depends on the model and `language`."""
    args_schema: SkipValidation[ArgsSchema | None] = None
    """Schema of the tool's input; the default is the model's parameters."""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    language: Language = "zh"
    """Language of the descriptions that a language model reads."""
    shared_budget: SkipValidation[Budget | None] = Field(default=None, exclude=True, repr=False)
    """The limit of a toolkit on what its tools may cost in one thread."""

    _has_own_schema: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _set_defaults(self) -> Self:
        facts = self._facts()
        if similar := similar_media_model(self.model, self.kind):
            warn_user(f"model: {self.model!r} is not listed; did you mean {similar.id!r}?")
        self.name = self.name or facts.tool_name
        self.description = self.description or description_of(facts, self.language)
        if self.args_schema is None:
            self._has_own_schema = True
            self.args_schema = self._own_schema()
        return self

    def _own_schema(self) -> type[BaseModel]:
        schema = schema_class(self.model, self.language, self.kind)
        return with_messages(schema) if self.shared_budget else schema

    def _run(self, *_: Any, **params: Any) -> tuple[Content, dict[str, Any]]:
        return run_sync(self._answer(self._sync(), params))

    async def _arun(self, *_: Any, **params: Any) -> tuple[Content, dict[str, Any]]:
        return await self._answer(self._async(), params)

    def _parse_input(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> str | dict[str, Any]:
        if isinstance(tool_input, str):
            tool_input = self._with_prompt(tool_input, {})
        return super()._parse_input(tool_input, tool_call_id)

    async def _answer(
        self, transport: Transport, params: Mapping[str, Any]
    ) -> tuple[Content, dict[str, Any]]:
        messages = params.get(MESSAGES) or []
        params = {name: value for name, value in params.items() if name != MESSAGES}
        if self.shared_budget is not None:
            self.shared_budget.check(messages, self.model, params, call_id.get())
        # LangChain has validated the same parameters with our schema
        with suppress_warnings() if self._has_own_schema else nullcontext():
            checked = self._check_params(params)
        result = await self._generate(transport, checked, None, by_model=True)
        return await self._content(transport, result), result.model_dump(mode="json")

    async def _content(
        self,
        transport: Transport,  # noqa: ARG002 - used by the image tool
        result: MediaResult,
    ) -> Content:
        """Return the content of the tool message."""
        return str(result)

    def __getstate__(self) -> dict[Any, Any]:
        """Return the state for a pickle, without the schema, which is made at run time."""
        state = super().__getstate__()
        own = {"args_schema": None} if self._has_own_schema else {}
        return {**state, "__dict__": {**state["__dict__"], **own}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if self._has_own_schema:
            self.args_schema = self._own_schema()


FileInput: TypeAlias = Any
"""A link, data URL, path, job ID, bytes, PIL image, or the result of another tool."""


class SubmitOptions(TypedDict, total=False):
    """What `submit` takes beside the parameters of a model."""

    extra: Mapping[str, Any] | None
    again: bool


class GenerateOptions(TypedDict, total=False):
    """What `generate` takes beside the keywords of `submit`."""

    wait_timeout: float | None


class ImageToolOptions(MediaToolOptions, total=False):
    """Constructor keywords of the image tool."""

    show_result: bool


class ImageKeywords(SubmitOptions, total=False):
    """Keywords of the image tool's `submit`: the parameters of its models, and the options."""

    prompt: str | None
    negative_prompt: str | None
    images: FileInput | Sequence[FileInput] | None
    resolution: str | None
    seed: int | None
    revise: int | None
    logo_add: int | None
    logo_param: LogoParam | Mapping[str, Any] | None
    rsp_img_type: str | None
    job_id: str | int | None


class ImageGenerate(ImageKeywords, GenerateOptions):
    """Keywords of the image tool's `generate`."""


class TokenHubImageTool(MediaTool):
    """Images from text and from images: `hy-image-v3.0` or `hy-image-lite`.

    Example:
        ```python
        tool = TokenHubImageTool(save_to="out")
        print(tool.generate(prompt="雨后的江南小镇，水墨风格"))
        ```
    """

    kind: ClassVar[Kind] = "image"
    model: ModelId = "hy-image-v3.0"
    show_result: bool = False
    """Add the images to the tool message, at most 1024 pixels a side; needs Pillow.

    A model that accepts no images in tool messages gets them in the next user message; one that
    accepts no images gets the text only.
    """

    @field_validator("show_result")
    @classmethod
    def _has_pillow(cls, value: bool) -> bool:  # noqa: FBT001 - a validator's argument
        if value and find_spec("PIL") is None:
            raise ValueError("needs Pillow: pip install 'langchain-tokenhub[notebook]'")
        return value

    async def _content(self, transport: Transport, result: MediaResult) -> Content:
        if not self.show_result:
            return str(result)
        content: list[str | dict[str, Any]] = [{"type": "text", "text": str(result)}]
        for file in result.files:
            content += await _image_block(transport.runtime, file)
        return content

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[ImageToolOptions]) -> None: ...
        @override
        def generate(
            self, text: str | None = None, /, **params: Unpack[ImageGenerate]
        ) -> MediaResult: ...
        @override
        async def agenerate(
            self, text: str | None = None, /, **params: Unpack[ImageGenerate]
        ) -> MediaResult: ...
        @override
        def submit(self, text: str | None = None, /, **params: Unpack[ImageKeywords]) -> Job: ...
        @override
        async def asubmit(
            self, text: str | None = None, /, **params: Unpack[ImageKeywords]
        ) -> Job: ...


async def _image_block(runtime: Runtime, file: MediaFile) -> list[dict[str, Any]]:
    """Return the block of an image; of one that cannot be read none, with a warning."""
    try:
        small = await runtime.blocking(_scale, await file._read(runtime))
    except Exception as problem:  # noqa: BLE001 - the image is paid for, whatever Pillow raises
        warn_user(f"an image of the result is not shown to the model: {type(problem).__name__}")
        return []
    encoded = base64.b64encode(small).decode()
    return [{"type": "image", "base64": encoded, "mime_type": "image/jpeg"}]


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


class VideoKeywords(SubmitOptions, total=False):
    """Keywords of the video tool's `submit`."""

    prompt: str | None
    image: FileInput | None
    images: FileInput | Sequence[FileInput] | None
    image_url: FileInput | None
    image_base64: str | None
    audio_url: FileInput | None
    template: str | None
    resolution: str | None
    fps: int | None
    frame_rate: int | None
    bgm: bool | None
    logo_add: int | None
    logo_param: LogoParam | Mapping[str, Any] | None
    extra_param: FxExtraParam | Mapping[str, Any] | None
    job_id: str | int | None


class VideoGenerate(VideoKeywords, GenerateOptions):
    """Keywords of the video tool's `generate`."""


class TokenHubVideoTool(MediaTool):
    """Videos: `hy-video-1.5`, `yt-video-2.0`, `yt-video-fx` or `yt-video-humanactor`.

    Example:
        ```python
        tool = TokenHubVideoTool(save_to="out")
        print(tool.generate(prompt="一只橘猫在雪地里奔跑"))
        ```
    """

    kind: ClassVar[Kind] = "video"
    model: ModelId = "hy-video-1.5"

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[MediaToolOptions]) -> None: ...
        @override
        def generate(
            self, text: str | None = None, /, **params: Unpack[VideoGenerate]
        ) -> MediaResult: ...
        @override
        async def agenerate(
            self, text: str | None = None, /, **params: Unpack[VideoGenerate]
        ) -> MediaResult: ...
        @override
        def submit(self, text: str | None = None, /, **params: Unpack[VideoKeywords]) -> Job: ...
        @override
        async def asubmit(
            self, text: str | None = None, /, **params: Unpack[VideoKeywords]
        ) -> Job: ...


class ThreeDKeywords(SubmitOptions, total=False):
    """Keywords of the 3D tool's `submit`."""

    prompt: str | None
    image_url: FileInput | None
    image_base64: str | None
    multi_view_images: Sequence[ViewImage | ViewImage31 | Mapping[str, Any]] | None
    enable_pbr: bool | None
    enable_geometry: bool | None
    face_count: int | None
    generate_type: str | None
    polygon_type: str | None
    result_format: str | None
    job_id: str | int | None


class ThreeDGenerate(ThreeDKeywords, GenerateOptions):
    """Keywords of the 3D tool's `generate`."""


class Tokenhub3DTool(MediaTool):
    """3D models: `hy-3d-3.0`, `hy-3d-3.1` or `hy-3d-express`.

    Example:
        ```python
        tool = Tokenhub3DTool(save_to="out")
        print(tool.generate(prompt="一把木质摇椅"))
        ```
    """

    kind: ClassVar[Kind] = "3d"
    model: ModelId = "hy-3d-3.0"

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[MediaToolOptions]) -> None: ...
        @override
        def generate(
            self, text: str | None = None, /, **params: Unpack[ThreeDGenerate]
        ) -> MediaResult: ...
        @override
        async def agenerate(
            self, text: str | None = None, /, **params: Unpack[ThreeDGenerate]
        ) -> MediaResult: ...
        @override
        def submit(self, text: str | None = None, /, **params: Unpack[ThreeDKeywords]) -> Job: ...
        @override
        async def asubmit(
            self, text: str | None = None, /, **params: Unpack[ThreeDKeywords]
        ) -> Job: ...


TokenHub3DTool = Tokenhub3DTool

TOOLS: dict[Kind, type[MediaTool]] = {
    "image": TokenHubImageTool,
    "video": TokenHubVideoTool,
    "3d": Tokenhub3DTool,
}
