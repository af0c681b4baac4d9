"""Which requests for chat and embeddings are accepted. Pure: a body in, facts or a refusal out."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from langchain_tokenhub.testing.errors import Era, bad, check_model
from langchain_tokenhub.testing.tables import Body, Row, chat_model, is_reasoning, table


def check_chat(body: Body, era: Era, added: Collection[str] = ()) -> tuple[Row, int]:
    """Return the row of the model and the tokens of the prompt, or refuse what is wrong."""
    row = chat_model(check_model(body.get("model"), "chat", added))
    _check_shape(_Chat, body)
    _check_order(body["messages"])
    prompt = _prompt_tokens(body)
    _check_capabilities(body, row, prompt)
    if era == "today":
        _check_family(body, row)
    return row, prompt


def check_embeddings(body: Body, added: Collection[str] = ()) -> int:
    """Return how many numbers a vector has, or refuse the first field that is wrong."""
    model = check_model(body.get("model"), "embedding", added)
    _check_shape(_Embeddings, body)
    size: int = table("models")["embeddings"].get(model, 1024)
    if body.get("dimensions") not in (None, size):
        raise bad("'dimensions' is fixed by the model.")
    return size


def _check_shape(shape: type[BaseModel], body: Body) -> None:
    try:
        shape.model_validate({k: v for k, v in body.items() if v is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name, *path = first["loc"] or ("body",)
        position = "".join(f"[{step}]" for step in path if isinstance(step, int))
        text = f"Invalid value for parameter '{name}{position}': {first['msg']}."
        raise bad(text) from error


# -- shapes -------------------------------------------------------------------------------------

_MAX_MINIMUM = 10_000
"""The largest `minItems` or `minLength` that is accepted: answers stay small."""
_LINK = r"https?://[^\s/]+"
_DATA_URL = r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=\s]+"
_REFERENCE = r"^#((/(\$defs|definitions|properties)/[^/]+)|/items)*$"
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _Open(BaseModel):
    """A JSON object; fields that are not listed pass, and values keep their types."""

    model_config = ConfigDict(strict=True)


class _Closed(_Open):
    """A JSON object that holds no other fields."""

    model_config = ConfigDict(extra="forbid")


_Type = Literal["object", "array", "string", "integer", "number", "boolean", "null"]


class _Schema(_Open):
    """The keys of a JSON schema that the emulator reads."""

    type: _Type | Annotated[list[_Type], Field(min_length=1)] = "object"
    ref: str = Field("", alias="$ref", pattern=_REFERENCE)
    defs: dict[str, _Schema] = Field({}, alias="$defs")
    definitions: dict[str, _Schema] = {}
    properties: dict[str, _Schema] = {}
    items: _Schema | None = None
    enum: list[Any] = []
    required: list[Any] = []
    any_of: _Schemas = Field([], alias="anyOf")
    one_of: _Schemas = Field([], alias="oneOf")
    all_of: _Schemas = Field([], alias="allOf")
    minimum: float = 0
    maximum: float = 0
    exclusive_minimum: float = Field(0, alias="exclusiveMinimum")
    exclusive_maximum: float = Field(0, alias="exclusiveMaximum")
    max_length: float = Field(0, alias="maxLength")
    max_items: float = Field(0, alias="maxItems")
    min_length: int = Field(0, alias="minLength", ge=0, le=_MAX_MINIMUM)
    min_items: int = Field(0, alias="minItems", ge=0, le=_MAX_MINIMUM)


_Schemas = Annotated[list[_Schema], Field(min_length=1)]


def is_schema(value: Any) -> bool:
    """Return True if a schema and all that it holds are well formed."""
    try:
        _Schema.model_validate(value)
    except ValidationError:
        return False
    return True


class _Link(_Open):
    url: str = Field(pattern=f"^{_LINK}")


class _Media(_Open):
    url: str = Field(pattern=rf"^({_LINK}|{_DATA_URL})")
    detail: Literal["auto", "low", "high"] = "auto"


class _Part(_Closed):
    type: Literal["text", "image_url", "video_url", "file_url"]
    text: str = ""
    image_url: _Media | None = None
    video_url: _Media | None = None
    file_url: _Link | None = None

    @model_validator(mode="after")
    def _check_field(self) -> Self:
        if self.model_fields_set != {"type", self.type} or getattr(self, self.type) is None:
            raise ValueError(f"a part of the type {self.type} has the field {self.type} alone")
        return self


class _CalledFunction(_Open):
    name: str
    arguments: str


class _Call(_Closed):
    id: str
    type: Literal["function"] = "function"
    function: _CalledFunction
    index: Any = None


_ROLE_FIELDS = {
    "assistant": {"tool_calls", "reasoning_content", "reasoning_details"},
    "tool": {"tool_call_id"},
}


class _Message(_Closed):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | Annotated[list[_Part], Field(min_length=1)] | None = None
    name: Any = None
    tool_calls: Annotated[list[_Call], Field(min_length=1)] | None = None
    tool_call_id: str = ""
    reasoning_content: Any = None
    reasoning_details: Any = None

    @model_validator(mode="after")
    def _check_role_fields(self) -> Self:
        known = {"role", "content", "name"} | _ROLE_FIELDS.get(self.role, set())
        if unknown := self.model_fields_set - known:
            raise ValueError(f"role {self.role} has no {min(unknown)}")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is required")
        parts = self.content if isinstance(self.content, list) else []
        if self.role != "user" and any(part.type != "text" for part in parts):
            raise ValueError(f"role {self.role} takes only text")
        return self


class _Function(_Open):
    name: _Name
    description: str = ""
    parameters: _Schema | None = None


class _Tool(_Open):
    type: str
    function: _Function | None = None

    @model_validator(mode="after")
    def _check_function(self) -> Self:
        if self.type == "function":
            if self.function is None:
                raise ValueError("function is required")
            schema = self.function.parameters
            if schema and (schema.type != "object" or "type" not in schema.model_fields_set):
                raise ValueError("parameters must have the type object")
        return self


class _Thinking(_Open):
    type: Literal["enabled", "disabled", "adaptive"]


class _NamedSchema(_Open):
    name: _Name
    schema_: _Schema = Field(alias="schema")


class _PlainFormat(_Open):
    type: Literal["text", "json_object"]


class _SchemaFormat(_Open):
    type: Literal["json_schema"]
    json_schema: _NamedSchema


class _Chat(_Open):
    """A chat request."""

    messages: list[_Message] = Field(min_length=1)
    stream: bool = False
    stream_options: dict[str, bool] = {}
    temperature: float = Field(1, ge=0, le=2)
    top_p: float = Field(1, ge=0, le=1)
    presence_penalty: float = Field(0, ge=-2, le=2)
    frequency_penalty: float = Field(0, ge=-2, le=2)
    max_tokens: int = Field(1, gt=0)
    max_completion_tokens: int = Field(1, gt=0)
    n: int = Field(1, ge=1, le=1)
    seed: int = 0
    stop: str | Annotated[list[str], Field(min_length=1, max_length=4)] = ""
    tools: list[_Tool] = Field([], min_length=1)
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    thinking: _Thinking | None = None
    reasoning_effort: str = ""
    response_format: _PlainFormat | _SchemaFormat | None = Field(None, discriminator="type")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if "stream_options" in self.model_fields_set and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        names = [tool.function.name for tool in self.tools if tool.function]
        match self.tool_choice:
            case "required" if not self.tools:
                raise ValueError("tool_choice needs tools")
            case {"type": "function", "function": {"name": str(name)}} if name in names:
                return self
            case dict():
                raise ValueError("tool_choice names no tool")
        return self


_Text = Annotated[str, Field(min_length=1, max_length=2000)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Embeddings(_Open):
    """A request for embeddings; the service recommends at most 128 texts."""

    input: Annotated[list[_Text], BeforeValidator(_as_list), Field(min_length=1, max_length=128)]
    encoding_format: Literal["float"] = "float"


# -- tokens -------------------------------------------------------------------------------------

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_PIECE = re.compile(
    rf"[{_CJK}]{{1,2}}|(?:(?![{_CJK}])\w){{1,8}} ?|(?:(?![{_CJK}])[^\w\s]){{1,4}} ?|\s+"
)
_MEDIA_TOKENS = 256


def pieces(text: str) -> list[str]:
    """Split text into tokens; a delta of a stream carries one."""
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """Return the number of tokens."""
    return sum(1 for _ in _PIECE.finditer(text))


def _prompt_tokens(body: Body) -> int:
    """Count the tokens of messages and tools."""
    tools = json.dumps(body["tools"], ensure_ascii=False) if body.get("tools") else ""
    return count_tokens(tools) + sum(message_tokens(message) for message in body["messages"])


def message_tokens(message: Body) -> int:
    """Count the tokens of one message; an image or a video counts 256."""
    parts = parts_of(message)
    words = sum(count_tokens(p["text"]) if p["type"] == "text" else _MEDIA_TOKENS for p in parts)
    calls = message.get("tool_calls") or []
    return 3 + words + sum(count_tokens(call["function"]["arguments"]) + 4 for call in calls)


def parts_of(message: Body) -> list[Any]:
    """Return the parts of a message's content."""
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


# -- order and capabilities ---------------------------------------------------------------------

_MAY_FOLLOW = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant", "user"},
}


def _check_order(messages: list[Body]) -> None:
    """Check that roles take turns, system first if at all, and that each tool call is answered."""
    before, open_calls = "", set[str]()
    for at, message in enumerate(messages):
        role, where = message["role"], f"messages[{at}]"
        if role not in _MAY_FOLLOW[before]:
            after = f"after role '{before}'" if before else "first"
            raise bad(f"{where}: role '{role}' may not come {after}.")
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                raise bad(f"{where}: tool_call_id answers no tool call.")
            open_calls.remove(message["tool_call_id"])
        else:
            _refuse_unanswered(open_calls, where)
            open_calls = {call["id"] for call in message.get("tool_calls") or ()}
        before = role
    where = f"messages[{len(messages) - 1}]"
    if before not in {"user", "tool"}:
        raise bad(f"{where}: the last role must be 'user' or 'tool'.")
    _refuse_unanswered(open_calls, where)


def _refuse_unanswered(open_calls: set[str], where: str) -> None:
    if open_calls:
        raise bad(f"{where}: no tool message answers {', '.join(sorted(open_calls))}.")


def _check_capabilities(body: Body, row: Row, prompt: int) -> None:
    if body.get("tools") and not row["tools"]:
        raise bad(f"{row['id']} does not support tools.", code="400005")
    parts = [part for message in body["messages"] for part in parts_of(message)]
    if not row["images"] and any(part["type"] != "text" for part in parts):
        raise bad(f"{row['id']} only takes text.", code="400005")
    if prompt > row["max_input"]:
        raise bad(f"The input exceeds the limit of {row['max_input']} tokens.", code="400003")


def _check_family(body: Body, row: Row) -> None:
    """Check what today's service enforces for some families of models."""
    _check_thinking(body, row)
    allowed = row["temperatures"]
    if allowed and body.get("temperature", allowed[0]) not in allowed:
        values = " or ".join(map(str, allowed))
        raise bad(f"invalid temperature: only {values} is allowed for this model")
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_schema" and row["json_schema"] == "refuses":
        raise bad("This response_format type is unavailable now", code="400006")
    contents = [message.get("content") for message in body["messages"]]
    is_asked = kind == "json_object" and row["json_word"]
    if is_asked and "json" not in json.dumps(contents).lower():
        raise bad("Prompt must contain the word 'json' to use response_format json_object.")


def _check_thinking(body: Body, row: Row) -> None:
    kind = (body.get("thinking") or {}).get("type")
    if kind is not None and kind not in row["thinking_types"]:
        raise bad(f"thinking.type '{kind}' is not supported by {row['id']}.")
    if not is_reasoning(row, body):
        return
    if body.get("tool_choice") not in (None, "none", "auto") and not row["forced_tools"]:
        raise bad("Thinking mode does not support this tool_choice")
    for at, message in enumerate(body["messages"]):
        if row["echo"] and message.get("tool_calls") and not message.get("reasoning_content"):
            raise bad(row["echo"].format(index=at))
