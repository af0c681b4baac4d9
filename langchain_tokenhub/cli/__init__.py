"""The command `tokenhub`: the package's public classes from a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from langchain_tokenhub.cli import chat, emulator, exit_codes, jobs, media
from langchain_tokenhub.cli.console import (
    Console,
    Words,
    configure_streams,
    decode_argument,
    language_of,
    show_warnings,
)
from langchain_tokenhub.cli.parser import Add, build
from langchain_tokenhub.errors import TokenHubError

_BROKEN_PIPE = 141
"""What a shell says of a program that wrote into a closed pipe."""
COMMANDS: dict[str, Add] = {
    "image": media.adder("image"),
    "video": media.adder("video"),
    "3d": media.adder("3d"),
    "chat": chat.add_chat,
    "jobs": jobs.add_jobs,
    "resume": media.add_resume,
    "gallery": emulator.add_gallery,
    "models": jobs.add_models,
    "emulator": emulator.add_emulator,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without the program's name; None is this process's.

    Returns:
        The exit code; the help lists them.
    """
    configure_streams()
    given = [
        decode_argument(argument) for argument in (sys.argv[1:] if arguments is None else arguments)
    ]
    words = Words(language_of(given, os.environ))
    parser = build(COMMANDS, words, given)
    options = parser.parse_args(given)
    if options.run is None:
        parser.print_help()
        return exit_codes.WRONG_USE
    quiet = getattr(options, "quiet", False)
    console = Console(words, as_json=options.json, quiet=quiet)
    try:
        with show_warnings(console):
            return _run(options, console)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit
        return _BROKEN_PIPE


def _run(options: object, console: Console) -> int:
    try:
        code: int = options.run(options, console)  # type: ignore[attr-defined]  # set by `add`
        console.flush()
    except TokenHubError as error:
        return exit_codes.failed(console, error, options)
    except ValidationError as error:
        return exit_codes.invalid(console, error)
    except exit_codes.UsageError as error:
        return exit_codes.told(console, "UsageError", str(error), exit_codes.WRONG_USE)
    except BrokenPipeError:
        raise
    except OSError as error:
        text = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        return exit_codes.told(console, "OSError", text, 1)
    except UnicodeError:
        console.note(f"tokenhub: {console.words('locale')}")
        return 1
    except KeyboardInterrupt:
        console.note(f"tokenhub: {console.words('stopped')}")
        return exit_codes.INTERRUPTED
    return code
