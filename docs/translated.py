"""The Chinese comparison page, generated from the English one and `comparison_zh.toml`. Pure.

Only texts are translated; the figures exist once. A test fails for a text without translation.
"""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

WORDS = Path(__file__).with_name("comparison_zh.toml")
LAST = " in "
"""Separates a test's name and its file."""


def chinese(english: str) -> str:
    """Return the page in Chinese."""
    words = known()
    blocks = [_block(block, words) for block in english.strip().split("\n\n")]
    return "\n\n".join(blocks) + "\n"


def untranslated(english: str) -> list[str]:
    """Return the texts that have no translation."""
    return [text for text in dict.fromkeys(_texts(english)) if text not in known()]


def unused(english: str) -> list[str]:
    """Return the translations of texts that no longer exist."""
    return sorted(known().keys() - set(_texts(english)) - set(known(cells=True)))


def known(*, cells: bool = False) -> dict[str, str]:
    """Return the translations of table cells, and those of other texts."""
    words: dict[str, dict[str, str]] = tomllib.loads(WORDS.read_text("utf-8"))
    return words["cell"] if cells else {**words["cell"], **words["text"]}


def _texts(english: str) -> Iterator[str]:
    for block in english.strip().split("\n\n"):
        if block.startswith("| #"):
            yield from (_cells(line)[1] for line in block.splitlines()[2:])
        elif block.startswith("- "):
            yield from block.splitlines()
        elif not block.startswith("| "):
            yield _whole(block)


def _block(block: str, texts: dict[str, str]) -> str:
    if block.startswith("| "):
        return "\n".join(_line(line, texts) for line in block.splitlines())
    if block.startswith("- "):
        return "\n".join(texts.get(line, line) for line in block.splitlines())
    return texts.get(_whole(block), block)


def _whole(block: str) -> str:
    return " ".join(block.split())


def _line(line: str, texts: dict[str, str]) -> str:
    cells = [texts.get(cell, cell) for cell in _cells(line)]
    return f"| {' | '.join(cell.replace(LAST, '，') for cell in cells)} |"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
