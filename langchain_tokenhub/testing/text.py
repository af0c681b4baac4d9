"""Counting and cutting text: the emulator's idea of a token."""

from __future__ import annotations

import re

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_PIECE = re.compile(
    rf"[{_CJK}]{{1,2}}|(?:(?![{_CJK}])\w){{1,8}} ?|(?:(?![{_CJK}])[^\w\s]){{1,4}} ?|\s+"
)
_HAN = re.compile(rf"[{_CJK}]")


def pieces(text: str) -> list[str]:
    """Cut text into what one delta carries; one piece counts as one token."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """Count tokens."""
    return sum(1 for _ in _PIECE.finditer(text))


def is_chinese(text: str) -> bool:
    """Tell whether to answer in Chinese."""
    return bool(_HAN.search(text))


def clip(text: str, stop: list[str]) -> str:
    """Cut before the first stop sequence."""
    found = [at for word in stop if word and (at := text.find(word)) >= 0]
    return text[: min(found)] if found else text
