"""What the three tools share: a media model as a tool for agents."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal, Self

from langchain_core.tools import ArgsSchema
from pydantic import ConfigDict, PrivateAttr, SkipValidation, model_validator

from langchain_tokenhub.catalogue import MediaModel
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.descriptions import description_of
from langchain_tokenhub.jobs.progress import Emit, aemit, emit
from langchain_tokenhub.media import Language, params_class, schema_class, told_already
from langchain_tokenhub.tools.answering import Answering
from langchain_tokenhub.tools.client import MediaClient
from langchain_tokenhub.transport import Transport, finish


class MediaTool(MediaClient, Answering):
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
        with told_already() if self._own_schema else nullcontext():  # LangChain has checked them
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
