"""`tokenhub emulator` and `mcp`: commands that run a server until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import socket
from typing import Any

from langchain_tokenhub.cli.console import Console, UsageError
from langchain_tokenhub.cli.parser import (
    Parser,
    connection,
)

TOKEN = "TOKENHUB_MCP_TOKEN"  # noqa: S105 - the name of a variable


def add_emulator(parser: Parser) -> None:
    """Add the options of `tokenhub emulator`."""
    from langchain_tokenhub.testing.__main__ import add_options

    add_options(parser, parser.translate)
    parser.add_output()
    parser.set_defaults(run=serve_emulator)


def serve_emulator(options: argparse.Namespace, console: Console) -> int:
    """Run the emulator until Ctrl-C."""
    from langchain_tokenhub.testing.__main__ import export_line, make_emulator, serve

    def announce(url: str) -> None:
        if console.as_json:
            console.write_json({"url": url})
        else:
            console.write_text("emulator-on")
            console.write_line(export_line(options, url))

    try:
        hub = make_emulator(options)
    except ImportError:
        raise UsageError(console.translate("emulator-missing")) from None
    serve(hub, announce)
    return 0


def add_mcp(parser: Parser) -> None:
    """Add the options of `tokenhub mcp`."""
    add, http = parser.add, parser.translate("mcp-http", name=TOKEN)
    add("-m", "--model", action="append", metavar="ID", text="mcp-model")
    parser.add_folder("-o", "--save-to", text="mcp-save-to")
    parser.add_folder("--allow-files", text="mcp-allow", action="append", default=[])
    add("--ledger", metavar="LOCATION", text="mcp-ledger")
    add("--approve-above", type=float, metavar="CNY", text="mcp-approve")
    parser.add_argument("--http", action="store_true", help=http)
    add("--host", default="127.0.0.1", text="mcp-host")
    add("--port", type=_port, default=8765, text="mcp-port")
    parser.add_connection()
    parser.set_defaults(run=serve_mcp, json=False)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def serve_mcp(options: argparse.Namespace, console: Console) -> int:
    """Run the server, on standard input and output or over HTTP, until Ctrl-C."""
    translate = console.translate
    try:
        from langchain_tokenhub.mcp import server
    except ImportError:
        raise UsageError(translate("mcp-missing")) from None
    from langchain_tokenhub.tools.toolkit import TokenHubToolkit

    token = os.environ.get(TOKEN, "") if options.http else ""
    if options.http and not token:
        raise UsageError(translate("mcp-token", name=TOKEN))
    models = {"models": options.model} if options.model else {}
    toolkit = TokenHubToolkit(
        save_to=options.save_to,
        allow_local_files=options.allow_files,
        ledger=options.ledger,
        **models,
        **connection(options),
    )
    try:
        made = server(toolkit, approve_above=options.approve_above, token=token or None)
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    log: dict[str, Any] = {"show_banner": False, "log_level": "warning"}
    if options.http:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        # uvicorn logs that a port is in use, and raises nothing
        socket.create_server((options.host, options.port), family=family).close()
        console.write_text("mcp-on", url=f"http://{options.host}:{options.port}/mcp")
        made.run("http", host=options.host, port=options.port, **log)
    else:
        made.run("stdio", **log)
    return 0
