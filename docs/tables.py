"""Languages and Markdown tables, for the generated parts of the pages. Pure."""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table, with bars in cells escaped."""
    cells = [list(heads), *(list(row) for row in rows)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("---" for _ in cells[0]) + " |")
    return "\n".join(lines)


def code(language: Language, words: Iterable[object]) -> str:
    """Return words as code, separated by commas."""
    return pick(language, ", ", "、").join(f"`{word}`" for word in words)


def pick(language: Language, en: str, zh: str) -> str:
    """Return the text in a language."""
    return zh if language == "zh" else en
