"""`tokenhub gallery`."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.cli.parser import FOLDER, Parser, add_output
from langchain_tokenhub.gallery import write_gallery


def add_gallery(parser: Parser) -> None:
    """Add the options of `tokenhub gallery`."""
    translate = parser.translate
    text = translate("folder", default=f"./{FOLDER}")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, metavar="FOLDER", help=text)
    parser.add_argument("--title", metavar="TEXT", help=translate("title"))
    parser.add_argument("--force", action="store_true", help=translate("force"))
    parser.add_argument("--open", action="store_true", help=translate("open"))
    add_output(parser)
    parser.set_defaults(run=write_page)


def write_page(options: argparse.Namespace, console: Console) -> int:
    """Write the page, and open it if asked."""
    page, count = write_gallery(
        options.folder,
        title=options.title,
        language=console.translate.language,
        replace=options.force,
    )
    if console.as_json:
        console.write_json({"page": str(page), "results": count})
    else:
        console.write_line(str(page))
        console.write_message(console.translate("page", count=count, page=page.resolve().as_uri()))
    if options.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
