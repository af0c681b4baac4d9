"""What the emulator answers to a chat request. Pure: the same request has the same answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.testing import choose, talk
from langchain_tokenhub.testing.arguments import fill
from langchain_tokenhub.testing.choose import Call
from langchain_tokenhub.testing.clues import clues
from langchain_tokenhub.testing.families import ChatModel
from langchain_tokenhub.testing.text import clip, pieces
from langchain_tokenhub.testing.turn import Turn, embedded_schema, read_turn

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """An answer cut into deltas; one delta counts as one token."""

    reasoning: tuple[str, ...]
    content: tuple[str, ...]
    calls: tuple[tuple[str, tuple[str, ...]], ...]
    finish: str

    @property
    def tokens(self) -> int:
        """All tokens written, thinking included."""
        written = sum(len(arguments) + 1 for _, arguments in self.calls)
        return len(self.reasoning) + len(self.content) + written


def answer(body: Body, row: ChatModel) -> Answer:
    """Answer a checked request."""
    turn = read_turn(body["messages"])
    calls = _calls(body, turn)
    content = talk.before_calls(turn, [c.name for c in calls]) if calls else _text(body, row, turn)
    return _cut(
        reasoning=talk.reasoning(turn) if row.thinks(dict(body)) else "",
        content=clip(content, _stops(body)),
        calls=calls,
        limit=body.get("max_tokens") or body.get("max_completion_tokens"),
    )


def _stops(body: Body) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


def _calls(body: Body, turn: Turn) -> list[Call]:
    tools = choose.read_tools(body.get("tools") or [])
    match body.get("tool_choice"):
        case "none":
            chosen = []
        case "required":
            chosen = choose.forced(turn, tools, None)
        case {"function": {"name": name}}:
            chosen = choose.forced(turn, tools, name)
        case _:
            chosen = choose.wanted(turn, tools)
    calls = [call for tool in chosen for call in choose.calls_for(turn, tool)]
    return calls if body.get("parallel_tool_calls", True) else calls[:1]


def _text(body: Body, row: ChatModel, turn: Turn) -> str:
    asked: dict[str, Any] = body.get("response_format") or {"type": "text"}
    match asked["type"]:
        case "json_schema" if row.json_schema == "fills":
            return _filled(asked["json_schema"]["schema"], turn)
        case "json_object":
            schema = embedded_schema(f"{turn.system}\n{turn.text}")
            return _filled(schema or _named_keys(f"{turn.system}\n{turn.text}"), turn)
        case _:
            return talk.after_calls(turn) if turn.results else talk.plain(turn)


def _filled(schema: Body, turn: Turn) -> str:
    return json.dumps(fill(schema, clues(turn.text)), ensure_ascii=False)


def _named_keys(text: str) -> Body:
    """Make a schema of the keys a prompt names, as in "with 'setup' and 'punchline' keys"."""
    near = re.search(r"(?i)(?:keys?|fields?|字段|键)[^:：\n]{0,20}[:：]\s*([^\n.。]+)", text)
    quoted = re.findall(r"['\"`“]([A-Za-z_]\w*)['\"`”]", text)
    listed = re.findall(r"[A-Za-z_]\w*", near.group(1)) if near else []
    names = [n for n in (quoted or listed) if n.lower() not in {"and", "json", "keys"}] or [
        "answer"
    ]
    fields = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": fields, "required": names}


def _cut(*, reasoning: str, content: str, calls: list[Call], limit: int | None) -> Answer:
    """Cut an answer into deltas, no more than the limit."""
    room = limit or 1_000_000
    thought = pieces(reasoning)[:room]
    said = pieces(content)[: room - len(thought)]
    room -= len(thought) + len(said)
    written, complete = _cut_calls(calls, room)
    whole = len(thought) == len(pieces(reasoning)) and len(said) == len(pieces(content))
    finish = "tool_calls" if calls else "stop"
    return Answer(
        tuple(thought), tuple(said), tuple(written), finish if whole and complete else "length"
    )


def _cut_calls(calls: list[Call], room: int) -> tuple[list[tuple[str, tuple[str, ...]]], bool]:
    written: list[tuple[str, tuple[str, ...]]] = []
    for call in calls:
        cut = pieces(json.dumps(call.arguments, ensure_ascii=False))
        if room <= 0:
            return written, False
        written.append((call.name, tuple(cut[: room - 1])))
        room -= 1 + len(cut)
    return written, room >= 0
