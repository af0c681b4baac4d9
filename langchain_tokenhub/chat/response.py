"""The service's answers as LangChain's messages. Pure.

Whole:  {"id", "created", "model", "choices": [{"message": {"content", "reasoning_content",
        "tool_calls"}, "finish_reason"}], "usage"}
Stream: {"id", "model", "choices": [{"delta": {...}, "finish_reason"}]} …, then a chunk with
        `choices: []` and `usage`, then `[DONE]`.

A whole answer is read as a stream of one chunk, so that both give the same content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils._merge import merge_lists

from langchain_tokenhub import catalogue
from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.chat.deltas import SurrogateJoiner, ToolCallAssembler
from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    ServerError,
    TokenHubError,
    clean,
)

PROVIDER = "tokenhub"
"""`ls_provider` and `model_provider`; LangChain's middleware trusts usage if they are equal."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OPEN, _CLOSE = "<think>", "</think>"


class Delta(NamedTuple):
    """The content that one chunk of a stream adds."""

    reasoning: str
    text: str
    tools: Sequence[ToolCallChunk]


@dataclass
class Ending:
    """The metadata and token counts of an answer, known at its end."""

    metadata: dict[str, Any] = field(default_factory={"model_provider": PROVIDER}.copy)
    usage: UsageMetadata | None = None


@dataclass
class PartialAnswer:
    """The part of an answer that has been received."""

    deltas: list[Delta] = field(default_factory=list)
    ending: Ending = field(default_factory=Ending)

    def message(self) -> AIMessage:
        """Return the part as a message."""
        return message_of([*self.deltas, self.ending])


def check_answer(data: object) -> dict[str, Any]:
    """Return a whole answer.

    Raises:
        ServerError: The answer holds no message.
    """
    match data:
        case {"choices": [{"message": dict()} | {"delta": dict()}, *_]}:
            return cast("dict[str, Any]", data)
        case _:
            excerpt = clean(str(data), 200)
            raise ServerError(f"the answer holds no message: {excerpt}", status=200)


# -- how an answer ended ------------------------------------------------------------------------

_ENDED = frozenset(
    {"stop", "tool_calls", "function_call"}
    | {"eos", "end_turn", "stop_sequence", "tool_use"}  # TGI, Anthropic behind gateways
)
_LIMITED = frozenset({"length", "max_tokens"})
"""The caller's own `max_tokens`, which the guide documents."""
_TRUNCATED = frozenset(
    {"content_filter", "sensitive"}  # OpenAI; Hunyuan and GLM
    | {"model_context_window_exceeded", "repetition_truncation"}  # GLM; MiMo
)
_FAILED = frozenset(
    {"network_error", "insufficient_system_resource"}  # GLM; DeepSeek
    | {"aborted", "abort", "error"}  # DeepSeek; vLLM, SGLang; vLLM, gateways
    | {"server_error", "timeout", "cancelled"}
)


def check_finish_reason(received: PartialAnswer) -> None:
    """Warn if the answer was truncated, or ended for a reason that is not known.

    Raises:
        ServerError: The model failed while answering; `partial` is the message so far.
    """
    reason = clean(received.ending.metadata.get("finish_reason", "stop"), 60)
    word = reason.lower()
    if word in _FAILED:
        problem = f"the model failed while answering: finish_reason is {reason!r}"
        error = ServerError(problem, status=200, phase="answered", hint="try again")
        error.partial = received.message()
        raise error
    if word in _TRUNCATED:
        warn_user(f"the answer is truncated: finish_reason is {reason!r}")
    elif word not in _ENDED | _LIMITED:
        warn_user(f"the answer ended with an unknown finish_reason {reason!r}")


# -- the chunks of a stream -----------------------------------------------------------------------


class DeltaReader:
    """Reads the chunks of one stream.

    A chunk may also hold a whole `message`, from servers that ignore `stream` or end a stream with
    it: only the part that the deltas did not hold is added.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._tools = ToolCallAssembler()
        self._text, self._thought = SurrogateJoiner(), SurrogateJoiner()
        self._tags = _ThinkTags(catalogue.chat_model(model))
        self._contents: list[str] = []
        self._thoughts: list[str] = []
        self._has_deltas = False
        self._metadata: dict[str, Any] = {}
        self._has_metadata = False
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}

    def is_complete_despite(self, error: TokenHubError) -> bool:
        """Return True if the stream was cut by `error`, but after its finish reason."""
        is_cut = isinstance(error, APIConnectionError | APITimeoutError)
        return is_cut and error.phase == "streaming" and self._finish_reason is not None

    def read(self, value: dict[str, Any]) -> Delta | None:
        """Return what a chunk adds, or None if it adds nothing."""
        if not self._has_metadata:
            self._read_metadata(value)
        if usage := value.get("usage"):
            _add_usage(self._usage, usage)
        choices = value.get("choices")
        choice = choices[0] if type(choices) is list and choices else None
        if type(choice) is not dict:
            return None
        if (reason := choice.get("finish_reason")) and reason != "null":
            self._finish_reason = str(reason)
        delta = choice.get("delta")
        if (  # nearly every chunk
            type(delta) is dict
            and type(content := delta.get("content")) is str
            and (len(delta) == 1 or (len(delta) == 2 and "role" in delta))
            and not self._tags.is_active
            and "message" not in choice
            and "usage" not in choice
        ):
            if not content:
                return None
            self._contents.append(content)
            self._has_deltas = True
            return Delta("", text, ()) if (text := self._text.feed(content)) else None
        return self._read(choice)

    def _read_metadata(self, value: dict[str, Any]) -> None:
        """Read a chunk's metadata, until id and model are known."""
        known = self._metadata
        for name in ("id", "created", "request_id", "model"):
            if (found := value.get(name)) not in (None, ""):
                known.setdefault("model_name" if name == "model" else name, found)
        self._has_metadata = "id" in known and "model_name" in known

    def _read(self, choice: dict[str, Any]) -> Delta | None:
        delta = choice.get("delta")
        delta = delta if type(delta) is dict else _NOTHING
        message = choice.get("message")
        message = message if type(message) is dict else _NOTHING
        for part in (choice, delta, message):
            if "usage" in part:
                _add_usage(self._usage, part["usage"])
        content, thought = _content(delta), _reasoning(delta)
        if content or thought:
            self._has_deltas = True
        if calls := _calls(delta):
            self._tools.feed(calls)
        if message:
            content += self._missing_part(_content(message), self._contents, content)
            thought += self._missing_part(_reasoning(message), self._thoughts, thought)
            self._tools.feed_message(_calls(message))
        return self._delta(content, thought)

    def _missing_part(self, whole: str, earlier: list[str], latest: str) -> str:
        """Return what a message adds to the deltas before it."""
        known = "".join(earlier) + latest
        if whole.startswith(known):
            return whole[len(known) :]
        return "" if self._has_deltas else whole

    def _delta(self, content: str, thought: str) -> Delta | None:
        text = ""
        if thought:
            self._tags.note_reasoning()
        if content:
            self._contents.append(content)
            tagged, text = self._tags.feed(content)
            thought, text = thought + tagged, self._text.feed(text)
        if thought:
            self._thoughts.append(thought)
            thought = self._thought.feed(thought)
        tools = self._tools.take_chunks()
        return Delta(thought, text, tools) if text or thought or tools else None

    def finish(self, metadata: Mapping[str, Any] = _NOTHING) -> tuple[list[Delta], Ending]:
        """Return the deltas held back, and the ending with `metadata` added."""
        tagged, text = self._tags.finish()
        thought = self._thought.feed(tagged) + self._thought.finish()
        text = self._text.feed(text) + self._text.finish()
        has_ended = (self._finish_reason or "").lower() in _ENDED
        rest = Delta(thought, text, self._tools.finish(ended=has_ended))
        ending = Ending(usage=decode_usage(self._usage))
        ending.metadata["model_name"] = self._model
        ending.metadata.update(metadata)
        ending.metadata.update((name, _plain(value)) for name, value in self._metadata.items())
        if self._finish_reason is not None:
            ending.metadata["finish_reason"] = self._finish_reason
        return ([rest] if any(rest) else []), ending


def _plain(value: Any) -> Any:
    """Return a scalar unchanged, and anything else as text: metadata is merged and stored."""
    return value if isinstance(value, (str, int)) else str(value)


def _content(message: Mapping[str, Any]) -> str:
    return _string(message.get("content") or message.get("refusal"))


def _reasoning(message: Mapping[str, Any]) -> str:
    return _string(
        message.get("reasoning_content")
        or message.get("reasoning")
        or message.get("reasoning_details")
    )


def _string(value: object) -> str:
    """Return text in any form: a string, null, or a list of text parts."""
    if isinstance(value, list):
        return "".join(_string(part.get("text")) for part in value if isinstance(part, Mapping))
    return value if isinstance(value, str) else ""


def _calls(message: Mapping[str, Any]) -> object:
    """Return the tool calls; OpenAI's older `function_call` is one of them."""
    calls, function = message.get("tool_calls"), message.get("function_call")
    return calls or (function and [{"index": 0, "function": function}])


class _ThinkTags:
    """Splits `<think>…</think>` at the beginning of a text from the text, in any pieces.

    Such blocks in the middle of a text are text. `</think>` without `<think>` ends reasoning only
    where that is known: at the beginning of the text of a model that reasons, or anywhere in the
    text of a model that always writes its reasoning there (`reasoning_in_content` in the
    catalogue), as long as no reasoning came in a field of its own.
    """

    def __init__(self, row: catalogue.ChatModel | None) -> None:
        self.is_active = True
        """False once the text has started, which is passed on unchanged."""
        self._held = ""
        self._state: Literal["start", "opened", "inside"] = "start"
        self._is_closed = False
        self._may_lack_open = bool(row and row.reasoning_in_content)
        self._may_close = bool(row and row.can_reason)

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the text in `text`."""
        if not self.is_active:
            return "", text
        self._held += text
        thoughts = []
        while self.is_active:
            thought = self._begin() if self._state == "start" else self._think()
            if thought is None:
                break
            thoughts.append(thought)
        return "".join(thoughts), "" if self.is_active else self._take()

    def note_reasoning(self) -> None:
        """Record that reasoning came in a field of its own."""
        self._may_close, self._may_lack_open = True, False

    def finish(self) -> tuple[str, str]:
        """Return the reasoning and the text that were held back."""
        if self._state == "inside":
            return self._take(), ""
        self._start_text()
        return "", self._take()

    def _begin(self) -> str | None:
        """Return reasoning that lacks `<think>`, or None if nothing is certain yet."""
        text = self._held.lstrip()
        if text.startswith(_OPEN):
            self._state, self._held = "opened", text.removeprefix(_OPEN)
            return ""
        if self._may_lack_open or (self._may_close and text.startswith(_CLOSE)):
            thought = self._close()
            return thought and thought.lstrip()
        tags = (_OPEN, _CLOSE) if self._may_close else (_OPEN,)
        if not any(tag.startswith(text) for tag in tags):
            self._start_text()
        return None

    def _start_text(self) -> None:
        self.is_active = False
        if self._is_closed:
            self._held = self._held.lstrip("\n")

    def _think(self) -> str | None:
        """Return the reasoning that is certain, or None if there is no more."""
        if self._state == "opened":
            self._held = self._held.lstrip()
            self._state = "inside" if self._held else "opened"
        if (thought := self._close()) is not None:
            return thought
        keep = next(n for n in range(len(_CLOSE) - 1, -1, -1) if self._held.endswith(_CLOSE[:n]))
        ready = self._held[: len(self._held) - keep]
        self._held = self._held[len(ready) :]
        return ready or None

    def _close(self) -> str | None:
        """Return the text before `</think>`, or None if it has not been received."""
        thought, found, rest = self._held.partition(_CLOSE)
        if not found:
            return None
        self._state, self._held, self._is_closed = "start", rest, True
        self.note_reasoning()
        return thought

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


# -- LangChain's messages -------------------------------------------------------------------------


def chunk_of(item: Delta | Ending) -> ChatGenerationChunk:
    """Return LangChain's chunk; only the last has the finish reason, the model name and usage."""
    if type(item) is Delta and not item.tools:
        return _plain_chunk(item)
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


def _plain_chunk(delta: Delta) -> ChatGenerationChunk:
    """Return a chunk without calls, equal to a validated one at a third of its cost."""
    thought = delta.reasoning
    message = _EMPTY.__copy__()  # as `copy.copy` does, which costs as much again to find it
    vars(message).update(
        {
            "content": delta.text,
            "additional_kwargs": {"reasoning_content": thought} if thought else {},
            "response_metadata": {"model_provider": PROVIDER},
            "tool_calls": [],
            "invalid_tool_calls": [],
            "tool_call_chunks": [],
        }
    )
    chunk = _EMPTY_GENERATION.__copy__()
    vars(chunk).update({"message": message, "text": delta.text})
    return chunk


def message_of(items: Sequence[Delta | Ending]) -> AIMessage:
    """Return the message that the parts of a stream add up to.

    It equals the sum of their chunks, at a third of the cost.
    """
    deltas = [item for item in items if isinstance(item, Delta)]
    ending = next((item for item in items if isinstance(item, Ending)), Ending())
    thought = "".join([delta.reasoning for delta in deltas])
    fields: dict[str, Any] = {
        "content": "".join([delta.text for delta in deltas]),
        "additional_kwargs": {"reasoning_content": thought} if thought else {},
        "response_metadata": ending.metadata,
        "usage_metadata": ending.usage,
    }
    calls = [list(delta.tools) for delta in deltas if delta.tools]
    if not calls:
        return AIMessage(**fields)
    chunk = AIMessageChunk(**fields, tool_call_chunks=merge_lists(*calls) or [])
    return cast("AIMessage", message_chunk_to_message(chunk))


# -- token counts ---------------------------------------------------------------------------------


def _add_usage(known: dict[str, Any], usage: object) -> None:
    """Update `known` counts by later ones: they are totals; a zero or null replaces nothing."""
    for name, value in usage.items() if type(usage) is dict else ():
        if type(value) is dict:
            part = known.get(name)
            known[name] = part = part if type(part) is dict else {}
            _add_usage(part, value)
        elif (value if type(value) is int else _number(value)) or name not in known:
            known[name] = value


def decode_usage(usage: object) -> UsageMetadata | None:
    """Return LangChain's counts, or None if there are none.

    The guide spells `prompt_tokens_details.cached_token`, current answers `cached_tokens`; some
    models send `prompt_cache_hit_tokens`, and some send numbers as strings. Details are limited to
    the count that they are a part of.
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
    details = {**usage, **_part(usage, "prompt_tokens_details")}
    cached = _count(
        details, "cached_tokens", "cached_token", "cache_read_tokens", "prompt_cache_hit_tokens"
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


def _count(values: Mapping[str, Any], *names: str) -> int | None:
    """Return the count under the first of `names` that has one."""
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


# -- the service's list ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ListedModel:
    """One model of the service, of any modality.

    Args:
        id: Value for `model=`.
        name: Display name; the id if the service sends none.
        status: `online`, or `pre-offline` before its removal.
        created: When the service added it.
    """

    id: str
    name: str
    status: str | None = None
    created: datetime | None = None


def decode_models(data: object) -> list[ListedModel]:
    """Return the models in an answer.

    Raises:
        ServerError: The answer is not a list of models.
    """
    match data:
        case {"data": [*rows]}:
            return [_model(row) for row in rows if isinstance(row, Mapping) and row.get("id")]
        case _:
            raise ServerError(f"the answer lists no models: {clean(str(data), 200)}", status=200)


def _model(row: Mapping[str, Any]) -> ListedModel:
    name, status = row.get("name") or row["id"], row.get("status")
    created = _datetime(row.get("created"))
    return ListedModel(str(row["id"]), str(name), str(status) if status else None, created)


def _datetime(seconds: object) -> datetime | None:
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # out of range
        return None
