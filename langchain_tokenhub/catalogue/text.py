"""The text models: chat models with what each accepts, and embedding models."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from langchain_tokenhub.catalogue.tables import rows

Thinking = Literal["enabled", "disabled", "adaptive", "none"]
StructuredMethod = Literal["json_schema", "function_calling", "json_mode"]
Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """One row of chat_models.toml with the defaults of its family; None means not known."""

    id: str
    family: str
    provider: str
    display: str = ""
    context: int | None = None
    max_input: int | None = None
    max_output: int | None = None
    thinking_default: Thinking | None = None
    thinking_switchable: bool | None = None
    thinking_field: bool = True
    """False where the body field `thinking` itself is refused."""
    thinking_on: Literal["enabled", "adaptive"] = "enabled"
    """Value of `thinking.type` that switches reasoning on."""
    reasoning_effort: tuple[str, ...] = ()
    reasoning_effort_default: str | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    sampling: bool = True
    """False where temperature and top_p are pinned: sent only when the caller sets them."""
    tools: bool | None = None
    forced_tools_while_thinking: bool = True
    """False where a forced tool is refused, or not guaranteed, while the model reasons."""
    structured_method: StructuredMethod | None = None
    """The method known to work."""
    json_schema: bool | None = None
    """Whether `json_schema` is supported; False where it is refused or answered with prose."""
    image: bool | None = None
    video: bool | None = None
    file: bool | None = None
    video_by_link_only: bool = False
    """Whether a video that is sent as bytes is refused."""
    reasoning_in_content: bool = False
    """Whether the model always writes its reasoning into the text, before `</think>`."""
    echo_reasoning: Literal["always", "tool_calls", "never"] = "tool_calls"
    """The assistant messages with which reasoning is sent back to the service."""
    reasoning_filler: str | None = None
    """Replaces missing reasoning where the service requires some."""
    price_cny_per_m: tuple[float, float] | None = None
    price_usd_per_m: tuple[float, float] | None = None
    """Per million tokens: input, output."""
    status: Literal["online", "listed", "retiring", "pre-offline", "retired"] = "online"
    status_note: str = ""
    confidence: Confidence = "low"
    source: str = ""

    @property
    def reasons_by_default(self) -> bool:
        """Whether the model is known to reason unless that is switched off."""
        return self.thinking_default in {"enabled", "adaptive"}

    @property
    def can_reason(self) -> bool:
        """Whether the model is known to reason, always or on request."""
        return bool(self.thinking_switchable or self.reasons_by_default)

    @property
    def can_force_tools(self) -> bool:
        """Whether a forced tool is known to be called, if need be with reasoning off."""
        return bool(self.forced_tools_while_thinking or self.thinking_switchable)

    @property
    def accepts_files(self) -> bool | None:
        """Whether files are accepted; a model that accepts only text accepts none."""
        text_alone = self.image is False and self.video is False
        return False if self.file is None and text_alone else self.file


def chat_model(model: str) -> ChatModel | None:
    """Return the row of `model` in any letter case, None for an unknown or `ep-…` id."""
    return _chat_models().get(model.lower())


def chat_models() -> tuple[ChatModel, ...]:
    """Return every known chat model, the guide's thirteen first."""
    return tuple(_chat_models().values())


def profile(model: str) -> dict[str, Any]:
    """Return `model`'s capabilities under LangChain's `ModelProfile` keys, `{}` when unknown.

    The keys may be newer than the installed LangChain: drop those that it does not declare.
    """
    row = chat_model(model)
    if row is None:
        return {}
    effort = list(row.reasoning_effort) or None
    known = {
        "name": row.display,
        "status": "active" if row.status in {"online", "listed"} else "deprecated",
        "max_input_tokens": row.max_input or row.context,
        "max_output_tokens": row.max_output,
        "temperature": row.sampling,
        "text_inputs": True,
        "image_inputs": row.image,
        "image_url_inputs": row.image,
        "video_inputs": row.video,
        "pdf_inputs": row.accepts_files,
        "audio_inputs": False,
        "image_tool_message": row.image,  # sent in a user message after the result
        "pdf_tool_message": row.accepts_files,
        "text_outputs": True,
        "image_outputs": False,
        "audio_outputs": False,
        "video_outputs": False,
        "reasoning_output": row.can_reason if row.thinking_default or row.can_reason else None,
        "reasoning_effort_levels": effort,
        "reasoning_effort_default": row.reasoning_effort_default if effort else None,
        "tool_calling": row.tools,
        "tool_choice": row.tools and row.can_force_tools,
        "tool_call_streaming": row.tools,
        "structured_output": bool(row.json_schema),
    }
    return {key: value for key, value in known.items() if value is not None}


@functools.cache
def _chat_models() -> dict[str, ChatModel]:
    tables = rows("chat_models")
    found: dict[str, ChatModel] = {}
    for name, row in tables["model"].items():
        columns = {"id": name, "display": name} | tables["family"][row["family"]] | row
        lists = {key: tuple(value) for key, value in columns.items() if isinstance(value, list)}
        found[name] = ChatModel(**columns | lists)
    return found


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """One row of embedding_models.toml, which explains the columns; None means not known."""

    id: str
    path: str
    max_characters: int
    dimensions: int | None = None
    context: int | None = None
    price_cny_per_m: float | None = None
    confidence: Confidence = "low"
    source: str = ""


def embedding_model(model: str) -> EmbeddingModel:
    """Return the row of `model` in any letter case, or the defaults for an unknown model."""
    known = _embedding_models().get(model.lower())
    return known or EmbeddingModel(id=model, **rows("embedding_models")["any"])


def embedding_models() -> tuple[EmbeddingModel, ...]:
    """Return every known embedding model."""
    return tuple(_embedding_models().values())


@functools.cache
def _embedding_models() -> dict[str, EmbeddingModel]:
    tables = rows("embedding_models")
    found = tables["model"].items()
    return {name: EmbeddingModel(**{"id": name} | tables["any"] | row) for name, row in found}
