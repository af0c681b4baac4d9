"""What the emulator answers to a chat request. Pure: the same request has the same answer.

Tools that the question asks for are called with arguments that fit their schemas, a
`response_format` is filled, and all else is answered with a phrase of `phrases.toml`.
"""

from __future__ import annotations

import json
import operator
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from langchain_tokenhub.testing.chat_script import Answer, ToolCall
from langchain_tokenhub.testing.chat_validation import (
    Body,
    is_schema,
    parts_of,
    pieces,
)
from langchain_tokenhub.testing.tables import ChatModel, table

Schema = Mapping[str, Any]
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "×": operator.mul}


def compute_answer(body: Body, row: ChatModel) -> Answer:
    """Answer a checked request from its words, tools and schemas."""
    turn = read_turn(body["messages"])
    calls = tuple(_choose_calls(body, turn))
    content = _before_calls(turn, calls) if calls else _text(body, row, turn)
    stops = body.get("stop") or []
    for stop in filter(None, [stops] if isinstance(stops, str) else stops):
        content = content.partition(stop)[0]
    reasoning = _say(turn, "thinking", text=_short(turn.text)) if row.thinks(body) else ""
    answer = Answer(content, reasoning, calls, "tool_calls" if calls else "stop")
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    return _shorten(answer, limit) if limit and answer.tokens > limit else answer


def _shorten(answer: Answer, limit: int) -> Answer:
    reasoning = pieces(answer.reasoning)[:limit]
    content = pieces(answer.content)[: limit - len(reasoning)]
    left = limit - len(reasoning) - len(content)
    calls = [
        replace(call, arguments="".join(pieces(call.arguments)[: left - 1]))
        for call in answer.calls[:1]
        if left > 0
    ]
    return Answer("".join(content), "".join(reasoning), tuple(calls), "length")


class ToolResult(NamedTuple):
    """The answer of a tool; `job` is a job id or a link in it, unless the call failed."""

    name: str
    text: str
    job: str


class Turn(NamedTuple):
    """The user's last question, and the tools' results since then and before."""

    system: str
    text: str
    asked: tuple[str, ...]
    results: tuple[ToolResult, ...]
    earlier: tuple[ToolResult, ...]
    images: int


def read_turn(messages: Sequence[Body]) -> Turn:
    """Read the last turn; an image that follows a tool's result belongs to that result."""
    start = 0
    for at, message in enumerate(messages):
        is_result = at > 0 and messages[at - 1]["role"] == "tool" and _count_images(message) > 0
        start = at if message["role"] == "user" and not is_result else start
    return Turn(
        system=" ".join(_text_of(m) for m in messages if m["role"] == "system"),
        text=_text_of(messages[start]),
        asked=tuple(_text_of(m) for m in messages if m["role"] == "user"),
        results=tuple(_results(messages[start:])),
        earlier=tuple(_results(messages[:start])),
        images=_count_images(messages[start]),
    )


def _text_of(message: Body) -> str:
    return "\n".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def _count_images(message: Body) -> int:
    return sum(part["type"] != "text" for part in parts_of(message))


def _results(messages: Sequence[Body]) -> Iterator[ToolResult]:
    names: dict[str, str] = {}
    for message in messages:
        names |= {c["id"]: c["function"]["name"] for c in message.get("tool_calls") or []}
        if message["role"] == "tool":
            text, media = _text_of(message), table("topics")["media"]
            job = "" if re.search(media["failed"], text) else _find([media["job_id"], _LINK], text)
            yield ToolResult(names.get(message["tool_call_id"], ""), text, job)


# -- which tools are called ---------------------------------------------------------------------


class _Tool(NamedTuple):
    name: str
    schema: Schema
    topic: str


def _choose_calls(body: Body, turn: Turn) -> list[ToolCall]:
    functions = [t["function"] for t in body.get("tools") or [] if t["type"] == "function"]
    tools = [
        _Tool(f["name"], f.get("parameters") or {}, _topic(f["name"], f.get("description", "")))
        for f in functions
    ]
    match body.get("tool_choice"):
        case "none":
            return []
        case {"function": {"name": name}}:
            chosen = [tool for tool in tools if tool.name == name]
        case "required":
            done = {result.name for result in turn.results}
            rest = [tool for tool in tools if tool.name not in done] or tools
            chosen = _best_tools(turn, tools) or rest[:1]
        case _:
            chosen = _best_tools(turn, tools)
    calls = [call for tool in chosen for call in _calls(turn, tool)]
    return calls if body.get("parallel_tool_calls", True) else calls[:1]


def _topic(name: str, description: str = "") -> str:
    """Return what a tool is about: by its name, else by its description."""
    rows = [(text, row) for text in (name, description) for row in table("topics")["topic"]]
    return next((str(row["name"]) for text, row in rows if re.search(row["tool"], text)), "")


def _best_tools(turn: Turn, tools: list[_Tool]) -> list[_Tool]:
    """Return the best tool of each topic that has not answered, images before all else."""
    done = {result.name for result in turn.results}
    done_topics = {_topic(name) for name in done} - {""}
    best: dict[str, tuple[int, _Tool]] = {}
    for tool in tools:
        score, key = _score(tool, turn.text), tool.topic or tool.name
        if tool.name not in done and key not in done_topics and score > best.get(key, (0,))[0]:
            best[key] = score, tool
    chosen = [tool for _, tool in best.values()]
    if not chosen and not done and re.search(table("topics")["words"]["use"], turn.text):
        chosen = tools[:1]
    return [tool for tool in chosen if tool.topic == "image"] or chosen


def _score(tool: _Tool, text: str) -> int:
    """Rate how well a tool fits a question: by its name, its topic, the words of its name."""
    named = 20 * bool(re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", text))
    on_topic = 5 * (tool.topic in _topics_of(text))
    if tool.topic and not named and not on_topic:
        return 0
    words = {w.lower() for w in re.findall(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}(?![a-z])", tool.name)}
    idle = table("topics")["words"]["idle"]
    return named + on_topic + sum(w in text.lower() for w in words if len(w) > 3 and w not in idle)


def _topics_of(text: str) -> set[str]:
    """Return what a text asks for; "this image" asks for no new one."""
    plain = re.sub(table("topics")["media"]["reference"], " ", text)
    return {row["name"] for row in table("topics")["topic"] if re.search(row["ask"], plain)}


def _calls(turn: Turn, tool: _Tool) -> list[ToolCall]:
    """Fill a tool's arguments; a tool for one place is called once for each place."""
    text, fields = _part_about(tool.topic, turn.text), tool.schema.get("properties", {}).items()
    named = (inner for name, inner in fields if _field(name).get("kind") == "place")
    one = any(type_of(resolve(inner, tool.schema)) == "string" for inner in named)
    image = _image(turn, tool, text)
    return [
        ToolCall(tool.name, _json(fill(tool.schema, facts)))
        for place in (_places(turn.text) if one else []) or [""]
        for facts in [read_facts(text, tool.topic, image, place)]
    ]


def _part_about(topic: str, text: str) -> str:
    """Return the clause of a long wish that asks for one kind of media, with the first name."""
    if topic not in table("topics")["media"]["kinds"]:
        return text
    clauses = [c.strip() for c in re.split(r"[，,；;。：:\n]|\b(?:and )?then\b", text)]
    clause = next((c for c in clauses if topic in _topics_of(c)), None)
    if clause is None or len(clauses) == 1:
        return text
    names = [name for name in read_facts(text).quotes if name not in clause][:1]
    return "，".join([*names, re.sub(r"^(再|然后|并|最后|请|and |also )+", "", clause)])


def _image(turn: Turn, tool: _Tool, text: str) -> str:
    """Return the image that a tool starts from: of this turn, or an earlier one referred to."""
    referred = re.search(table("topics")["media"]["reference"], text)
    if tool.topic != "video" and not referred:
        return ""
    results = [*(turn.earlier if referred else ()), *turn.results]
    return next((r.job for r in reversed(results) if r.job and _topic(r.name) == "image"), "")


# -- arguments ----------------------------------------------------------------------------------

_LINK = r"https?://[^\s<>\"'，。）)]+"
_NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)|(?<=[^\d\s.])\d+(?=[^\d.]|$)"
_QUOTE = r"“([^”]+)”|「([^」]+)」|《([^》]+)》|\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)"
_MAX_DEPTH = 8


@dataclass
class Facts:
    """What a question holds for arguments; numbers and quotations are used one after another."""

    text: str
    numbers: deque[float]
    quotes: deque[str]
    image: str = ""
    place: str = ""
    objects_left: int = 2000  # a schema that holds itself would never end


def read_facts(text: str, topic: str = "", image: str = "", place: str = "") -> Facts:
    """Read the facts for a call about a topic."""
    row: dict[str, str] = next((r for r in table("topics")["topic"] if r["name"] == topic), {})
    operands = re.search(row.get("numbers", r"\Z."), text)
    numbers = operands.groups() if operands else re.findall(_NUMBER, text)
    quotes = ["".join(groups) for groups in re.findall(_QUOTE, text)]
    return Facts(text, deque(map(float, numbers)), deque(quotes), image, place)


def _find(patterns: Sequence[str], text: str) -> str:
    """Return the first group of the first pattern that is found, or all that it matches."""
    found = next((match for p in patterns if (match := re.search(p, text))), None)
    return next(filter(None, [*found.groups(), found.group()]), "") if found else ""


def _dereference(reference: str, root: Schema) -> Schema:
    """Follow a local reference; where it leads nowhere, anything fits."""
    found: Any = root
    for step in reference.split("/")[1:]:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def resolve(schema: Schema, root: Schema) -> Schema:
    """Follow references, merge `allOf`, and take the first alternative that is not null."""
    merged = dict(schema)
    for _ in range(_MAX_DEPTH):
        if reference := merged.pop("$ref", None):
            merged = {**_dereference(reference, root), **merged}
        elif options := merged.pop("anyOf", None) or merged.pop("oneOf", None):
            merged |= next((o for o in options if o.get("type") != "null"), options[0])
        for part in merged.pop("allOf", ()):
            merged |= part
    return merged


def type_of(schema: Body) -> str:
    """Return the JSON type that a schema accepts."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else str(kind)


def fill(schema: Schema, facts: Facts) -> dict[str, Any]:
    """Make an object that a schema accepts: required fields, and those that are mentioned."""
    return _object(resolve(schema, schema), schema, facts, 0)


def _value(name: str, schema: Schema, root: Schema, facts: Facts, depth: int) -> Any:
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if options := schema.get("enum"):
        said = [option for option in options if str(option).lower() in facts.text.lower()]
        return [*said, schema.get("default", options[0])][0]
    match type_of(schema):
        case "object":
            return _object(schema, root, facts, depth)
        case "array":
            return _array(name, schema, root, facts, depth)
        case "integer":
            return round(_number(schema, facts))
        case "number":
            return _number(schema, facts)
        case "boolean":
            return bool(schema.get("default", True))
        case "null":
            return None
        case _:
            text = _string(name, schema, facts)[: int(schema.get("maxLength", 1_000_000))]
            return text.ljust(int(schema.get("minLength", 0)), ".")


def _object(schema: Schema, root: Schema, facts: Facts, depth: int) -> dict[str, Any]:
    facts.objects_left -= 1
    if depth > _MAX_DEPTH or facts.objects_left < 0:
        return {}
    return {
        key: _value(key, inner, root, facts, depth + 1)
        for key, inner in schema.get("properties", {}).items()
        if key in schema.get("required", []) or _is_mentioned(key, resolve(inner, root), facts)
    }


def _is_mentioned(name: str, schema: Schema, facts: Facts) -> bool:
    """Return True if the question gives a value for an optional field."""
    if _field(name).get("kind") == "image":
        return bool(facts.image or re.search(_LINK, facts.text))
    if name == "prompt":
        return not facts.image
    text, word = facts.text.lower(), rf"\b{re.escape(name.lower())}\b"
    if any(isinstance(v, str) and len(v) > 2 and v.lower() in text for v in schema.get("enum", [])):
        return True
    if type_of(schema) in {"string", "object"} and not _field(name):
        word += r"\s*[=:：]"
    return bool(re.search(word, text))


def _field(name: str) -> Mapping[str, Any]:
    rows = table("phrases")["field"]
    return next((row for row in rows if re.search(row["names"], name.lower())), {})


def _array(name: str, schema: Schema, root: Schema, facts: Facts, depth: int) -> list[Any]:
    if depth >= _MAX_DEPTH:
        return []
    items = resolve(schema.get("items") or {}, root)
    numbers, quotes = len(facts.numbers), len(facts.quotes)
    given = {"integer": numbers, "number": numbers, "string": quotes}.get(type_of(items), 1)
    low = max(1, int(schema.get("minItems", 1)))
    length = min(max(low, given), int(schema.get("maxItems", max(low, 4))))
    return [_value(name, items, root, facts, depth + 1) for _ in range(length)]


def _number(schema: Schema, facts: Facts) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1e9) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1e9) - 1)
    value = facts.numbers.popleft() if facts.numbers else float(schema.get("default") or 1)
    value = min(max(value, low), high)
    return int(value) if float(value).is_integer() else value


def _string(name: str, schema: Schema, facts: Facts) -> str:
    if given := _find([rf"\b{re.escape(name)}\s*[=:：]\s*['\"“]?([^\s,，'\"”]+)"], facts.text):
        return given
    if example := table("phrases")["formats"].get(str(schema.get("format"))):
        return str(example)
    row = _field(name)
    match row.get("kind"):
        case "image":
            found = facts.image or _find([_LINK], facts.text)
        case "place":
            found = facts.place or next(iter(_places(facts.text)), "")
        case "question":
            found = facts.text
        case _:
            found = row.get("text") or _find(row.get("find", []), facts.text)
            found = found or (facts.quotes.popleft() if facts.quotes else "")
    return found or facts.text or name


def _places(text: str) -> list[str]:
    """Return the places that a question is about."""
    words = table("phrases")["place"]
    if found := re.search(words["zh"], text):
        return [name for name in re.split(r"[、，和与及]|以及", found.group(1)) if name]
    found = re.search(words["en"], text)
    return re.split(r",?\s+and\s+(?:in\s+)?", found.group(1)) if found else []


# -- texts --------------------------------------------------------------------------------------


def _text(body: Body, row: ChatModel, turn: Turn) -> str:
    asked: Body = body.get("response_format") or {"type": "text"}
    prompt = f"{turn.system}\n{turn.text}"
    match asked["type"]:
        case "json_schema" if row.json_schema == "fills":
            schema = asked["json_schema"]["schema"]
        case "json_object":
            schema = _schema_in(prompt) or _named_keys(prompt)
        case _:
            return _after_calls(turn) if turn.results else next(filter(None, _replies(turn)))
    return _json(fill(schema, read_facts(turn.text)))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _schema_in(prompt: str) -> Schema | None:
    """Return a JSON schema that is written into the prompt."""
    for match in re.finditer(r"\{", prompt):
        try:
            found = json.JSONDecoder().raw_decode(prompt, match.start())[0]
        except (ValueError, RecursionError):
            continue
        if is_schema(found) and "properties" in found:
            return dict(found)
    return None


def _named_keys(prompt: str) -> Schema:
    """Return a schema of the quoted keys, as in "with 'setup' and 'punchline' keys"."""
    names = re.findall(r"['\"`“]([A-Za-z_]\w*)['\"`”]", prompt) or ["answer"]
    return {"properties": {key: {"type": "string"} for key in names}, "required": names}


def _say(turn: Turn, key: str, **values: str) -> str:
    language = "zh" if re.search(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]", turn.text) else "en"
    return str(table("phrases")["talk"][language][key]).format(**values)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60] + "…"


def _replies(turn: Turn) -> Iterator[str]:
    """Yield the replies that apply, the best first; empty ones do not count."""
    phrases, text = table("phrases"), turn.text
    patterns = phrases["patterns"]
    if turn.images:
        yield _say(turn, "image")
    if re.search(patterns["translate"], turn.system):
        yield phrases["translations"].get(text.strip(), "")
    yield _find(patterns["say"], text)
    if operation := re.search(patterns["operation"], text):
        left, sign, right = operation.groups()
        yield f"{left}{sign}{right}={_OPERATORS[sign](float(left), float(right)):.10g}"
    if re.search(patterns["ask_name"], text):
        names = (_find(patterns["name"], asked) for asked in reversed(turn.asked))
        yield from (_say(turn, "named", name=name) for name in names if name)
    yield from (_say(turn, row["say"]) for row in phrases["rule"] if re.search(row["words"], text))
    yield _say(turn, "default", text=_short(text))


def _media_kind(turn: Turn, tool: str) -> str:
    topic = _topic(tool)
    return _say(turn, f"kind_{topic}") if topic in table("topics")["media"]["kinds"] else ""


def _before_calls(turn: Turn, calls: Sequence[ToolCall]) -> str:
    """Return the text before calls of media tools; other tools are called without a text."""
    kinds = [_media_kind(turn, call.name) for call in calls]
    return _say(turn, "start", kinds=_say(turn, "and").join(kinds)) if all(kinds) else ""


def _after_calls(turn: Turn) -> str:
    """Sum up the results of the tools."""
    kinds = [(kind, r) for r in turn.results if (kind := _media_kind(turn, r.name))]
    items = [_say(turn, "item", kind=kind, text=_made(r)) for kind, r in kinds]
    if not items:
        return _say(turn, "result", text="\n".join(r.text for r in turn.results))
    return "".join([_say(turn, "made"), *items])


def _made(result: ToolResult) -> str:
    """Return the names of the files that a tool saved, else its job ID."""
    saved = re.findall(r" saved: ([^;]+?)(?= unpacked: |;|$)", result.text)
    names = (re.split(r"[/\\]", path)[-1] for path in saved)
    return ", ".join(names) or result.job or _short(result.text)
