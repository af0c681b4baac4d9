"""The pieces of streamed text, reasoning and tool calls, joined. Pure.

Servers behind the gateway repeat ids and names in every delta, use one id for two calls, leave
`index` out or always send 0, and send arguments whole, twice, growing, or as an object. LangChain
concatenates strings, so each of these would corrupt a name or the JSON. Therefore every call gets
one number, one id and its name once, and each chunk holds only the new part of its arguments.

LangChain also completes truncated JSON when it adds chunks, so a tool would be called with half a
path or half an amount. Truncated arguments therefore end in text that no JSON parser accepts.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk

from langchain_tokenhub.catalogue import ChatModel

_OPEN, _CLOSE = "<think>", "</think>"
_TOKENS = re.compile(
    r'"(?:[^"\\]|\\.)*(?:"|(?P<open>\\?\Z))'  # a string, or a truncated one
    r"|(?P<bracket>[\[\]{}])",
    re.DOTALL,
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_ARGUMENTS = re.compile(r"(?:null|\{\s*\}?)?\s*")
"""A placeholder that the arguments may replace, or the beginning of one."""
_CLOSES = {"{": "}", "[": "]"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class SurrogateJoiner:
    """Holds the first half of a surrogate pair back until the second half arrives."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return the complete characters."""
        text = self._held + text
        if text.isascii() or not _SURROGATE.search(text):
            return text
        self._held = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = text.removesuffix(self._held)
        return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def finish(self) -> str:
        """Return the rest: the replacement character for a half without its other half."""
        held, self._held = self._held, ""
        return "\N{REPLACEMENT CHARACTER}" if held else ""


class ThinkTags:
    """Splits `<think>…</think>` at the beginning of a text from the text, in any pieces.

    Such blocks in the middle of a text are text. `</think>` without `<think>` ends reasoning only
    where that is known: at the beginning of the text of a model that reasons, or anywhere in the
    text of a model that always writes its reasoning there (`reasoning_in_content` in the
    catalogue), as long as no reasoning came in a field of its own.
    """

    def __init__(self, row: ChatModel | None) -> None:
        self.is_active = True
        """False once the text has started, which is passed on unchanged."""
        self._held = ""
        self._is_open = self._is_closed = self._has_thought = False
        self._may_lack_open = bool(row and row.reasoning_in_content)
        self._may_close = bool(row and row.can_reason)

    def feed(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the text in `text`."""
        if not self.is_active:
            return "", text
        self._held += text
        thought = ""
        while self.is_active and (found := self._read()) is not None:
            thought += found
        if not self._has_thought:
            thought = thought.lstrip()
            self._has_thought = bool(thought)
        return thought, "" if self.is_active else self._take()

    def record_reasoning(self) -> None:
        """Record that reasoning came in a field of its own."""
        self._may_close, self._may_lack_open = True, False

    def finish(self) -> tuple[str, str]:
        """Return the reasoning and the text that were held back."""
        if self._is_open:
            return self._take(), ""
        self._start_text()
        return "", self._take()

    def _read(self) -> str | None:
        """Return the reasoning that is certain, or None if there is no more."""
        text = self._held.lstrip()
        if not self._is_open and text.startswith(_OPEN):
            self._is_open, self._held = True, text.removeprefix(_OPEN)
        may_end = self._may_lack_open or (self._may_close and text.startswith(_CLOSE))
        if not self._is_open and not may_end:
            tags = (_OPEN, _CLOSE) if self._may_close else (_OPEN,)
            if not any(tag.startswith(text) for tag in tags):
                self._start_text()
            return None
        thought, found, rest = self._held.partition(_CLOSE)
        if found:
            self._is_open, self._is_closed, self._held = False, True, rest
            self.record_reasoning()
            return thought
        return (self._take_certain() or None) if self._is_open else None

    def _take_certain(self) -> str:
        """Take all but what may be the beginning of a closing tag."""
        held = self._held
        keep = next(n for n in range(len(_CLOSE) - 1, -1, -1) if held.endswith(_CLOSE[:n]))
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def _start_text(self) -> None:
        self.is_active = False
        if self._is_closed:
            self._held = self._held.lstrip("\n")

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


class ArgumentsJoiner:
    """Joins the pieces of one call's arguments.

    A piece is either the next fragment or, from some servers, everything so far. A piece that
    begins with everything so far can be both: `{"a":` and then `{"a":1}` is `{"a":1}` sent twice,
    or the beginning of `{"a":{"a":1}}`. It is held back until JSON permits only one of the two.
    `{}` and `null` are held back too: some servers send them before the real arguments.
    """

    __slots__ = ("_is_cumulative", "_latest", "_returned", "text")

    def __init__(self) -> None:
        self.text = ""
        self._latest = ""  # the last piece, as long as each piece began with the one before it
        self._is_cumulative = False
        self._returned = 0

    @property
    def is_complete(self) -> bool:
        """Whether the arguments so far are a JSON object."""
        return self.text.rstrip().endswith("}") and arguments(self.text) is not None

    def feed(self, piece: str) -> str:
        """Return what `piece` certainly adds."""
        if not piece:
            return ""
        if not self.text or (self.is_placeholder and piece.lstrip().startswith("{")):
            self.text = self._latest = piece.lstrip()
        elif self._latest.startswith("{") and piece.startswith(self._latest):
            self._is_cumulative = self._is_cumulative or not _can_follow(self.text, piece)
            self.text = piece if self._is_cumulative else self.text + piece
            self._latest = piece
        else:
            self.text += piece
            self._latest = ""
        is_ambiguous = self._latest and self._latest != self.text
        return "" if is_ambiguous or self._is_held else self._rest()

    def missing_from(self, whole: str) -> str:
        """Return the part of the whole arguments that the pieces so far lack."""
        if self.is_placeholder:
            return whole
        is_longer = not self.is_complete and whole.startswith(self.text)
        return whole[len(self.text) :] if is_longer else ""

    def finish(self, *, ended: bool) -> str:
        """Return the text held back; `ended` is False for a truncated answer."""
        if ended and self._latest and arguments(self.text) is None:
            self.text = self._latest if arguments(self._latest) is not None else self.text
        if self._is_held and self.text.startswith("null"):
            self.text = ""
        return self._rest()

    def _rest(self) -> str:
        rest, self._returned = self.text[self._returned :], len(self.text)
        return rest

    @property
    def _is_held(self) -> bool:
        return not self._returned and _NO_ARGUMENTS.fullmatch(self.text) is not None

    @property
    def is_placeholder(self) -> bool:
        """Whether the text is an empty object or null, which others may replace."""
        return self._is_held and self.text.rstrip()[-1:] in {"}", "l"}


def _can_follow(text: str, piece: str) -> bool:
    """Return True if JSON permits `piece`, which begins with `{"`, as a fragment after `text`."""
    if '"' in _STRING.sub("", text):  # the first quote of `piece` would end a string
        return piece.partition('"')[2].lstrip()[:1] in ":,}]"
    return text.rstrip()[-1:] in ":[,"


@dataclass(frozen=True)
class _Piece:
    index: int | None
    id: str | None
    name: str | None
    arguments: str

    @property
    def can_open(self) -> bool:
        """Whether it may begin the arguments."""
        return self.arguments.lstrip()[:1] in {"", "{", "n"}

    @property
    def opens_object(self) -> bool:
        """Whether it begins an object."""
        return self.arguments.lstrip().startswith("{")


@dataclass
class _Call:
    index: int | None
    number: int = -1
    sent_id: str | None = None
    name: str | None = None
    original: _Call | None = None
    """The call that this may be a copy of."""
    arguments: ArgumentsJoiner = field(default_factory=ArgumentsJoiner)
    surrogates: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    ready: str = ""
    """Arguments that are not in a chunk yet."""

    def add(self, arguments: str) -> None:
        self.ready += self.surrogates.feed(self.arguments.feed(arguments))

    def join_name(self, name: str | None) -> None:
        """Add a name that is repeated, comes in pieces, or grows; it ends where arguments begin."""
        if name is None or self.name is None:
            self.name = self.name or name
        elif name != self.name and not self.arguments.text:
            self.name = name if name.startswith(self.name) else self.name + name

    def close(self, *, ended: bool) -> None:
        self.ready += self.surrogates.feed(self.arguments.finish(ended=ended))
        self.ready += self.surrogates.finish()
        self.ready += _invalidate_partial_json(self.arguments.text, named=self.name is not None)

    def take_chunk(self) -> ToolCallChunk:
        args, self.ready = self.ready, ""
        return tool_call_chunk(args=args, index=self.number)

    def is_repeated_by(self, piece: _Piece) -> bool:
        """Return True if `piece` begins an object after complete arguments of the same call."""
        joiner = self.arguments
        return piece.opens_object and joiner.is_complete and not joiner.is_placeholder

    def ends_before(self, piece: _Piece) -> bool:
        """Return True if `piece`, found by its index or id, begins another call."""
        known_name = self.name or (self.original and self.original.name)
        has_other_id = piece.id is not None and self.sent_id not in {None, piece.id}
        has_other_name = known_name not in {None, piece.name}
        if piece.name is None:
            return has_other_id and self.is_repeated_by(piece)  # some send a new id with each delta
        has_no_key = piece.index is None and piece.id is None and self.sent_id is None
        if not self.arguments.text or known_name is None:
            return has_other_id or (has_other_name and has_no_key)  # else the name comes in pieces
        if self.arguments.is_complete:
            return has_other_id or has_other_name or (has_no_key and piece.opens_object)
        return (has_other_id or has_other_name) and piece.can_open


class ToolCallAssembler:
    """Turns the tool calls of one answer into chunks.

    Calls are distinguished by index, else by id, else by a new name or a new object of arguments
    after complete ones. A call is announced once its name and id are known and its arguments have
    started, or at the end; calls are announced in order.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._copies: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._latest: _Call | None = None
        self._announced = 0
        self._ids: set[str] = set()

    def feed(self, deltas: object) -> None:
        """Add the `tool_calls` of a delta."""
        for piece in _pieces(deltas):
            call = self._find(piece)
            call.join_name(piece.name)
            call.add(piece.arguments)
            self._register(call, piece.index, piece.id)
            if call.original and call.arguments.is_complete:
                self._add_copy(call, call.original)

    def feed_message(self, calls: object) -> None:
        """Add the `tool_calls` of a whole message, except what the deltas before it held."""
        known = self._calls[:]
        for position, piece in enumerate(_pieces(calls)):
            call = known[position] if position < len(known) else self._admit(_Call(None))
            call.name = call.name or piece.name
            call.add(call.arguments.missing_from(piece.arguments))
            self._register(call, None, piece.id)

    def take_chunks(self) -> list[ToolCallChunk]:
        """Return the new parts, one chunk per call: LangChain does not merge those of a message."""
        if not self._calls:
            return []
        announced = self._calls[: self._announced]
        chunks = [call.take_chunk() for call in announced if call.ready]
        while self._announced < len(self._calls) and self._is_ready(self._calls[self._announced]):
            chunks.append(self._announce(self._calls[self._announced]))
        return chunks

    def finish(self, *, ended: bool) -> list[ToolCallChunk]:
        """Return the chunks held back; `ended` is False for a truncated answer."""
        for copy in self._copies:
            if copy.original and not copy.arguments.is_complete:
                self._add_copy(copy, copy.original)
        for call in self._calls:
            call.close(ended=ended)
        chunks = self.take_chunks()
        return chunks + [self._announce(call) for call in self._calls[self._announced :]]

    def _find(self, piece: _Piece) -> _Call:
        known = self._known(piece)
        if known is None or known.ends_before(piece):
            return self._admit(_Call(piece.index))
        if known.is_repeated_by(piece):
            self._copies.append(_Call(piece.index, original=known.original or known))
            return self._copies[-1]
        return known

    def _known(self, piece: _Piece) -> _Call | None:
        opens = bool(piece.name) and piece.can_open
        by_id = self._by_id.get(piece.id) if piece.id else None
        latest = by_id or self._latest
        by_index = latest if piece.index is None else self._by_index.get(piece.index)
        if by_id is None:
            lacked_index = self._latest and self._latest.index is None and not opens
            return by_index or (self._latest if lacked_index else None)
        if by_index is None:
            return None if opens else by_id  # two calls under one id have an index each
        return by_index if by_index.sent_id == piece.id else by_id

    def _register(self, call: _Call, index: int | None, sent_id: str | None) -> None:
        call.sent_id = call.sent_id or sent_id
        if sent_id and call.sent_id == sent_id:
            self._by_id[sent_id] = call
        if index is not None:
            self._by_index[index] = call
        self._latest = call

    def _admit(self, call: _Call) -> _Call:
        call.number, call.original = len(self._calls), None
        self._calls.append(call)
        return call

    def _add_copy(self, copy: _Call, original: _Call) -> None:
        """Add arguments that follow complete ones, unless they are the same again.

        They are another call if their delta had a name. With the index of the first call they
        contradict it, and both become one invalid call.
        """
        sent = (arguments(call.arguments.text) for call in (copy, original))
        values = {json.dumps(value, sort_keys=True) for value in sent}
        if copy.arguments.is_complete and len(values) == 1:
            return
        if copy.name and copy.index is None:
            self._admit(copy)
        else:
            original.add(copy.arguments.text)

    def _is_ready(self, call: _Call) -> bool:
        has_started = call.arguments.text or call.number < len(self._calls) - 1
        return bool(call.name and call.sent_id and has_started)

    def _announce(self, call: _Call) -> ToolCallChunk:
        call_id = call.sent_id
        if call_id is None or call_id in self._ids:
            call_id = f"call_{uuid.uuid4().hex}"
        self._ids.add(call_id)
        self._announced += 1
        return {**call.take_chunk(), "name": call.name, "id": call_id}


def _pieces(calls: object) -> Iterator[_Piece]:
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            name, args = _word(function.get("name")), function.get("arguments")
            yield _Piece(_number(call.get("index")), _word(call.get("id")), name, _text(args))


def _number(index: object) -> int | None:
    if isinstance(index, str) and index.isdecimal():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _word(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _text(arguments: object) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)


def arguments(text: str) -> dict[str, Any] | None:
    """Return a call's arguments, or None if they are not a JSON object."""
    try:
        value = json.loads(text or "{}", strict=False)
    except (ValueError, RecursionError):  # not JSON, or numbers and depths beyond Python's limits
        return None
    return value if isinstance(value, dict) else None


def _invalidate_partial_json(text: str, *, named: bool) -> str:
    """Return what to append so that LangChain does not complete truncated arguments.

    Its lenient parser closes what is open and drops what follows, but gives up where a bracket
    closes what another one opened.
    """
    if named and arguments(text) is not None:
        return ""
    if not text.startswith("{"):
        return "" if text else "]"  # this cannot become an object, except if it is empty
    opened: list[str] = []
    quotes = ""
    for found in _TOKENS.finditer(text):
        bracket = found["bracket"]
        if found["open"] is not None:
            quotes = '""' if found["open"] else '"'  # the first one would be escaped
        elif bracket in _CLOSES:
            opened.append(_CLOSES[bracket])
        elif bracket and (not opened or opened.pop() != bracket):
            return ""  # there is such a bracket already
    return quotes + ("}" if opened and opened[-1] == "]" else "]")
