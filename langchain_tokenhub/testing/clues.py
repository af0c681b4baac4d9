"""What a sentence holds that arguments can be made of. Pure."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)|(?<=[^\d\s.])\d+(?=[^\d.]|$)")
_QUOTE = re.compile(r"“([^”]+)”|「([^」]+)」|《([^》]+)》|\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)")
_PLACE = re.compile(r"\b(?:in|at|for|of|to|from)\s+((?:[A-Z][\w.-]*)(?:,?\s+[A-Z][\w.-]*)*)")
_MORE = re.compile(r"\s+and\s+(?:in\s+)?((?:[A-Z][\w.-]*)(?:,?\s+[A-Z][\w.-]*)*)")
_PLACE_ZH = re.compile(
    r"([\u4e00-\u9fff、，]{2,20}?)(?:今天|明天|后天|现在|当前|目前|这周|本周|今日|的)*(?:天气|气温|下雨)"
)
_POLITE = re.compile(
    r"^(?:请问|请|帮我|帮忙|我想知道|告诉我|查询|查一下|查查|查|看看|看一下|一下|下)+"
)
_NAMED = re.compile(
    r"(?:\b(?:named|called|name is|I am|I'm)\s+)([A-Z]\w+)"
    r"|(?:名叫|叫做|我叫|名字是|我是)([\u4e00-\u9fff\w]{1,8})"
)
_CAPITAL = re.compile(r"(?<![.!?\w] )(?<!^)\b([A-Z][a-z]+)\b")
_STYLE = re.compile(
    r"\b(?:style of (?:an? )?|an? )([A-Za-z]+)(?= style| greeting|\b)", re.IGNORECASE
)
_LINK = re.compile(r"https?://[^\s<>\"'，。）)]+")
_CALL = r"{name}\s*\(([^)]*)\)"


@dataclass
class Clues:
    """Numbers and quotations are used up one after another."""

    text: str
    numbers: deque[float] = field(default_factory=deque)
    quotes: deque[str] = field(default_factory=deque)
    picture: str | None = None
    room: int = 2000
    """Objects that may still be filled: a schema that holds itself many times never ends."""


def clues(text: str, function: str = "", *, numbers: str = "", picture: str | None = None) -> Clues:
    """Collect the clues for one call.

    Args:
        text: What the user said.
        function: A tool's name; what is written in its brackets goes first.
        numbers: A pattern whose groups are the numbers.
        picture: A job id or link that a tool may take as its picture.
    """
    written = re.search(_CALL.format(name=re.escape(function)), text) if function else None
    scope = written.group(1) if written and written.group(1).strip() else text
    pair = re.search(numbers, text) if numbers else None
    found = list(pair.groups()) if pair else _NUMBER.findall(scope)
    quotes = ["".join(groups) for groups in _QUOTE.findall(scope)]
    return Clues(text, deque(map(float, found)), deque(quotes), picture)


def places(text: str) -> list[str]:
    """Find the places a question is about."""
    if chinese := _PLACE_ZH.search(text):
        names = re.split(r"[、，和与及]|以及", _POLITE.sub("", chinese.group(1)))
        return [name.removesuffix("的") for name in names if name]
    first = _PLACE.search(text)
    if not first:
        return []
    more = _MORE.findall(text, first.end(1))
    return [first.group(1), *more]


def named(text: str) -> str | None:
    """Find the name of somebody."""
    if match := _NAMED.search(text):
        return match.group(1) or match.group(2)
    first = re.match(r"([A-Z][a-z]+) (?:is|was|has|lives|works)\b", text)
    match = first or _CAPITAL.search(text)
    return match.group(1) if match else None


def style(text: str) -> str | None:
    """Find a manner, as in "a Pirate greeting"."""
    match = _STYLE.search(text)
    return match.group(1) if match else None


def link(text: str) -> str | None:
    """Find the first web address."""
    match = _LINK.search(text)
    return match.group(0) if match else None


def joke(text: str) -> str:
    """Find what a joke is about."""
    match = re.search(r"(?:joke|story|poem|haikus?|facts?) about (?:an? |the )?(\w+)", text)
    match = match or re.search(r"关于(.{1,8}?)的(?:笑话|故事|诗)", text)
    return match.group(1) if match else "cats"
