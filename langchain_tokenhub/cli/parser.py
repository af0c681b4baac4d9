"""The argument parser, and the language of the user."""

from __future__ import annotations

import argparse
import difflib
import functools
import locale
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from langchain_tokenhub._version import __version__
from langchain_tokenhub.catalogue import SITE_NAMES, Kind
from langchain_tokenhub.cli.console import wrap_text
from langchain_tokenhub.cli.messages import Language, Translator
from langchain_tokenhub.jobs.live_lines import display_width

FOLDER = Path("tokenhub-out")
"""Default folder for results."""
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
KINDS: tuple[Kind, ...] = get_args(Kind)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps lines by display width: Chinese has no spaces, and its characters are twice as wide."""

    def __init__(self, translate: Translator, prog: str, **settings: Any) -> None:
        prefix = translate("usage")  # whose width argparse takes for its length
        width = shutil.get_terminal_size().columns - 2 - display_width(prefix) + len(prefix)
        super().__init__(prog, **{**settings, "max_help_position": 28, "width": width})
        self._translate = translate

    def format_help(self) -> str:
        """Return the help, with Chinese colons after Chinese headings."""
        return re.sub(r"(?<=[\u4e00-\u9fff]):$", "：", super().format_help(), flags=re.MULTILINE)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap_text(text, width)

    def add_usage(
        self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None
    ) -> None:
        prefix = self._translate("usage") if prefix is None else prefix
        super().add_usage(usage, actions, groups, prefix)


class Parser(argparse.ArgumentParser):
    """A parser with translated texts; options cannot be abbreviated."""

    arguments: Sequence[str] = ()
    """The whole command line."""

    def __init__(self, translate: Translator, **settings: Any) -> None:
        formatter: Any = functools.partial(_Formatter, translate)
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=formatter, **settings)
        self.translate = translate
        self._optionals.title = translate("options")
        self._positionals.title = translate("parameters", model=self.prog)
        self.add("-h", "--help", action="help")
        self.add("--lang", choices=get_args(Language))

    def add(self, *names: str, text: str | None = None, **settings: Any) -> None:
        """Add an argument whose help is the text of that name, by default of its last name."""
        self.add_argument(*names, help=self.translate(text or names[-1].strip("-")), **settings)

    def add_folder(self, *names: str, text: str, **settings: Any) -> None:
        """Add an argument for a folder."""
        help_ = self.translate(text, default=f"./{FOLDER}")
        self.add_argument(*names, type=Path, metavar="FOLDER", help=help_, **settings)

    def add_output(self) -> None:
        """Add the option for JSON output."""
        self.add("--json", action="store_true")

    def add_wait(self) -> None:
        """Add the options of commands that wait for jobs."""
        self.add_output()
        self.add("-q", "--quiet", action="store_true")
        self.add("--wait-timeout", type=float, metavar="SECONDS")

    def add_connection(self) -> None:
        """Add the connection fields, except the key: other users can read command lines."""
        translate = self.translate
        add = self.add_argument_group(translate("connection")).add_argument
        add("--site", metavar="SITE", help=translate("site", names=", ".join(SITE_NAMES)))
        add("--base-url", metavar="URL", action="append", help=translate("base-url"))
        add("--timeout", type=float, metavar="SECONDS", help=translate("timeout"))
        add("--max-retries", type=int, metavar="N", help=translate("max-retries"))

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit."""
        self.print_usage(sys.stderr)
        text = self.translate("error", text=self.translate.message(message))
        self.exit(2, f"{self.prog}: {text}\n")

    def reject(self, unknown: Sequence[str]) -> None:
        """Exit because of `unknown` arguments, and name the nearest options."""
        hints = (
            self._hint(name.partition("=")[0], self._option_string_actions) for name in unknown
        )
        self.error(self.translate("unknown-arguments", names=" ".join(unknown)) + "".join(hints))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += self._hint(str(value), map(str, action.choices or ()))
            raise

    def _hint(self, name: str, known: Iterable[str]) -> str:
        near = difflib.get_close_matches(name, list(known), n=1)
        return self.translate("did-you-mean", name=near[0]) if near else ""


AddOptions = Callable[[Parser], None]
"""Adds the options of a command; they may depend on the model that `arguments` name."""


def parse(
    commands: Mapping[str, AddOptions], translate: Translator, arguments: Sequence[str]
) -> argparse.Namespace:
    """Return the options; without a command, their `run` prints the help.

    Only the command in `arguments` gets its options, so that the others are not imported.
    """
    parser = Parser(
        translate,
        prog="tokenhub",
        description=translate("about"),
        epilog=translate("epilog").strip(),
    )
    parser.add("--version", action="version", version=f"tokenhub {__version__}")
    parser.set_defaults(run=None, parser=parser)
    make_parser: Any = functools.partial(Parser, translate)
    subparsers = parser.add_subparsers(
        title=translate("commands"), metavar="COMMAND", dest="command", parser_class=make_parser
    )
    for name, add_options in commands.items():
        command = subparsers.add_parser(name, help=translate(name), description=translate(name))
        command.set_defaults(parser=command)
        if name in arguments:
            command.arguments = arguments
            add_options(command)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.reject(unknown)
    return options


def connection(options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Return the connection fields, and `more` fields, that are on the command line."""
    names = ("site", "base_url", "timeout", "max_retries", *more)
    given = vars(options).items()
    return {name: value for name, value in given if name in names and value is not None}


def language_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Language:
    """Return the language of `--lang`, else of the locale."""
    named = argument_after(arguments, "--lang")
    if named not in get_args(Language):
        named = next((environment[name] for name in _VARIABLES if environment.get(name)), None)
    if named is None:  # on Windows
        named = locale.getlocale()[0] or ""
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"


def argument_after(arguments: Sequence[str], *options: str) -> str | None:
    """Return the value of an option that the parser itself depends on."""
    found = None
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = argument.partition("=")
        if name in options and (equals or following):
            found = value if equals else following
        elif argument[:2] in options:
            found = argument[2:]
    return found
