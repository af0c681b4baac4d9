"""What the command says, in Chinese and English."""

from __future__ import annotations

import functools
import locale
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Literal

Language = Literal["zh", "en"]
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


class Words:
    """The rows of words.toml in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return the text called `name`, its gaps filled."""
        text = _table()[name][self.language]
        return text.format(**values) if values else text


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    text = resources.files("langchain_tokenhub.cli").joinpath("words.toml").read_text("utf-8")
    return tomllib.loads(text)


def language_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Language:
    """Return the language to speak: as asked for, else the locale's."""
    asked = argument_after(arguments, "--lang")
    if asked in {"zh", "en"}:
        return "zh" if asked == "zh" else "en"
    named = next((environment[name] for name in _VARIABLES if environment.get(name)), None)
    if named is None:  # not on Windows
        named = locale.getlocale()[0] or ""
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"


def argument_after(arguments: Sequence[str], *options: str) -> str | None:
    """Return the value of an option, before the parser that depends on it exists."""
    found = None
    for here, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = here.partition("=")
        if name in options and (equals or following):
            found = value if equals else following
        elif here[:2] in options:
            found = here[2:]
    return found
