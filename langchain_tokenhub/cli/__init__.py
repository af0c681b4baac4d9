"""The command `tokenhub`: the package's public classes from a terminal."""

from __future__ import annotations

import functools
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from pydantic import ValidationError

from langchain_tokenhub.cli import bulk, chat, lists, media, servers
from langchain_tokenhub.cli.console import (
    INTERRUPTED,
    USAGE_ERROR,
    Console,
    UsageError,
    configure_streams,
    decode_argument,
    report_error,
    show_warnings,
)
from langchain_tokenhub.cli.messages import Translator
from langchain_tokenhub.cli.parser import KINDS, AddOptions, language_of, parse
from langchain_tokenhub.errors import TokenHubError

_BROKEN_PIPE = 141
"""Exit code of a program that wrote into a closed pipe."""
COMMANDS: dict[str, AddOptions] = {
    **{kind: functools.partial(media.add_media, kind) for kind in KINDS},
    "bulk": bulk.add_bulk,
    "chat": chat.add_chat,
    "jobs": lists.add_jobs,
    "resume": media.add_resume,
    "gallery": lists.add_gallery,
    "models": lists.add_models,
    "emulator": servers.add_emulator,
    "mcp": servers.add_mcp,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without the program's name; None is this process's.

    Returns:
        The exit code; the help lists them.
    """
    configure_streams()
    # the command itself prints what is logged for programs
    logging.getLogger("langchain_tokenhub").addHandler(logging.NullHandler())
    given = [decode_argument(one) for one in (sys.argv[1:] if arguments is None else arguments)]
    translate = Translator(language_of(given, os.environ))
    options = parse(COMMANDS, translate, given)
    if options.run is None:
        options.parser.print_help()
        return USAGE_ERROR
    quiet = getattr(options, "quiet", False)
    console = Console(translate, as_json=options.json, quiet=quiet)
    try:
        with show_warnings(console):
            return _run(options, console)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit
        return _BROKEN_PIPE


def _run(options: Namespace, console: Console) -> int:
    try:
        code: int = options.run(options, console)
    except BrokenPipeError:
        raise
    except (TokenHubError, ValidationError, UsageError, OSError) as problem:
        return report_error(console, problem, options)
    except UnicodeError:
        console.write_message(f"tokenhub: {console.translate('locale')}")
        return 1
    except KeyboardInterrupt:
        console.write_message(f"tokenhub: {console.translate('stopped')}")
        return INTERRUPTED
    return code
