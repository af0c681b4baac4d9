"""The package's messages in Chinese, as `messages_zh.toml` holds them."""

from __future__ import annotations

import functools
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_QUOTED = re.compile(r"""(?<![\w'"])(['"])(?:\\.|(?!\1)[^\\\n])*\1(?![\w'"])""")
"""A value in quotes."""
_MASKED = {ord(char): 0xE000 + number for number, char in enumerate(" ;:,.(")}
"""Characters of quoted values that must not be read as punctuation of a message."""
_UNMASKED = {private: char for char, private in _MASKED.items()}
_BILINGUAL = re.compile(
    r"(.*?\bHTTP \d+ [^\s:]+: |)[^\n]*? / (?=[^\n/]*[\u3400-\u9fff])", re.DOTALL
)
"""The English half of `English / 中文`, after the status and code of an answer."""
_SLOT = re.compile(r"((?<![\x00-\x7f]) )?\{(\d?)\}( (?![\x00-\x7f]))?")
"""Where a value goes in a Chinese text, with the spaces around a word that is not Chinese."""
_LETTERS = re.compile("[A-Za-z]")


@dataclass(frozen=True)
class _Row:
    """A message whose values are left open."""

    literals: tuple[str, ...]
    pattern: re.Pattern[str]
    chinese: str

    def values_in(self, text: str) -> tuple[str, ...] | None:
        """Return the values of this message in `text`, or None if it is another message."""
        if not all(literal in text for literal in self.literals):
            return None
        found = self.pattern.fullmatch(text)
        return found and found.groups()

    def filled(self, values: list[str]) -> str:
        """Return the Chinese text with `values`."""
        following = iter(values)

        def value_of(slot: re.Match[str]) -> str:
            value = values[int(slot[2])] if slot[2] else next(following)
            before = " " if slot[1] and value[:1].isascii() else ""
            after = " " if slot[3] and value[-1:].isascii() else ""
            return f"{before}{value}{after}"

        return _SLOT.sub(value_of, self.chinese)


def to_chinese(message: str) -> str:
    """Return a message in Chinese, as far as its parts are known."""
    text = _BILINGUAL.sub(r"\1", _mask(message), count=1)
    with suppress(RecursionError):  # it joins hundreds of parts
        text = "\n".join(map(_translated, text.split("\n")))
    return text.translate(_UNMASKED)


@functools.lru_cache(maxsize=1024)
def _translated(text: str) -> str:
    """Return the reading of `text` that leaves the fewest letters untranslated."""
    best, fewest = text, len(_LETTERS.findall(text))
    for row in _rows():
        if (values := row.values_in(text)) is None:
            continue
        parts = [_translated(value) for value in values]
        left = sum(len(_LETTERS.findall(part)) for part in parts)
        if left < fewest:
            best, fewest = row.filled(parts), left
    return best


@functools.cache
def _rows() -> list[_Row]:
    """Return the ways to join messages, then the messages, the most exact first."""
    table = tomllib.loads(Path(__file__).with_name("messages_zh.toml").read_text("utf-8"))
    joins = [_row(*texts) for texts in table.pop("joins").items()]
    rows = [_row(*texts) for part in table.values() for texts in part.items()]
    return joins + sorted(rows, key=lambda row: -sum(map(len, row.literals)))


def _row(english: str, chinese: str) -> _Row:
    literals = _mask(english).split("{}")
    # "or" and "to" occur between any other words
    slot = r"(\S*?)" if 0 < len(_LETTERS.findall(english)) < 4 else "(.*?)"
    pattern = re.compile(slot.join(map(re.escape, literals)))
    return _Row(tuple(filter(None, literals)), pattern, _mask(chinese))


def _mask(text: str) -> str:
    return _QUOTED.sub(lambda found: found.group().translate(_MASKED), text)
