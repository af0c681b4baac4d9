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
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, NamedTuple

from langchain_tokenhub.testing.chat_script import Answer, ToolCall
from langchain_tokenhub.testing.chat_validation import is_schema, parts_of, pieces
from langchain_tokenhub.testing.tables import Body, Row, is_reasoning, table

Schema = Mapping[str, Any]
Tool = Mapping[str, Any]
_LINK = r"https?://[^\s<>\"'，。）)]+"
_NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)|(?<=[^\d\s.])\d+(?=[^\d.]|$)"
_QUOTE = r"“([^”]+)”|「([^」]+)」|《([^》]+)》|\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)"
_json = partial(json.dumps, ensure_ascii=False)
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "×": operator.mul}


def compute_answer(body: Body, row: Row) -> Answer:
    """Answer a checked request from its words, tools and schemas."""
    turn = read_turn(body["messages"])
    calls = tuple(_choose_calls(body, turn))
    content = _before_calls(turn, calls) if calls else _answer_text(body, row, turn)
    stops = body.get("stop") or []
    for stop in filter(None, [stops] if isinstance(stops, str) else stops):
        content = content.partition(stop)[0]
    reasoning = _say(turn, "thinking", text=_truncate(turn.text)) if is_reasoning(row, body) else ""
    answer = Answer(content, reasoning, calls, "tool_calls" if calls else "stop")
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    return _shorten(answer, limit) if limit and answer.tokens > limit else answer


def _shorten(answer: Answer, limit: int) -> Answer:
    reasoning = pieces(answer.reasoning)[:limit]
    content = pieces(answer.content)[: limit - len(reasoning)]
    left = limit - len(reasoning) - len(content)
    calls = tuple(
        replace(call, arguments="".join(pieces(call.arguments)[: left - 1]))
        for call in answer.calls[: min(left, 1)]
    )
    return Answer("".join(content), "".join(reasoning), calls, "length")


# -- the question -------------------------------------------------------------------------------


class ToolResult(NamedTuple):
    """The answer of a tool; `job` is a job id or a link in it, unless the call failed."""

    name: str
    topic: str
    text: str
    job: str


class Turn(NamedTuple):
    """The user's last question, and the tools' results since then and before."""

    system: str
    text: str
    history: str
    results: list[ToolResult]
    earlier: list[ToolResult]
    has_media: bool


def read_turn(messages: Sequence[Body]) -> Turn:
    """Read the last turn; an image that follows a tool's result belongs to that result."""
    start = 0
    for at, message in enumerate(messages):
        is_result = at > 0 and messages[at - 1]["role"] == "tool" and _has_media(message)
        start = at if message["role"] == "user" and not is_result else start
    return Turn(
        system=" ".join(_text_of(m) for m in messages if m["role"] == "system"),
        text=_text_of(messages[start]),
        history="\n".join(_text_of(m) for m in reversed(messages) if m["role"] == "user"),
        results=list(_read_results(messages[start:])),
        earlier=list(_read_results(messages[:start])),
        has_media=_has_media(messages[start]),
    )


def _text_of(message: Body) -> str:
    return "\n".join(part["text"] for part in parts_of(message) if part["type"] == "text")


def _has_media(message: Body) -> bool:
    return any(part["type"] != "text" for part in parts_of(message))


def _read_results(messages: Sequence[Body]) -> Iterator[ToolResult]:
    names, media = dict[str, str](), table("topics")["media"]
    for message in messages:
        names |= {c["id"]: c["function"]["name"] for c in message.get("tool_calls") or []}
        if message["role"] == "tool":
            name, text = names.get(message["tool_call_id"], ""), _text_of(message)
            job = "" if re.search(media["failed"], text) else _find([media["job_id"], _LINK], text)
            yield ToolResult(name, _topic({"name": name}), text, job)


def _find(patterns: Sequence[str], text: str) -> str:
    """Return the first group of the first pattern that is found, or all that it matches."""
    found = next((match for p in patterns if (match := re.search(p, text))), None)
    return next(filter(None, [*found.groups(), found.group()]), "") if found else ""


def _find_places(text: str) -> list[str]:
    for row in table("phrases")["place"]:
        if found := re.search(row["words"], text):
            return [name for name in re.split(row["and"], found.group(1)) if name]
    return []


def _quotes(text: str) -> list[str]:
    return ["".join(groups) for groups in re.findall(_QUOTE, text)]


# -- which tools are called ---------------------------------------------------------------------


def _choose_calls(body: Body, turn: Turn) -> list[ToolCall]:
    tools = [t["function"] for t in body.get("tools") or [] if t["type"] == "function"]
    match body.get("tool_choice"):
        case "none":
            return []
        case {"function": {"name": name}}:
            chosen = [tool for tool in tools if tool["name"] == name]
        case choice:
            chosen = _best_tools(turn, tools)
            if choice == "required" and not chosen:
                done = {result.name for result in turn.results}
                chosen = ([tool for tool in tools if tool["name"] not in done] or tools)[:1]
    calls = [call for tool in chosen for call in _make_calls(turn, tool)]
    return calls if body.get("parallel_tool_calls", True) else calls[:1]


def _best_tools(turn: Turn, tools: list[Tool]) -> list[Tool]:
    """Return the best tool of each topic that has not answered, of image tools only if any."""
    done = {key for result in turn.results for key in (result.name, result.topic) if key}
    best: dict[str, tuple[int, Tool]] = {}
    for tool in tools:
        score, key = _score(tool, turn.text), _topic(tool) or tool["name"]
        if not {tool["name"], key} & done and score > best.get(key, (0,))[0]:
            best[key] = score, tool
    chosen = [tool for _, tool in best.values()]
    if not chosen and not done and re.search(table("topics")["words"]["use"], turn.text):
        chosen = tools[:1]
    if any(f"{tool['name']} or " in turn.text for tool in chosen):  # one of them is asked for
        chosen = chosen[:1]
    return [tool for tool in chosen if _topic(tool) == "image"] or chosen


def _score(tool: Tool, text: str) -> int:
    """Rate how well a tool fits a question: by its name, its topic, the words of its name."""
    name, topic = tool["name"], _topic(tool)
    named = 20 * bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))
    on_topic = 5 * (topic in _topics_in(text))
    if topic and not named and not on_topic:
        return 0
    words = {w.lower() for w in re.findall(r"[A-Z]?[a-z]{3,}|[A-Z]{4,}(?![a-z])", name)}
    words -= set(table("topics")["words"]["stop_words"])
    return named + on_topic + sum(w in text.lower() for w in words if len(w) > 3)


def _topic(tool: Tool) -> str:
    """Return what a tool is about: by its name, else by its description."""
    texts = (tool["name"], tool.get("description", ""))
    rows = [(text, row) for text in texts for row in table("topics")["topic"]]
    return next((str(row["name"]) for text, row in rows if re.search(row["tool"], text)), "")


def _topics_in(text: str) -> set[str]:
    """Return what a text asks for; "this image" asks for no new one."""
    plain = re.sub(table("topics")["media"]["reference"], " ", text)
    return {row["name"] for row in table("topics")["topic"] if re.search(row["ask"], plain)}


def _make_calls(turn: Turn, tool: Tool) -> list[ToolCall]:
    """Fill a tool's arguments; a tool for one place is called once for each place."""
    topic, schema = _topic(tool), tool.get("parameters") or {}
    text = _part_about(topic, turn.text)
    takes_one_place = any(
        _field(name).get("kind") == "place" and type_of(resolve(inner, schema)) == "string"
        for name, inner in schema.get("properties", {}).items()
    )
    places = _find_places(turn.text) if takes_one_place else []
    image = _find_image(turn, topic, text)
    made = [fill(schema, text, topic, image, place) for place in places or [""]]
    return [ToolCall(tool["name"], _json(arguments)) for arguments in made]


def _part_about(topic: str, text: str) -> str:
    """Return a request's clause for one kind of media, after the first quotation outside it."""
    clauses = [c.strip() for c in re.split(r"[，,；;。：:\n]|\b(?:and )?then\b", text)]
    clause = next((c for c in clauses if topic in _topics_in(c)), None)
    if topic not in table("topics")["media"]["kinds"] or clause is None or len(clauses) == 1:
        return text
    names = [name for name in _quotes(text) if name not in clause][:1]
    return "，".join([*names, re.sub(r"^(再|然后|并|最后|请|and |also )+", "", clause)])


def _find_image(turn: Turn, topic: str, text: str) -> str:
    """Return the image that a call starts from: of this turn, or an earlier one referred to."""
    is_referred = re.search(table("topics")["media"]["reference"], text)
    results = [*(turn.earlier if is_referred else ()), *turn.results]
    images = [result.job for result in results if result.job and result.topic == "image"]
    return images[-1] if images and (is_referred or topic == "video") else ""


# -- values that fit a schema -------------------------------------------------------------------

_MAX_PARTS = 100  # objects and lists of a value: a recursive schema would never end


def fill(schema: Schema, text: str, topic: str = "", image: str = "", place: str = "") -> Body:
    """Make an object that a schema accepts from a question and what is known of its topic."""
    row: dict[str, str] = next((r for r in table("topics")["topic"] if r["name"] == topic), {})
    operands = re.search(row.get("numbers", r"\Z."), text)
    numbers = operands.groups() if operands else re.findall(_NUMBER, text)
    filler = _Filler(schema, text, image, place, deque(map(float, numbers)), deque(_quotes(text)))
    return filler.make_object(resolve(schema, schema))


def resolve(schema: Schema, root: Schema) -> Schema:
    """Follow references, merge `allOf`, and take the first alternative that is not null."""
    merged = dict(schema)
    for _ in range(8):
        if reference := merged.pop("$ref", None):
            found = reduce(lambda part, step: part.get(step) or {}, reference.split("/")[1:], root)
            merged = {**found, **merged}
        elif options := merged.pop("anyOf", None) or merged.pop("oneOf", None):
            merged |= next((o for o in options if o.get("type") != "null"), options[0])
        for part in merged.pop("allOf", ()):
            merged |= part
    return merged


def type_of(schema: Schema) -> str:
    """Return the JSON type that a schema accepts."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else str(kind)


def _field(name: str) -> Mapping[str, Any]:
    rows = table("phrases")["field"]
    return next((row for row in rows if re.search(row["names"], name.lower())), {})


@dataclass
class _Filler:
    """Makes values from a question; its numbers and quotations are used one after another."""

    root: Schema
    text: str
    image: str
    place: str
    numbers: deque[float]
    quotes: deque[str]
    parts: int = 0

    def make(self, name: str, schema: Schema) -> Any:
        """Make a value of any type."""
        schema = resolve(schema, self.root)
        if options := [schema["const"]] if "const" in schema else schema.get("enum"):
            said = (option for option in options if str(option).lower() in self.text.lower())
            return next(said, schema.get("default", options[0]))
        match type_of(schema):
            case "object":
                return self.make_object(schema)
            case "array":
                return self._make_array(name, schema)
            case "integer" | "number":
                return self._make_number(schema)
            case "boolean":
                return bool(schema.get("default", True))
            case "null":
                return None
            case _:
                text = self._make_text(name, schema)[: int(schema.get("maxLength", 1_000_000))]
                return text.ljust(int(schema.get("minLength", 0)), ".")

    def make_object(self, schema: Schema) -> dict[str, Any]:
        """Make an object of the required fields and those that are mentioned."""
        self.parts += 1
        fields = schema.get("properties", {}) if self.parts <= _MAX_PARTS else {}
        return {
            key: self.make(key, inner)
            for key, inner in fields.items()
            if key in schema.get("required", [])
            or self._is_mentioned(key, resolve(inner, self.root))
        }

    def _make_array(self, name: str, schema: Schema) -> list[Any]:
        self.parts += 1
        items = resolve(schema.get("items") or {}, self.root)
        quotes, numbers = len(self.quotes), len(self.numbers)
        counts = {"string": quotes, "integer": numbers, "number": numbers}
        given = counts.get(type_of(items), 1)
        low = max(1, int(schema.get("minItems", 1)))
        length = min(max(low, given), int(schema.get("maxItems", max(low, 4))))
        return [self.make(name, items) for _ in range(length) if self.parts <= _MAX_PARTS]

    def _make_number(self, schema: Schema) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1e9) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", 1e9) - 1)
        value = self.numbers.popleft() if self.numbers else float(schema.get("default") or 1)
        value = float(min(max(value, low), high))
        is_whole = type_of(schema) == "integer" or value.is_integer()
        return round(value) if is_whole else value

    def _make_text(self, name: str, schema: Schema) -> str:
        stated = rf"\b{re.escape(name)}\s*[=:：]\s*['\"“]?([^\s,，'\"”]+)"
        example = table("phrases")["formats"].get(str(schema.get("format")), "")
        match _field(name):
            case _ if given := _find([stated], self.text) or example:
                found = given
            case {"kind": "image"}:
                found = self.image or _find([_LINK], self.text)
            case {"kind": "place"}:
                found = self.place or next(iter(_find_places(self.text)), "")
            case {"kind": "question"}:
                found = self.text
            case row:
                found = row.get("text") or _find(row.get("find", []), self.text)
                found = found or (self.quotes.popleft() if self.quotes else "")
        return found or self.text or name

    def _is_mentioned(self, name: str, schema: Schema) -> bool:
        """Return True if the question gives a value for an optional field."""
        text, kind = self.text.lower(), _field(name).get("kind")
        if kind == "image":
            return bool(self.image or re.search(_LINK, text))
        if name == "prompt":
            return not self.image
        options = [v.lower() for v in schema.get("enum", []) if isinstance(v, str) and len(v) > 2]
        is_stated = not _field(name) and type_of(schema) in {"string", "object"}
        pattern = rf"\b{re.escape(name.lower())}\b" + r"\s*[=:：]" * is_stated
        return any(option in text for option in options) or bool(re.search(pattern, text))


# -- texts --------------------------------------------------------------------------------------


def _answer_text(body: Body, row: Row, turn: Turn) -> str:
    asked: Body = body.get("response_format") or {"type": "text"}
    match asked["type"]:
        case "json_schema" if row["json_schema"] == "fills":
            return _json(fill(asked["json_schema"]["schema"], turn.text))
        case "json_object":
            return _json(fill(_schema_in(f"{turn.system}\n{turn.text}"), turn.text))
        case _:
            return _after_calls(turn) if turn.results else next(filter(None, _replies(turn)))


def _schema_in(prompt: str) -> Schema:
    """Return a JSON schema in the prompt, else one of quoted keys, as in "with a 'setup' key"."""
    for match in re.finditer(r"\{", prompt):
        with suppress(ValueError, RecursionError):
            found = json.JSONDecoder().raw_decode(prompt, match.start())[0]
            if is_schema(found) and "properties" in found:
                return dict(found)
    names = re.findall(r"['\"`“]([A-Za-z_]\w*)['\"`”]", prompt) or ["answer"]
    return {"properties": {key: {"type": "string"} for key in names}, "required": names}


def _say(turn: Turn, key: str, **values: str) -> str:
    language = "zh" if re.search(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]", turn.text) else "en"
    return str(table("phrases")["talk"][language][key]).format(**values)


def _truncate(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60] + "…"


def _replies(turn: Turn) -> Iterator[str]:
    """Yield the replies that apply, the best first; empty ones do not count."""
    phrases, text = table("phrases"), turn.text
    patterns = phrases["patterns"]
    if turn.has_media:
        yield _say(turn, "image")
    if re.search(patterns["translate"], turn.system):
        yield phrases["translations"].get(text.strip(), "")
    yield _find(patterns["say"], text)
    if operation := re.search(patterns["operation"], text):
        left, sign, right = operation.groups()
        yield f"{left}{sign}{right}={_OPERATORS[sign](float(left), float(right)):.10g}"
    if re.search(patterns["ask_name"], text) and (name := _find(patterns["name"], turn.history)):
        yield _say(turn, "named", name=name)
    yield from (_say(turn, row["say"]) for row in phrases["rule"] if re.search(row["words"], text))
    yield _say(turn, "default", text=_truncate(text))


def _media_kind(turn: Turn, topic: str) -> str:
    return _say(turn, f"kind_{topic}") if topic in table("topics")["media"]["kinds"] else ""


def _before_calls(turn: Turn, calls: Sequence[ToolCall]) -> str:
    """Return the text before calls of media tools; other tools are called without a text."""
    kinds = [_media_kind(turn, _topic({"name": call.name})) for call in calls]
    return _say(turn, "start", kinds=_say(turn, "and").join(kinds)) if all(kinds) else ""


def _after_calls(turn: Turn) -> str:
    """Sum up the results of the tools: of media the saved files, else the job ID."""
    items = ""
    for result in turn.results:
        if kind := _media_kind(turn, result.topic):
            saved = re.findall(r" saved: ([^;]+?)(?= unpacked: |;|$)", result.text)
            names = ", ".join(re.split(r"[/\\]", path)[-1] for path in saved)
            made = names or result.job or _truncate(result.text)
            items += _say(turn, "item", kind=kind, text=made)
    texts = "\n".join(result.text for result in turn.results)
    return _say(turn, "made") + items if items else _say(turn, "result", text=texts)
