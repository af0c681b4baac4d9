"""Streamed tool calls, mended. Pure.

Servers behind the gateway repeat ids and names in every delta, leave `index` out, give it to each
call as 0, send arguments whole, or as an object. LangChain's merge adds strings, so each of these
would double a name or break the JSON. Here every call gets one number, its id and name once, and
of its arguments only what is new.

LangChain also completes arguments that were cut off, but only where it adds chunks: a path or an
amount that is half said would be acted upon. Such arguments get a mark at their end that no reading
of JSON forgives, so that they are an invalid call in every shape.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk

_TOKENS = re.compile(
    r'"(?:[^"\\]|\\.)*(?:"|(?P<open>\\?\Z))'  # a string, or one that was cut
    r"|(?P<bracket>[\[\]{}])",
    re.DOTALL,
)
_CLOSES = {"{": "}", "[": "]"}


@dataclass
class _Slot:
    number: int
    id: str | None = None
    name: str | None = None
    args: str = ""
    announced: bool = False


class ToolCallAssembler:
    """Turns the deltas of one answer's tool calls into chunks that merge rightly."""

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._menders: dict[int, SurrogateJoiner] = {}

    def feed(self, deltas: object) -> list[ToolCallChunk]:
        """Return the chunks for the `tool_calls` of one delta."""
        if not isinstance(deltas, list):
            return []
        found = [self._chunk(delta) for delta in deltas if isinstance(delta, Mapping)]
        chunks = [chunk for chunk in found if chunk is not None]
        return joined(chunks) if len(chunks) > 1 else chunks

    def finish(self) -> list[ToolCallChunk]:
        """Return what is left: calls that never had a name, held-back characters, and seals."""
        left = []
        for slot in self._slots:
            rest = self._joiner(slot).finish()
            rest += _invalidate_partial_json(slot.args + rest, named=slot.name is not None)
            if rest or not slot.announced:
                left.append(self._emit(slot, rest))
        return left

    def _chunk(self, delta: Mapping[str, Any]) -> ToolCallChunk | None:
        function = delta.get("function")
        function = function if isinstance(function, Mapping) else {}
        slot = self._slot(delta, function)
        slot.id = slot.id or _word(delta.get("id"))
        slot.name = slot.name or _word(function.get("name"))
        args = self._joiner(slot).feed(_fragment(function.get("arguments"), first=not slot.args))
        if slot.name is None and not slot.announced:
            slot.args += args
            return None  # its name is still to come
        return self._emit(slot, args)

    def _emit(self, slot: _Slot, args: str) -> ToolCallChunk:
        if slot.announced:
            slot.args += args
            return tool_call_chunk(args=args, index=slot.number)
        slot.announced = True
        slot.id = slot.id or f"call_{uuid.uuid4().hex}"
        waiting, slot.args = slot.args, slot.args + args
        return tool_call_chunk(name=slot.name, args=waiting + args, id=slot.id, index=slot.number)

    def _slot(self, delta: Mapping[str, Any], function: Mapping[str, Any]) -> _Slot:
        """Return whose delta this is."""
        index, call_id = _number(delta.get("index")), _word(delta.get("id"))
        known = self._by_id(call_id)
        if known is None:
            known = self._by_index.get(index) if index is not None else self._last()
            if known is None or _begins(known, call_id, function):
                known = self._new()
        if index is not None:
            self._by_index[index] = known
        return known

    def _by_id(self, call_id: str | None) -> _Slot | None:
        return next((slot for slot in self._slots if call_id and slot.id == call_id), None)

    def _last(self) -> _Slot | None:
        return self._slots[-1] if self._slots else None

    def _new(self) -> _Slot:
        self._slots.append(_Slot(number=len(self._slots)))
        return self._slots[-1]

    def _joiner(self, slot: _Slot) -> SurrogateJoiner:
        return self._menders.setdefault(slot.number, SurrogateJoiner())


def joined(chunks: list[ToolCallChunk]) -> list[ToolCallChunk]:
    """Return one chunk a call: LangChain merges messages, not the chunks inside one."""
    whole: dict[Any, ToolCallChunk] = {}
    for chunk in chunks:
        known = whole.setdefault(chunk["index"], {**chunk, "args": ""})
        known["args"] = (known["args"] or "") + (chunk["args"] or "")
    return list(whole.values())


def _begins(known: _Slot, call_id: str | None, function: Mapping[str, Any]) -> bool:
    """Say whether a delta without a known id begins another call than the one in its place."""
    name = _word(function.get("name"))
    if name is None:
        return False  # no call begins without a name: some servers invent an id for each delta
    if known.name is None:
        return bool(call_id and known.id)
    if name != known.name or (call_id and known.id):
        return True
    # the same name again: another call only where the first one's arguments are complete
    more = _fragment(function.get("arguments"), first=True)
    return more.startswith("{") and _loaded(known.args, json.loads) is not None


def _number(index: object) -> int | None:
    match index:
        case bool():
            return None
        case int():
            return index
        case str() if index.isdecimal():
            return int(index)
        case _:
            return None


def _word(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _fragment(arguments: object, *, first: bool) -> str:
    match arguments:
        case None | {} if not arguments:
            return ""  # an empty object stands for what is still to come
        case "null" if first:
            return ""  # what a call without arguments has with some servers
        case str():
            return arguments.lstrip() if first else arguments
        case _:
            return json.dumps(arguments, ensure_ascii=False)


def arguments(args: str) -> dict[str, Any] | None:
    """Return a call's arguments, or None if they are not a JSON object."""
    value = _loaded(args or "{}", lambda text: json.loads(text, strict=False))
    return value if isinstance(value, dict) else None


def _invalidate_partial_json(args: str, *, named: bool) -> str:
    """Return the end that keeps LangChain from completing arguments that are not whole.

    Its lenient reading closes what is open and drops what follows, but gives up where a bracket
    closes what another opened; and then it is quick, which it is not where it drops much.
    """
    if named and arguments(args) is not None:
        return ""
    if not args.startswith("{"):
        return "" if args else "]"  # no object can come of it, but one comes of nothing
    opened: list[str] = []
    quotes = ""
    for found in _TOKENS.finditer(args):
        bracket = found["bracket"]
        if found["open"] is not None:
            quotes = '""' if found["open"] else '"'  # the first one would be escaped
        elif bracket in _CLOSES:
            opened.append(_CLOSES[bracket])
        elif bracket and (not opened or opened.pop() != bracket):
            return ""  # there is such a bracket already
    return quotes + ("}" if opened and opened[-1] == "]" else "]")


def _loaded(args: str, load: Callable[[str], Any]) -> Any:
    try:
        return load(args)
    except (ValueError, RecursionError):  # no JSON, or numbers and depths beyond Python's limits
        return None


_SURROGATE = re.compile("[\ud800-\udfff]")


class SurrogateJoiner:
    """Holds the first half of a character back until the second has come."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what is whole of all that came."""
        if not self._held and (text.isascii() or not _SURROGATE.search(text)):
            return text
        text = self._held + text
        self._held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return whole(text.removesuffix(self._held) if self._held else text)

    def finish(self) -> str:
        """Return what is left: a half that found no other is the replacement character."""
        held, self._held = self._held, ""
        return "\N{REPLACEMENT CHARACTER}" if held else ""


def whole(text: str) -> str:
    """Return `text` with its pairs joined and its lone halves replaced."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
