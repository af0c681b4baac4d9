"""The command `tokenhub`: the package's public classes from a terminal."""

from __future__ import annotations

import functools
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from pydantic import ValidationError

from langchain_tokenhub.cli import (
    bulk,
    chat,
    emulator,
    exit_codes,
    gallery,
    jobs,
    mcp,
    media,
    models,
)
from langchain_tokenhub.cli.console import (
    Console,
    Translator,
    configure_streams,
    decode_argument,
    language_of,
    show_warnings,
)
from langchain_tokenhub.cli.parser import KINDS, AddOptions, parse
from langchain_tokenhub.errors import TokenHubError

_BROKEN_PIPE = 141
"""Exit code of a program that wrote into a closed pipe."""
COMMANDS: dict[str, AddOptions] = {
    **{kind: functools.partial(media.add_media, kind) for kind in KINDS},
    "bulk": bulk.add_bulk,
    "chat": chat.add_chat,
    "jobs": jobs.add_jobs,
    "resume": media.add_resume,
    "gallery": gallery.add_gallery,
    "models": models.add_models,
    "emulator": emulator.add_emulator,
    "mcp": mcp.add_mcp,
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
        return exit_codes.USAGE_ERROR
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
    except TokenHubError as error:
        return exit_codes.report_error(console, error, options)
    except ValidationError as error:
        return exit_codes.report_invalid(console, error)
    except exit_codes.UsageError as error:
        return exit_codes.report(console, "UsageError", str(error), exit_codes.USAGE_ERROR)
    except BrokenPipeError:
        raise
    except OSError as error:
        named = "" if error.filename is None else f": {error.filename!r}"
        text = f"{error.strerror or error}{named}"
        return exit_codes.report(console, "OSError", text, 1)
    except UnicodeError:
        console.write_message(f"tokenhub: {console.translate('locale')}")
        return 1
    except KeyboardInterrupt:
        console.write_message(f"tokenhub: {console.translate('stopped')}")
        return exit_codes.INTERRUPTED
    return code
