"""What the three tools share: a media model as a tool for agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Self

from langchain_core.messages import ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import ArgsSchema, BaseTool
from pydantic import ConfigDict, PrivateAttr, SkipValidation, model_validator

from langchain_tokenhub.catalogue import Kind, MediaModel
from langchain_tokenhub.errors import (
    RETRYABLE,
    AuthenticationError,
    InvalidRequestError,
    TokenHubError,
)
from langchain_tokenhub.jobs.progress import Emit, aemit, emit
from langchain_tokenhub.params import Language, params_class, schema_class, suppress_warnings
from langchain_tokenhub.tools.client import MediaClient, ModelId, call_id
from langchain_tokenhub.tools.llm_text import description_of, error_text
from langchain_tokenhub.transport import Transport, finish


class ToolErrorMixin(BaseTool):
    """A tool that answers a tool call with an error, and raises it to anyone else."""

    def run(
        self, tool_input: Any, *args: Any, tool_call_id: str | None = None, **kwargs: Any
    ) -> Any:
        """Run the tool; to a tool call, an error is an answer too (contract, section 6)."""
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
        """As `run`."""
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
        return super().with_retry(
            retry_if_exception_type=retry_if_exception_type,  # type: ignore[arg-type, unused-ignore]  # older cores type it as a tuple
            **kwargs,
        )

    def _error_message(self, error: TokenHubError, tool_call_id: str | None) -> ToolMessage:
        """Answer a tool call with an error: a raise would lose its siblings' results."""
        if tool_call_id is None or isinstance(error, AuthenticationError):
            raise error
        return ToolMessage(
            error_text(error), name=self.name, tool_call_id=tool_call_id, status="error"
        )


class MediaTool(MediaClient, ToolErrorMixin):
    """A media model as a tool for agents, and as plain methods for code."""

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    name: str = ""
    """Defaults by model."""
    description: str = ""
    """Defaults by model and `language`."""
    args_schema: SkipValidation[ArgsSchema | None] = None
    """Defaults to the model's own parameters."""
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    language: Language = "zh"
    """Of the descriptions that a language model reads."""

    _own_schema: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        facts = self._facts()
        price = facts.price if isinstance(facts, MediaModel) else None
        self.name = self.name or facts.tool_name
        self.description = self.description or description_of(facts, price, self.language)
        if self.args_schema is None:
            self._own_schema = True
            self.args_schema = schema_class(self.model, self.language, self.kind)
        return self

    def _run(self, *_: Any, **params: Any) -> tuple[str, dict[str, Any]]:
        return finish(self._answer(self._sync(), emit, params))

    async def _arun(self, *_: Any, **params: Any) -> tuple[str, dict[str, Any]]:
        return await self._answer(self._async(), aemit, params)

    def _parse_input(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> str | dict[str, Any]:
        if isinstance(tool_input, str):
            tool_input = self._from_text(tool_input)
        return super()._parse_input(tool_input, tool_call_id)

    def _from_text(self, text: str) -> dict[str, Any]:
        """Take a bare string as the prompt."""
        fields = params_class(self.model, self.kind).model_fields
        if "prompt" in fields:
            return {"prompt": text}
        needed = ", ".join(name for name, field in fields.items() if field.is_required())
        raise InvalidRequestError(
            f"{self.model} has no prompt; give {needed}",
            hint=f"its fields: {', '.join(fields)}",
            phase="not sent",
        )

    async def _answer(
        self, transport: Transport, emit: Emit, params: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        with (
            suppress_warnings() if self._own_schema else nullcontext()
        ):  # LangChain has checked them
            result = await self._generate(transport, emit, params, None, by_model=True)
        return str(result), result.model_dump(mode="json")

    def __getstate__(self) -> dict[Any, Any]:
        """Return what a pickle holds: the schema, made at run time, is made again."""
        state = super().__getstate__()
        own = {"args_schema": None} if self._own_schema else {}
        return {**state, "__dict__": {**state["__dict__"], **own}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if self._own_schema:
            self.args_schema = schema_class(self.model, self.language, self.kind)


class TokenHubImageTool(MediaTool):
    """Pictures from text, and from pictures: `hy-image-v3.0` or `hy-image-lite`.

    Example:
        ```python
        tool = TokenHubImageTool(save_to="out")
        print(tool.generate(prompt="雨后的江南小镇，水墨风格"))
        ```
    """

    kind: ClassVar[Kind] = "image"
    model: ModelId = "hy-image-v3.0"


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


TOOLS: dict[Kind, type[MediaTool]] = {
    "image": TokenHubImageTool,
    "video": TokenHubVideoTool,
    "3d": Tokenhub3DTool,
}
"""Which tool a kind of model has."""
