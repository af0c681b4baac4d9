"""The service's answers as LangChain's messages, v1 content blocks and v3 events. Pure.

Whole:  {"id", "created", "model", "choices": [{"message": {"content", "reasoning_content",
        "tool_calls"}, "finish_reason"}], "usage"}
Stream: {"id", "model", "choices": [{"delta": {...}, "finish_reason"}]} …, then a chunk with
        `choices: []` and `usage`, then `[DONE]`.

A whole answer is read as a stream of one chunk, so that both give the same content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils._merge import merge_lists
from langchain_protocol.protocol import MessagesData

from langchain_tokenhub import catalogue
from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.chat.deltas import SurrogateJoiner, ThinkTags, ToolCallAssembler, arguments
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
    """Return a whole answer; raise `ServerError` if it holds no message."""
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
    """Warn of an answer that was truncated or ended for an unknown reason.

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
        self._tags = ThinkTags(catalogue.chat_model(model))
        self._contents: list[str] = []
        self._thoughts: list[str] = []
        self._has_deltas = False
        self._metadata: dict[str, Any] = {}
        self._has_metadata = False
        self._counts: dict[str, int] = {}

    def is_complete_despite(self, error: TokenHubError) -> bool:
        """Return True if the stream was cut by `error`, but after its finish reason."""
        is_cut = isinstance(error, APIConnectionError | APITimeoutError)
        return is_cut and error.phase == "streaming" and "finish_reason" in self._metadata

    def read(self, value: dict[str, Any]) -> Delta | None:
        """Return what a chunk adds, or None if it adds nothing."""
        if not self._has_metadata:
            self._read_metadata(value)
        if usage := value.get("usage"):
            _add_counts(self._counts, usage)
        choices = value.get("choices")
        choice = choices[0] if type(choices) is list and choices else None
        if type(choice) is not dict:
            return None
        if (reason := choice.get("finish_reason")) and reason != "null":
            self._metadata["finish_reason"] = str(reason)
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
        known = self._metadata
        for name in ("id", "created", "request_id", "model"):
            if (found := value.get(name)) not in (None, ""):
                plain = found if isinstance(found, str | int) else str(found)
                known.setdefault("model_name" if name == "model" else name, plain)
        self._has_metadata = "id" in known and "model_name" in known

    def _read(self, choice: dict[str, Any]) -> Delta | None:
        delta, message = choice.get("delta"), choice.get("message")
        delta = delta if type(delta) is dict else _NOTHING
        message = message if type(message) is dict else _NOTHING
        for part in (choice, delta, message):
            if "usage" in part:
                _add_counts(self._counts, part["usage"])
        content, thought, text = _content(delta), _reasoning(delta), ""
        if content or thought:
            self._has_deltas = True
        if calls := _calls(delta):
            self._tools.feed(calls)
        if message:
            content += self._missing_part(_content(message), self._contents, content)
            thought += self._missing_part(_reasoning(message), self._thoughts, thought)
            self._tools.feed_message(_calls(message))
        if thought:
            self._tags.record_reasoning()
        if content:
            self._contents.append(content)
            tagged, text = self._tags.feed(content)
            thought, text = thought + tagged, self._text.feed(text)
        if thought:
            self._thoughts.append(thought)
            thought = self._thought.feed(thought)
        tools = self._tools.take_chunks()
        return Delta(thought, text, tools) if text or thought or tools else None

    def _missing_part(self, whole: str, earlier: list[str], latest: str) -> str:
        """Return what a message adds to the deltas before it."""
        known = "".join(earlier) + latest
        if whole.startswith(known):
            return whole[len(known) :]
        return "" if self._has_deltas else whole

    def finish(self, metadata: Mapping[str, Any] = _NOTHING) -> tuple[list[Delta], Ending]:
        """Return the deltas held back, and the ending with `metadata` added."""
        tagged, text = self._tags.finish()
        thought = self._thought.feed(tagged) + self._thought.finish()
        text = self._text.feed(text) + self._text.finish()
        has_ended = self._metadata.get("finish_reason", "").lower() in _ENDED
        rest = Delta(thought, text, self._tools.finish(ended=has_ended))
        ending = Ending(usage=_decode_usage(self._counts))
        ending.metadata |= {"model_name": self._model, **metadata, **self._metadata}
        return ([rest] if any(rest) else []), ending


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


# -- LangChain's messages -------------------------------------------------------------------------


def chunks_of(parts: Iterable[Delta | Ending]) -> list[ChatGenerationChunk]:
    """Return LangChain's chunks; only the last has the finish reason, the model name and usage."""
    return list(map(_chunk, parts))


def _chunk(item: Delta | Ending) -> ChatGenerationChunk:
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
        content=delta.text,
        additional_kwargs={"reasoning_content": thought} if thought else {},
        response_metadata={"model_provider": PROVIDER},
        tool_calls=[],
        invalid_tool_calls=[],
        tool_call_chunks=[],
    )
    chunk = _EMPTY_GENERATION.__copy__()
    vars(chunk).update(message=message, text=delta.text)
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


# -- v1 content blocks and v3 events ---------------------------------------------------------------

# LangChain merges blocks of one index: with an index of their own, text and calls in one delta, or
# interleaved calls, stay apart
_REASONING, _TEXT, _CALL = "lc_rs_0", "lc_txt_0", "lc_tc_{}"
_CALL_CHUNK = {"type": "tool_call_chunk"}
Block = dict[str, Any]


def blocks_of(message: AIMessage) -> list[ContentBlock]:
    """Return the v1 blocks of a message, those of a chunk with an index each."""
    is_chunk = isinstance(message, AIMessageChunk)
    blocks: list[Block] = []
    if reasoning := message.additional_kwargs.get("reasoning_content"):
        index = {"index": _REASONING} if is_chunk else {}
        blocks.append({"type": "reasoning", "reasoning": reasoning, **index})
    index = {"index": _TEXT} if is_chunk else {}
    content = message.content
    for part in [content] if isinstance(content, str) and content else content:
        block = {"type": "text", "text": part} if isinstance(part, str) else part
        blocks.append({**block, **index})
    if isinstance(message, AIMessageChunk) and message.chunk_position != "last":
        chunks = message.tool_call_chunks
        blocks += [{**call, **_CALL_CHUNK, "index": _CALL.format(call["index"])} for call in chunks]
    else:
        blocks += [{"type": "tool_call", **call} for call in message.tool_calls]
        blocks += [dict(call) for call in message.invalid_tool_calls]
    return cast("list[ContentBlock]", blocks)


register_translator(PROVIDER, blocks_of, blocks_of)


class EventWriter:
    """Converts a stream to v3 events; each block is started once, and finished at the end."""

    def __init__(self, message_id: str, model: str) -> None:
        start = {"event": "message-start", "role": "ai", "id": message_id}
        self._events: list[Any] = [{**start, "metadata": {"provider": PROVIDER, "model": model}}]
        self._blocks: dict[str, tuple[int, Block, list[str]]] = {}

    def write(self, items: Iterable[Delta | Ending]) -> list[MessagesData]:
        """Return the events of a stream's parts; the first ones begin with the message's start."""
        for item in items:
            if isinstance(item, Ending):
                self._events += self._end(item)
                continue
            if piece := item.reasoning:
                new = {"type": "reasoning-delta", "reasoning": piece}
                self._add(_REASONING, {"type": "reasoning", "reasoning": ""}, new, piece)
            if piece := item.text:
                new = {"type": "text-delta", "text": piece}
                self._add(_TEXT, {"type": "text", "text": ""}, new, piece)
            for chunk in item.tools:
                key, args = _CALL.format(chunk["index"]), chunk["args"] or ""
                call = {"id": chunk["id"], "name": chunk["name"], "args": "", "index": key}
                new = {"type": "tool-call-delta", "args": args}
                self._add(key, {**_CALL_CHUNK, **call}, new, args)
        events, self._events = self._events, []
        return events

    def _add(self, key: str, block: Block, delta: Block, piece: str) -> None:
        """Add a piece to a block, and start the block with its first piece."""
        found = self._blocks.get(key)
        if found is None:
            place = len(self._blocks)
            found = self._blocks[key] = (place, {**block, "index": key}, [])
            start = {"event": "content-block-start", "index": place, "content": block}
            self._events.append(start)
        place, _, pieces = found
        if piece:
            pieces.append(piece)
            self._events.append({"event": "content-block-delta", "index": place, "delta": delta})

    def _end(self, ending: Ending) -> Iterator[Block]:
        finish: Block = {"event": "message-finish", "metadata": ending.metadata}
        if ending.usage:
            finish["usage"] = ending.usage
        for key, (place, block, pieces) in self._blocks.items():
            text = "".join(pieces)
            if key == _REASONING:
                finish["additional_kwargs"] = {"reasoning_content": text}
            content = _finish_block(block, text)
            yield {"event": "content-block-finish", "index": place, "content": content}
        yield finish


def _finish_block(block: Block, text: str) -> Block:
    if block["type"] != "tool_call_chunk":
        return {**block, block["type"]: text}
    args = arguments(text)
    call = {"id": block["id"], "name": block["name"]}
    if args is None or not block["name"]:
        error = "the arguments are not a JSON object"
        return {"type": "invalid_tool_call", **call, "args": text, "error": error}
    return {"type": "tool_call", **call, "args": args}


# -- token counts ---------------------------------------------------------------------------------


def _add_counts(known: dict[str, int], usage: object) -> None:
    """Update `known` by later counts, which are totals; a zero or null replaces nothing."""
    for name, value in usage.items() if type(usage) is dict else ():
        if type(value) is dict:
            _add_counts(known, value)  # no two details have one name
        elif (count := value if type(value) is int else _number(value)) is not None:
            known[name] = count if count > 0 else known.get(name, 0)


def _number(value: object) -> int | None:
    if not isinstance(value, float | str):
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return None


def _decode_usage(counts: Mapping[str, int]) -> UsageMetadata | None:
    """Return LangChain's counts, or None if there are none.

    The guide spells `cached_token`, current answers `cached_tokens`; some models send
    `prompt_cache_hit_tokens`. Details are limited to the count that they are a part of.
    """
    if not counts:
        return None
    given = _first(counts, "prompt_tokens", "input_tokens") or 0
    made = _first(counts, "completion_tokens", "output_tokens") or 0
    total = max(counts.get("total_tokens", 0), given + made)
    usage = UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=total)
    cached = _first(
        counts, "cached_tokens", "cached_token", "cache_read_tokens", "prompt_cache_hit_tokens"
    )
    if cached is not None:
        usage["input_token_details"] = InputTokenDetails(cache_read=min(cached, given))
    if (thought := counts.get("reasoning_tokens")) is not None:
        usage["output_token_details"] = OutputTokenDetails(reasoning=min(thought, made))
    return usage


def _first(counts: Mapping[str, int], *names: str) -> int | None:
    return next((counts[name] for name in names if name in counts), None)


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
    """Return the models in an answer; raise `ServerError` if it is not a list of models."""
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
