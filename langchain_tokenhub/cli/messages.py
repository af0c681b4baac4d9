"""The texts of the command in two languages, and the package's messages in Chinese."""

from __future__ import annotations

import functools
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Language = Literal["zh", "en"]
_QUOTED = re.compile(r"""(?<![\w'"])(['"])(?:\\.|(?!\1)[^\\\n])*\1(?![\w'"])""")
"""A value in quotes."""
_MASK = {ord(char): 0xE000 + number for number, char in enumerate(" ;:,.(")}
"""Characters of quoted values that must not be read as punctuation of a message."""
_UNMASK = {private: char for char, private in _MASK.items()}
_BILINGUAL = re.compile(
    r"(.*?\bHTTP \d+ [^\s:]+: |)[^\n]*? / (?=[^\n/]*[\u3400-\u9fff])", re.DOTALL
)
"""The English half of `English / 中文`, after the status and code of an answer."""
_SLOT = re.compile(r"((?<![\x00-\x7f]) )?\{(\d?)\}( (?![\x00-\x7f]))?")
"""Where a value goes in a Chinese text, with the spaces around a word that is not Chinese."""
_LETTERS = re.compile("[A-Za-z]")


class Translator:
    """The texts of translations.toml in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return the text called `name`, with `values` filled in."""
        text = texts()[name][self.language]
        return text.format(**values) if values else text

    def message(self, text: str) -> str:
        """Return a message of the package, or of a library, in this language."""
        return to_chinese(text) if self.language == "zh" else text

    def hint(self, text: str) -> str:
        """Return a hint, which may be `English / 中文`, in this language."""
        english = re.split(r" / (?=[\u4e00-\u9fff])", text, maxsplit=1)[0]
        return to_chinese(text) if self.language == "zh" else english


@functools.cache
def texts() -> dict[str, dict[str, str]]:
    """Return the texts of translations.toml, by name and language."""
    return tomllib.loads(Path(__file__).with_name("translations.toml").read_text("utf-8"))


@dataclass(frozen=True)
class _Template:
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

    def fill(self, values: list[str]) -> str:
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
    with suppress(RecursionError):  # a message of hundreds of parts recurses too deeply
        text = "\n".join(map(_translate, text.split("\n")))
    return text.translate(_UNMASK)


@functools.lru_cache(maxsize=1024)
def _translate(text: str) -> str:
    """Return the translation of `text` that leaves the fewest letters untranslated."""
    best, fewest = text, len(_LETTERS.findall(text))
    for template in _templates():
        if (values := template.values_in(text)) is None:
            continue
        parts = [_translate(value) for value in values]
        left = sum(len(_LETTERS.findall(part)) for part in parts)
        if left < fewest:
            best, fewest = template.fill(parts), left
    return best


@functools.cache
def _templates() -> list[_Template]:
    """Return the ways to join messages, then the messages, the most exact first."""
    table = tomllib.loads(Path(__file__).with_name("messages_zh.toml").read_text("utf-8"))
    joins = [_make_template(*texts) for texts in table.pop("joins").items()]
    templates = [_make_template(*texts) for part in table.values() for texts in part.items()]
    return joins + sorted(templates, key=lambda template: -sum(map(len, template.literals)))


def _make_template(english: str, chinese: str) -> _Template:
    literals = _mask(english).split("{}")
    # a text as short as "or" would match inside any message
    slot = r"(\S*?)" if 0 < len(_LETTERS.findall(english)) < 4 else "(.*?)"
    pattern = re.compile(slot.join(map(re.escape, literals)))
    return _Template(tuple(filter(None, literals)), pattern, _mask(chinese))


def _mask(text: str) -> str:
    return _QUOTED.sub(lambda found: found.group().translate(_MASK), text)
