"""The parser: one command each, in the language of the user."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_tokenhub._version import __version__
from langchain_tokenhub.catalogue import SITE_NAMES
from langchain_tokenhub.cli.console import Words, wrapped

FOLDER = Path("tokenhub-out")
"""Where results are saved unless told otherwise."""
Add = Callable[[argparse.ArgumentParser, Words, Sequence[str]], None]
"""Adds the options of one command; the arguments say which model, and so which parameters."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks lines by columns, because Chinese has no spaces and is twice as wide."""

    def __init__(self, words: Words, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{**settings, "max_help_position": 28})
        self._words = words

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width)

    def add_usage(
        self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None
    ) -> None:
        told = self._words("usage") if prefix is None else prefix
        super().add_usage(usage, actions, groups, told)


class Parser(argparse.ArgumentParser):
    """A parser with its own words; options are never shortened, so that new ones break nothing."""

    def __init__(self, words: Words, **settings: Any) -> None:
        formatter: Any = functools.partial(_Formatter, words)
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=formatter, **settings)
        self._optionals.title = words("options")
        self._positionals.title = words("parameters", model=self.prog)
        self.add_argument("-h", "--help", action="help", help=words("help"))
        self.add_argument("--lang", choices=("zh", "en"), help=words("lang"))


def build(commands: dict[str, Add], words: Words, arguments: Sequence[str]) -> Parser:
    """Return the parser; only the command in `arguments` has its options made."""
    parser = Parser(
        words, prog="tokenhub", description=words("about"), epilog=words("epilog").strip()
    )
    told = f"tokenhub {__version__}"
    parser.add_argument("--version", action="version", version=told, help=words("version"))
    parser.set_defaults(run=None)
    make: Any = functools.partial(Parser, words)
    places: Any = parser.add_subparsers(
        title=words("commands"), metavar="COMMAND", dest="command", parser_class=make
    )
    for name, add in commands.items():
        about = words(name)
        command = places.add_parser(name, help=about, description=about)
        if name in arguments:
            add(command, words, arguments)
    return parser


def add_output(parser: argparse.ArgumentParser, words: Words) -> None:
    """Add how results are printed."""
    parser.add_argument("--json", action="store_true", help=words("json"))


def add_connection(parser: argparse.ArgumentParser, words: Words) -> None:
    """Add where to connect. There is no option for the key: others could read it."""
    group = parser.add_argument_group(words("connection"))
    names = ", ".join(SITE_NAMES)
    group.add_argument("--site", metavar="SITE", help=words("site", names=names))
    group.add_argument("--base-url", metavar="URL", action="append", help=words("base-url"))
    group.add_argument("--timeout", type=float, metavar="SECONDS", help=words("timeout"))
    group.add_argument("--max-retries", type=int, metavar="N", help=words("max-retries"))


def add_folder(parser: argparse.ArgumentParser, words: Words) -> None:
    """Add where results are saved."""
    told = words("save-to", default=f"./{FOLDER}")
    parser.add_argument("-o", "--save-to", type=Path, metavar="FOLDER", help=told)


def connection(options: argparse.Namespace) -> dict[str, Any]:
    """Return the connection fields that were given."""
    names = ("site", "base_url", "timeout", "max_retries")
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}
