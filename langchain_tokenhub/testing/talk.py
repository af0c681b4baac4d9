"""Plain answers. Pure."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

from langchain_tokenhub.testing import clues as find
from langchain_tokenhub.testing.choose import job_id, topic_of
from langchain_tokenhub.testing.tables import table
from langchain_tokenhub.testing.text import is_chinese
from langchain_tokenhub.testing.turn import Result, Turn

_SUM = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?(?:\s*[-+*/×÷加减乘除]\s*\d+(?:\.\d+)?)+)(?![\w.])")
_SIGNS = str.maketrans("×÷加减乘除", "*/+-*/")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ECHO = re.compile(
    r"(?:^|\b)(?:say|repeat(?: after me)?|(?:reply|answer|respond) with)[: ]+"
    r"(?:only |just |exactly )?['\"“]([^'\"”]+)"
    r"|(?:只|请)?(?:回复|重复|说出?|回答)[：: ]*[“\"「]([^”\"」]+)",
    re.IGNORECASE,
)
_WHO = re.compile(r"(?i)what(?:'s| is) my name|我叫什么|我的名字是什么|我是谁")
_ME = re.compile(
    r"(?:[Mm]y name is|I am|I'm|[Cc]all me)\s+([A-Z]\w*)|(?:我叫|我是)([\u4e00-\u9fff]{1,4})"
)


def language(turn: Turn) -> str:
    """Name the language to answer in."""
    return "zh" if is_chinese(turn.text) else "en"


def say(turn: Turn, key: str, **values: str) -> str:
    """Say a phrase in the user's language."""
    return str(table("phrases")["talk"][language(turn)][key]).format(**values)


def plain(turn: Turn) -> str:
    """Answer without tools."""
    if turn.pictures:
        return say(turn, "picture")
    for answer in (_translation, _echo, _arithmetic, _memory, _rule):
        if text := answer(turn):
            return text
    return say(turn, "default", text=_short(turn.text))


def _short(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[:length] + "…"


def _translation(turn: Turn) -> str:
    if not re.search(r"(?i)翻译|translat", turn.system):
        return ""
    known: dict[str, str] = table("phrases")["translations"]
    return known.get(turn.text.strip(), "")


def _echo(turn: Turn) -> str:
    match = _ECHO.search(turn.text)
    return (match.group(1) or match.group(2)) if match else ""


def _arithmetic(turn: Turn) -> str:
    match = _SUM.search(turn.text)
    if not match or len(match.group(1)) > 40:
        return ""
    written = re.sub(r"\s+", "", match.group(1))
    try:
        value = _evaluate(ast.parse(written.translate(_SIGNS), mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        return ""
    return f"{written}={value:g}" if isinstance(value, float) else f"{written}={value}"


def _evaluate(node: ast.expr) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluate(left), _evaluate(right))
        case ast.Constant(value=value):
            return value
        case _:
            raise SyntaxError


def _memory(turn: Turn) -> str:
    if not _WHO.search(turn.text):
        return ""
    names = [m.group(1) or m.group(2) for text in turn.asked if (m := _ME.search(text))]
    return say(turn, "named", name=names[-1]) if names else ""


def _rule(turn: Turn) -> str:
    rules = table("phrases")["rule"]
    key = next((rule["say"] for rule in rules if re.search(rule["words"], turn.text)), "")
    match key:
        case "":
            return ""
        case "story":
            return "".join(table("phrases")["story"][language(turn)])
        case "haiku":
            return "\n\n".join(table("phrases")["haiku"][language(turn)])
        case _:
            return say(turn, key, topic=find.joke(turn.text))


def reasoning(turn: Turn) -> str:
    """Think aloud."""
    return say(turn, "thinking", text=_short(turn.text))


# -- around tools -------------------------------------------------------------------------------


def _kind(turn: Turn, topic: str) -> str:
    return say(turn, f"kind_{topic}")


def _is_media(name: str) -> bool:
    return topic_of(name) in table("topics")["media"]["kinds"]


def before_calls(turn: Turn, names: list[str]) -> str:
    """Say what is being made; other tools are called without a word."""
    if not all(_is_media(name) for name in names):
        return ""
    kinds = _listed(turn, names)
    done = [r.name for r in turn.results if _is_media(r.name) and not r.failed]
    if not done:
        return say(turn, "start", kinds=kinds)
    return say(turn, "next", done=_listed(turn, done), kinds=kinds)


def _listed(turn: Turn, names: list[str]) -> str:
    return say(turn, "and").join(_kind(turn, topic_of(name)) for name in names)


def after_calls(turn: Turn) -> str:
    """Sum up what the tools of this turn answered."""
    media = [r for r in turn.results if _is_media(r.name)]
    if media:
        items = "".join(_item(turn, r) for r in media)
        return say(turn, "made") + items + say(turn, "closing")
    return say(turn, "result", text="\n".join(r.text for r in turn.results))


def _item(turn: Turn, result: Result) -> str:
    kind = _kind(turn, topic_of(result.name))
    if result.failed:
        return say(turn, "item_failed", kind=kind, text=_short(result.text))
    found = job_id(result.text)
    return say(turn, "item", kind=kind, id=found) if found else say(turn, "item_plain", kind=kind)
