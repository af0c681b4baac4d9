"""`tokenhub emulator` and `tokenhub gallery`."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from langchain_tokenhub.cli.console import Console, Words
from langchain_tokenhub.cli.exit_codes import UsageError
from langchain_tokenhub.cli.parser import FOLDER, add_output
from langchain_tokenhub.gallery import fetch_previews, write_gallery


def add_emulator(parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]) -> None:
    """Add the options of `tokenhub emulator`."""
    from langchain_tokenhub.testing.__main__ import add_options

    del arguments
    add_options(parser, words)
    add_output(parser, words)
    parser.set_defaults(run=emulate)


def emulate(options: argparse.Namespace, console: Console) -> int:
    """Run the emulator until Ctrl-C."""
    from langchain_tokenhub.testing.__main__ import emulator, exports, serve

    def announce(url: str) -> None:
        if console.as_json:
            console.data({"url": url})
        else:
            console.note(console.words("emulator-on"))
            console.say(exports(options, url))
        console.flush()

    try:
        hub = emulator(options)
    except ImportError:
        raise UsageError(console.words("emulator-missing")) from None
    serve(hub, announce)
    return 0


def add_gallery(parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]) -> None:
    """Add the options of `tokenhub gallery`."""
    del arguments
    told = words("folder", default=f"./{FOLDER}")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, metavar="FOLDER", help=told)
    parser.add_argument("--title", metavar="TEXT", help=words("title"))
    parser.add_argument("--offline", action="store_true", help=words("offline"))
    parser.add_argument("--force", action="store_true", help=words("force"))
    parser.add_argument("--open", action="store_true", help=words("open"))
    add_output(parser, words)
    parser.set_defaults(run=show)


def show(options: argparse.Namespace, console: Console) -> int:
    """Write the page."""
    if not options.offline:
        fetch_previews(options.folder)
    title, language = options.title, console.words.language
    page, count = write_gallery(
        options.folder, title=title, language=language, replace=options.force
    )
    if console.as_json:
        console.data({"page": str(page), "results": count})
    else:
        console.say(str(page))
        console.note(console.words("page", count=count, page=page.resolve().as_uri()))
    if options.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
