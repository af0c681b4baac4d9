"""The wire's answers to LangChain's. Pure.

Whole:  {"id", "created", "model", "choices": [{"message": {"content", "reasoning_content",
        "tool_calls"}, "finish_reason"}], "usage"}
Stream: {"id", "model", "choices": [{"delta": {...}, "finish_reason"}]} …, then a chunk with
        `choices: []` and `usage`, then `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    InvalidToolCall,
    ToolCall,
    message_chunk_to_message,
)
from langchain_core.messages.ai import (
    InputTokenDetails,
    OutputTokenDetails,
    UsageMetadata,
    add_ai_message_chunks,
)
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_tokenhub.chat import PROVIDER
from langchain_tokenhub.chat.deltas import SurrogateJoiner, ToolCallAssembler, arguments, joined
from langchain_tokenhub.errors import ServerError, clean

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_PLAIN = frozenset({"role", "content"})
_OPEN, _CLOSE = "<think>", "</think>"


class Delta(NamedTuple):
    """What one chunk of a stream adds."""

    reasoning: str
    text: str
    tools: Sequence[ToolCallChunk]


@dataclass
class Ending:
    """What a stream says once: how it ended, and what it cost."""

    metadata: dict[str, Any] = field(default_factory=lambda: {"model_provider": PROVIDER})
    usage: UsageMetadata | None = None


def decode_answer(data: object, *, model: str, told: Mapping[str, Any] = _NOTHING) -> ChatResult:
    """Return LangChain's result for a whole answer.

    Args:
        data: What came.
        model: Whom was asked.
        told: What the transport knows of the answer.

    Raises:
        ServerError: There is no message in it.
    """
    choice = _choice(data)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(data, Mapping) or not isinstance(message, Mapping):
        raise ServerError(f"the answer holds no message: {clean(str(data), 200)}", status=200)
    # read as a stream of one chunk: whatever the face, the content is the same
    reader = DeltaReader(model)
    said, (rest, ending) = reader.read(data), reader.finish(told)
    deltas = [said, *rest] if said else rest
    reasoning = "".join(delta.reasoning for delta in deltas)
    calls, broken = _tool_calls([chunk for delta in deltas for chunk in delta.tools])
    made = AIMessage(
        content="".join(delta.text for delta in deltas),
        additional_kwargs={"reasoning_content": reasoning} if reasoning else {},
        tool_calls=calls,
        invalid_tool_calls=broken,
        response_metadata={"finish_reason": "stop", **ending.metadata},
        usage_metadata=ending.usage,
    )
    return ChatResult(generations=[ChatGeneration(message=made)])


def _choice(data: object) -> dict[str, Any] | None:
    choices = data.get("choices") if type(data) is dict else None
    first = choices[0] if type(choices) is list and choices else None
    return first if type(first) is dict else None


def _metadata(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: data.get(name) for name in ("id", "created", "request_id")}
    found["model_name"] = data.get("model")
    return {name: value for name, value in found.items() if value not in (None, "")}


def _reasoning(message: Mapping[str, Any]) -> str:
    return _string(
        message.get("reasoning_content")
        or message.get("reasoning")
        or message.get("reasoning_details")
    )


def _string(value: object) -> str:
    """Return text however it is wrapped: a string, null, or a list of text parts."""
    match value:
        case str():
            return value
        case list():
            return "".join(_string(part.get("text")) for part in value if isinstance(part, Mapping))
        case _:
            return ""


def _tool_calls(
    chunks: list[ToolCallChunk],
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Return the calls whose arguments are a JSON object, and the others."""
    calls: list[ToolCall] = []
    broken: list[InvalidToolCall] = []
    for chunk in joined(chunks):
        args = arguments(chunk["args"] or "")
        if args is not None and chunk["name"]:
            calls.append(ToolCall(type="tool_call", name=chunk["name"], args=args, id=chunk["id"]))
        else:
            raw = {
                "id": chunk["id"],
                "function": {"name": chunk["name"], "arguments": chunk["args"]},
            }
            broken.append(make_invalid_tool_call(raw, "the arguments are not a JSON object"))
    return calls, broken


def _numbered(calls: object) -> list[dict[str, Any]]:
    """Return the calls of a whole message, each with a number: none of them goes on another's."""
    known = [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    return [{**call, "index": number} for number, call in enumerate(known)]


class DeltaReader:
    """Reads the chunks of one stream, and remembers what may be said only once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._tools = ToolCallAssembler()
        self._text, self._thought = SurrogateJoiner(), SurrogateJoiner()
        self._tagged = _Tags()
        self._metadata: dict[str, Any] = {}
        self._introduced = False
        self._finish_reason: str | None = None
        self._usage: object = None

    @property
    def complete(self) -> bool:
        """Whether the model said how it ended."""
        return self._finish_reason is not None

    def read(self, value: object) -> Delta | None:
        """Return what a chunk adds, or None if it adds nothing.

        Raises:
            ServerError: It is not a chunk at all.
        """
        if not isinstance(value, dict):
            raise ServerError(f"the stream holds what is no chunk: {clean(str(value), 200)}")
        if not self._introduced:
            self._metadata = _metadata(value) | self._metadata
            self._introduced = "id" in self._metadata and "model_name" in self._metadata
        if usage := value.get("usage"):
            self._usage = usage  # a running total: the last one counts
        choice = _choice(value)
        if choice is None:
            return None
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason)
        delta = choice.get("delta")
        if type(delta) is dict and not delta.keys() - _PLAIN and not self._tagged.active:
            content = delta.get("content")  # as nearly all are
            if type(content) is str:
                text = self._text.feed(content)
                return Delta("", text, ()) if text else None
        # a server that ignores `stream` answers whole: its message is one large delta
        if not delta and isinstance(message := choice.get("message"), dict):
            delta = {**message, "tool_calls": _numbered(message.get("tool_calls"))}
        return self._delta(delta) if isinstance(delta, dict) else None

    def _delta(self, delta: dict[str, Any]) -> Delta | None:
        content = delta.get("content") or delta.get("refusal")
        thought = _reasoning(delta)
        if type(content) is str and not thought and not self._tagged.active:
            text = self._text.feed(content)
        else:
            more, text = self._tagged.feed(_string(content))
            text = self._text.feed(text)
            thought = self._thought.feed(thought + more)
        calls = delta.get("tool_calls")
        tools = self._tools.feed(calls) if calls else []
        return Delta(thought, text, tools) if text or thought or tools else None

    def finish(self, told: Mapping[str, Any] = _NOTHING) -> tuple[list[Delta], Ending]:
        """Return what was held back, and what the stream says once; `told` as `decode_answer`."""
        more, text = self._tagged.finish()
        thought = self._thought.feed(more) + self._thought.finish()
        said = self._text.feed(text) + self._text.finish()
        rest = Delta(thought, said, self._tools.finish())
        ending = Ending(usage=decode_usage(self._usage))
        ending.metadata["model_name"] = self._model
        ending.metadata.update(told)
        ending.metadata.update((name, _plain(value)) for name, value in self._metadata.items())
        if self._finish_reason is not None:
            ending.metadata["finish_reason"] = self._finish_reason
        return ([rest] if any(rest) else []), ending


def _plain(value: Any) -> Any:
    """Return a scalar as it is, and anything else as text: metadata is merged and stored."""
    return value if isinstance(value, (str, int)) else str(value)


class _Tags:
    """Takes `<think>…</think>` at the beginning of a text apart, split anywhere."""

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["start", "opened", "inside", "after", "text"] = "start"

    @property
    def active(self) -> bool:
        """Whether a text has to go through here."""
        return self._state != "text"

    def feed(self, text: str) -> tuple[str, str]:
        """Return reasoning and text in `text`."""
        if self._state == "text" or not text:
            return "", text
        self._held += text
        if self._state == "start":
            self._begin()
        return self._think(), self._say()

    def _begin(self) -> None:
        said = self._held.lstrip()
        if said.startswith(_OPEN):
            self._state, self._held = "opened", said.removeprefix(_OPEN)
        elif not _OPEN.startswith(said):
            self._state = "text"

    def _think(self) -> str:
        if self._state == "opened":
            self._held = self._held.lstrip()
            self._state = "inside" if self._held else "opened"
        if self._state != "inside":
            return ""
        reasoning, found, rest = self._held.partition(_CLOSE)
        if found:
            self._state, self._held = "after", rest
            return reasoning
        keep = next(n for n in range(len(_CLOSE) - 1, -1, -1) if self._held.endswith(_CLOSE[:n]))
        ready = self._held[: len(self._held) - keep]
        self._held = self._held[len(ready) :]
        return ready

    def _say(self) -> str:
        if self._state == "after":
            self._held = self._held.lstrip("\n")
            self._state = "text" if self._held else "after"
        return self._take() if self._state == "text" else ""

    def finish(self) -> tuple[str, str]:
        """Return what was held back."""
        thinking = self._state == "inside"
        self._state, rest = "text", self._take()
        return (rest, "") if thinking else ("", rest)

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


def chunk_of(item: Delta | Ending) -> ChatGenerationChunk:
    """Return LangChain's chunk; finish reason, names and usage stand on the last one alone."""
    if type(item) is Delta and not item.reasoning and not item.tools:
        return _text_chunk(item.text)
    if isinstance(item, Ending):
        message = AIMessageChunk(
            content="",
            response_metadata=item.metadata,
            usage_metadata=item.usage,
            chunk_position="last",
        )
    else:
        message = AIMessageChunk(
            content=item.text,
            additional_kwargs={"reasoning_content": item.reasoning} if item.reasoning else {},
            tool_call_chunks=list(item.tools),
            response_metadata={"model_provider": PROVIDER},
        )
    return ChatGenerationChunk(message=message)


_EMPTY = AIMessageChunk(
    content="",
    additional_kwargs={},
    tool_call_chunks=[],
    response_metadata={"model_provider": PROVIDER},
)
_EMPTY_GENERATION = ChatGenerationChunk(message=_EMPTY)


def _text_chunk(text: str) -> ChatGenerationChunk:
    """Return a chunk of text, equal to a validated one at a third of its cost."""
    message = _EMPTY.__copy__()  # as `copy.copy` does, which costs as much again to find it
    vars(message).update(
        {
            "content": text,
            "additional_kwargs": {},
            "response_metadata": {"model_provider": PROVIDER},
            "tool_calls": [],
            "invalid_tool_calls": [],
            "tool_call_chunks": [],
        }
    )
    chunk = _EMPTY_GENERATION.__copy__()
    vars(chunk).update({"message": message, "text": text})
    return chunk


def message_of(deltas: Sequence[Delta]) -> AIMessage:
    """Return the message as far as it came."""
    chunks = [cast("AIMessageChunk", chunk_of(delta).message) for delta in deltas]
    whole = add_ai_message_chunks(chunks[0], *chunks[1:]) if chunks else AIMessageChunk(content="")
    return cast("AIMessage", message_chunk_to_message(whole))


def decode_usage(usage: object) -> UsageMetadata | None:
    """Return LangChain's counts, or None if there are none.

    The guide spells `prompt_tokens_details.cached_token`, today's answers `cached_tokens`; some
    models behind the gateway send `prompt_cache_hit_tokens`, and some send numbers as strings.
    Details never exceed what they are a part of.
    """
    if not isinstance(usage, Mapping) or not usage:
        return None
    given = _count(usage, "prompt_tokens", "input_tokens") or 0
    made = _count(usage, "completion_tokens", "output_tokens") or 0
    counts = UsageMetadata(
        input_tokens=given,
        output_tokens=made,
        total_tokens=max(_count(usage, "total_tokens") or 0, given + made),
    )
    cached = _first(
        _count(_part(usage, "prompt_tokens_details"), "cached_tokens", "cached_token"),
        _count(usage, "cache_read_tokens", "prompt_cache_hit_tokens"),
    )
    if cached is not None:
        counts["input_token_details"] = InputTokenDetails(cache_read=min(cached, given))
    thought = _count(_part(usage, "completion_tokens_details"), "reasoning_tokens")
    if thought is not None:
        counts["output_token_details"] = OutputTokenDetails(reasoning=min(thought, made))
    return counts


def _part(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = usage.get(name)
    return part if isinstance(part, Mapping) else {}


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


def _count(values: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if (count := _number(values.get(name))) is not None:
            return count
    return None


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return max(0, int(float(value)))
    except (ValueError, OverflowError):
        return None


MODELS_PATH = "/v1/models"


@dataclass(frozen=True)
class ListedModel:
    """One model of the service, of any modality.

    Args:
        id: What goes into `model=`.
        name: For people; the id where the service gives none.
        status: `online`, or `pre-offline` for one that is about to go.
        created: When the service took it up.
    """

    id: str
    name: str
    status: str | None = None
    created: datetime | None = None


def decode_models(data: object) -> list[ListedModel]:
    """Return the models in an answer.

    Raises:
        ServerError: It is no list of models.
    """
    rows = data.get("data") if isinstance(data, Mapping) else None
    if not isinstance(rows, list):
        raise ServerError(f"the answer lists no models: {clean(str(data), 200)}", status=200)
    return [_model(row) for row in rows if isinstance(row, Mapping) and row.get("id")]


def _model(row: Mapping[str, Any]) -> ListedModel:
    name, status, created = (row.get(key) for key in ("name", "status", "created"))
    return ListedModel(
        id=str(row["id"]),
        name=str(name or row["id"]),
        status=str(status) if status else None,
        created=_moment(created),
    )


def _moment(seconds: object) -> datetime | None:
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return None
