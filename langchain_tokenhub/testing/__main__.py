"""`python -m langchain_tokenhub.testing`, which shares its options with `tokenhub emulator`."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_tokenhub.testing.server import Emulator
    from langchain_tokenhub.testing.state import Latency

_HELP = {
    "host": "address to listen on; default 127.0.0.1",
    "port": "port; 0, the default, takes a free one",
    "speed": "divides every wait; default 1; at 0 jobs do not advance",
    "emulator-seed": "same seed and requests, same answers; default 0",
    "emulator-key": "the only accepted API key; repeatable; default: nearly any",
    "era": "errors and spellings of today's service, or of the guide of April 2026",
    "latency": "real seconds before every answer, or from-to as in 0.1-0.5",
    "rpm": "chat requests a minute per key and model",
    "tpm": "tokens a minute per key and model",
    "no-quotas": "let any number of jobs run at once",
}
_SETTINGS = ["host", "port", "speed", "seed", "api_key", "quotas", "rpm", "tpm", "latency", "era"]


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C; the first line on stdout is the base URL."""
    parser = argparse.ArgumentParser(
        prog="python -m langchain_tokenhub.testing",
        description="A TokenHub on this machine. Prints its base URL.",
    )
    add_options(parser, _HELP.__getitem__)
    options = parser.parse_args(arguments)

    def announce(url: str) -> None:
        sys.stderr.write(f"{export_line(options, url)}\nCtrl-C stops it.\n")
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    try:
        serve(make_emulator(options), announce)
    except (ImportError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def add_options(parser: argparse.ArgumentParser, help_of: Callable[[str], str]) -> None:
    """Add the options; `help_of` returns the help of each by its name."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help=help_of("host"))
    add("--port", type=_port, default=0, help=help_of("port"))
    add("--speed", type=_positive, default=1.0, help=help_of("speed"))
    add("--seed", type=int, default=0, metavar="INT", help=help_of("emulator-seed"))
    add("--key", dest="api_key", action="append", metavar="KEY", help=help_of("emulator-key"))
    add("--era", choices=("today", "guide"), default="today", help=help_of("era"))
    add("--latency", type=_latency, default=0.0, metavar="S[-S]", help=help_of("latency"))
    add("--rpm", type=_count, metavar="INT", help=help_of("rpm"))
    add("--tpm", type=_count, metavar="INT", help=help_of("tpm"))
    add("--no-quotas", dest="quotas", action="store_false", help=help_of("no-quotas"))


def make_emulator(options: argparse.Namespace) -> Emulator:
    """Create the emulator that the options describe."""
    from langchain_tokenhub.testing import Emulator

    return Emulator(**{name: getattr(options, name) for name in _SETTINGS})


def export_line(options: argparse.Namespace, url: str) -> str:
    """Return the shell line that sets the environment variables of clients."""
    key = options.api_key[0] if options.api_key else "emulator"
    return f"export TOKENHUB_BASE_URL={url} TOKENHUB_API_KEY={key}"


def serve(hub: Emulator, announce: Callable[[str], None]) -> None:
    """Run an emulator until Ctrl-C; `announce` is called with its address."""
    with suppress(KeyboardInterrupt), hub:
        announce(hub.url)
        threading.Event().wait()


def _number(convert: Callable[[str], Any], most: float, what: str) -> Callable[[str], Any]:
    """Return a function that reads a number from 0 to `most`."""

    def read(text: str) -> Any:
        with suppress(ValueError):
            if 0 <= (value := convert(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what}")

    return read


_port = _number(int, 65535, "port: 0 to 65535")
_count = _number(int, sys.maxsize, "whole number")
_positive = _number(float, sys.float_info.max, "number of 0 or more")


def _latency(text: str) -> Latency:
    least, dash, most = text.partition("-")
    return (_positive(least), _positive(most)) if dash else _positive(least)


if __name__ == "__main__":
    main()
