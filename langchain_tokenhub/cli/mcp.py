"""`tokenhub mcp`."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Any

from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.cli.exit_codes import UsageError
from langchain_tokenhub.cli.parser import (
    Parser,
    add_connection,
    add_folder,
    connection,
)

TOKEN = "TOKENHUB_MCP_TOKEN"  # noqa: S105 - the name of a variable
PORT = 8765


def add_mcp(parser: Parser) -> None:
    """Add the options of `tokenhub mcp`."""
    translate = parser.translate
    parser.add_argument("-m", "--model", action="append", metavar="ID", help=translate("mcp-model"))
    add_folder(parser)
    allow = translate("mcp-allow")
    parser.add_argument(
        "--allow-files", type=Path, action="append", default=[], metavar="FOLDER", help=allow
    )
    parser.add_argument("--ledger", metavar="LOCATION", help=translate("mcp-ledger"))
    approve = translate("mcp-approve")
    parser.add_argument("--approve-above", type=float, metavar="CNY", help=approve)
    parser.add_argument("--http", action="store_true", help=translate("mcp-http", name=TOKEN))
    parser.add_argument("--host", default="127.0.0.1", help=translate("mcp-host"))
    parser.add_argument("--port", type=_port, default=PORT, help=translate("mcp-port"))
    add_connection(parser)
    parser.set_defaults(run=run, json=False)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def run(options: argparse.Namespace, console: Console) -> int:
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
        console.write_message(translate("mcp-on", url=f"http://{options.host}:{options.port}/mcp"))
        made.run("http", host=options.host, port=options.port, **log)
    else:
        made.run("stdio", **log)
    return 0
