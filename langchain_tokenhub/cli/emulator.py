"""`tokenhub emulator`."""

from __future__ import annotations

import argparse

from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.cli.exit_codes import UsageError
from langchain_tokenhub.cli.parser import Parser, add_output


def add_emulator(parser: Parser) -> None:
    """Add the options of `tokenhub emulator`."""
    from langchain_tokenhub.testing.__main__ import add_options

    add_options(parser, parser.translate)
    add_output(parser)
    parser.set_defaults(run=emulate)


def emulate(options: argparse.Namespace, console: Console) -> int:
    """Run the emulator until Ctrl-C."""
    from langchain_tokenhub.testing.__main__ import exports, make_emulator, serve

    def announce(url: str) -> None:
        if console.as_json:
            console.write_json({"url": url})
        else:
            console.write_message(console.translate("emulator-on"))
            console.write_line(exports(options, url))

    try:
        hub = make_emulator(options)
    except ImportError:
        raise UsageError(console.translate("emulator-missing")) from None
    serve(hub, announce)
    return 0
