"""The emulator's options on a command line: `python -m` and `tokenhub emulator` share them."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from langchain_tokenhub.testing.errors import ERAS

if TYPE_CHECKING:
    from langchain_tokenhub.testing.server import Emulator
    from langchain_tokenhub.testing.state import Latency


def add_options(parser: argparse.ArgumentParser, words: Callable[[str], str]) -> None:
    """Add them all; `words` gives the help of each by its name."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help=words("host"))
    add("--port", type=_port, default=0, help=words("port"))
    add("--speed", type=_positive, default=1.0, help=words("speed"))
    add("--seed", type=int, default=0, metavar="INT", help=words("emulator-seed"))
    add("--key", action="append", metavar="KEY", help=words("emulator-key"))
    add("--era", choices=ERAS, default="today", help=words("era"))
    add("--latency", type=_latency, default=0.0, metavar="S[-S]", help=words("latency"))
    add("--rpm", type=_count, metavar="INT", help=words("rpm"))
    add("--tpm", type=_count, metavar="INT", help=words("tpm"))
    add("--no-quotas", dest="quotas", action="store_false", help=words("no-quotas"))


def emulator(options: argparse.Namespace) -> Emulator:
    """Make the emulator that the options describe.

    Raises:
        ImportError: Without the extra `emulator`.
    """
    from langchain_tokenhub.testing import Emulator

    return Emulator(
        host=options.host,
        port=options.port,
        speed=options.speed,
        seed=options.seed,
        api_key=options.key,
        quotas=options.quotas,
        rpm=options.rpm,
        tpm=options.tpm,
        latency=options.latency,
        era=options.era,
    )


def exports(options: argparse.Namespace, url: str) -> str:
    """Return the line for a shell that sends clients to an emulator."""
    key = options.key[0] if options.key else "emulator"
    return f"export TOKENHUB_BASE_URL={url} TOKENHUB_API_KEY={key}"


def serve(hub: Emulator, announce: Callable[[str], None]) -> None:
    """Run an emulator until Ctrl-C; `announce` is told its address.

    Raises:
        OSError: When the port is taken.
    """
    with suppress(KeyboardInterrupt), hub:
        announce(hub.url)
        threading.Event().wait()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return value


def _latency(text: str) -> Latency:
    least, dash, most = text.partition("-")
    return (_positive(least), _positive(most)) if dash else _positive(least)
