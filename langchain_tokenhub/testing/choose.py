"""Which tools a question calls for, and with what. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.testing import clues as find
from langchain_tokenhub.testing.arguments import fill, kind_of, resolve
from langchain_tokenhub.testing.tables import table
from langchain_tokenhub.testing.text import is_chinese
from langchain_tokenhub.testing.turn import Turn


@dataclass(frozen=True)
class Tool:
    """A function tool and what it is about."""

    name: str
    description: str
    schema: Mapping[str, Any]
    topic: str


@dataclass(frozen=True)
class Call:
    """A tool and its arguments."""

    name: str
    arguments: dict[str, Any]


def read_tools(tools: list[Mapping[str, Any]]) -> list[Tool]:
    """Read the function tools of a request; other kinds are the service's own."""
    functions = [tool["function"] for tool in tools if tool["type"] == "function"]
    return [
        Tool(
            name=f["name"],
            description=f.get("description", ""),
            schema=f.get("parameters") or {"type": "object", "properties": {}},
            topic=topic_of(f["name"], f.get("description", "")),
        )
        for f in functions
    ]


def topic_of(name: str, description: str = "") -> str:
    """Name what a tool is about: by its name, else by its description."""
    for text in (name, description):
        for row in table("topics")["topic"]:
            if re.search(row["tool"], text):
                return str(row["name"])
    return ""


def topics_of(text: str) -> set[str]:
    """Name what a sentence asks for; "this picture" asks for no new one."""
    plain = re.sub(table("topics")["media"]["reference"], " ", text)
    return {row["name"] for row in table("topics")["topic"] if re.search(row["ask"], plain)}


def wanted(turn: Turn, tools: list[Tool]) -> list[Tool]:
    """Choose the tools to call next, best of each topic, pictures before what is made of them."""
    asked = topics_of(turn.text)
    scores = [(score(tool, turn.text, asked), tool) for tool in tools if tool.name not in turn.done]
    best: dict[str, tuple[int, Tool]] = {}
    done_topics = {topic_of(name) for name in turn.done} - {""}
    for points, tool in scores:
        key = tool.topic or tool.name
        if points > best.get(key, (0, tool))[0] and key not in done_topics:
            best[key] = (points, tool)
    chosen = [tool for _, tool in best.values()]
    if not chosen and not turn.done and re.search(table("topics")["words"]["use"], turn.text):
        chosen = tools[:1]
    return _staged(chosen)


def _staged(chosen: list[Tool]) -> list[Tool]:
    first = [tool for tool in chosen if tool.topic == table("topics")["media"]["first"]]
    return first or chosen


def score(tool: Tool, text: str, asked: set[str]) -> int:
    """Say how well a tool fits the words: its name, its topic, the words of its name."""
    named = re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", text)
    on_topic = 5 if tool.topic in asked else 0
    overlap = sum(word in text.lower() for word in _words(tool.name))
    if tool.topic and not on_topic and not named:
        return 0
    return (20 if named else 0) + on_topic + overlap


def _words(name: str) -> set[str]:
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    idle = table("topics")["words"]["idle"]
    return {part.lower() for part in parts if len(part) > 3 and part.lower() not in idle}


def forced(turn: Turn, tools: list[Tool], name: str | None) -> list[Tool]:
    """Choose for a forced call: the named tool, else the best that has not answered yet."""
    if name:
        return [tool for tool in tools if tool.name == name]
    if chosen := wanted(turn, tools):
        return chosen if _all_media(chosen) else chosen[:1]
    return [tool for tool in tools if tool.name not in turn.done][:1] or tools[:1]


def _all_media(tools: list[Tool]) -> bool:
    return all(tool.topic in table("topics")["media"]["kinds"] for tool in tools)


def calls_for(turn: Turn, tool: Tool) -> list[Call]:
    """Fill in a tool's arguments; a tool for one place is called once for each place."""
    row: dict[str, str] = next((r for r in table("topics")["topic"] if r["name"] == tool.topic), {})
    texts = [brief(turn.text, tool.topic)]
    towns = find.places(turn.text)
    if len(towns) > 1 and _takes_one_place(tool):
        texts = [_only(turn.text, town, towns) for town in towns]
    picture = _picture(turn, tool)
    return [
        Call(
            tool.name,
            fill(
                tool.schema,
                find.clues(text, tool.name, numbers=row.get("numbers", ""), picture=picture),
            ),
        )
        for text in texts
    ]


def _takes_one_place(tool: Tool) -> bool:
    properties = tool.schema.get("properties", {})
    words = table("phrases")["fields"]["place"]
    return any(
        re.search(words, name) and kind_of(resolve(inner, tool.schema)) == "string"
        for name, inner in properties.items()
    )


def _only(text: str, town: str, towns: list[str]) -> str:
    start = min(text.find(name) for name in towns)
    end = max(text.find(name) + len(name) for name in towns)
    return text[:start] + town + text[end:]


def brief(text: str, topic: str) -> str:
    """Cut from a long wish the part that is about one medium, with the names it needs."""
    rows = {row["name"]: row["ask"] for row in table("topics")["topic"]}
    if topic not in table("topics")["media"]["kinds"]:
        return text
    clauses = [c.strip() for c in re.split(r"[，,；;。：:\n]|\band then\b|\bthen\b", text)]
    mine = [c for c in clauses if topic in topics_of(c) and re.search(rows[topic], c)]
    if not mine or len(clauses) == 1:
        return text
    names = [n for n in find.clues(text).quotes if n not in mine[0]]
    return ("，" if is_chinese(text) else ", ").join(
        [*names[:1], re.sub(r"^(再|然后|并|最后|请|and |also )+", "", mine[0])]
    )


def _picture(turn: Turn, tool: Tool) -> str | None:
    """Find the picture a tool should start from: this turn's, or an earlier one spoken of."""
    spoken = re.search(table("topics")["media"]["reference"], brief(turn.text, tool.topic))
    if tool.topic != "video" and not spoken:
        return None
    results = [*(turn.earlier if spoken else ()), *turn.results]
    made = [r for r in results if topic_of(r.name) == "image" and not r.failed]
    return next((found for r in reversed(made) if (found := job_id(r.text))), None)


def job_id(text: str) -> str | None:
    """Find a job id in a tool's answer, else its link."""
    match = re.search(table("topics")["media"]["job_id"], text)
    return match.group(0) if match else find.link(text)
