"""`python -m langchain_tokenhub.testing`: the emulator by itself."""

from __future__ import annotations

import argparse
import sys
import threading
from contextlib import suppress

from langchain_tokenhub.testing import Emulator


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    options = _parser().parse_args(arguments)
    with Emulator(
        host=options.host,
        port=options.port,
        speed=options.speed,
        seed=options.seed,
        api_key=options.key,
        era=options.era,
    ) as hub:
        sys.stdout.write(f"{hub.url}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m langchain_tokenhub.testing",
        description="A TokenHub on this machine. Prints its base URL.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--speed", type=float, default=1.0, help="divides every wait")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", action="append", help="a good API key; default: nearly any")
    parser.add_argument("--era", choices=("today", "guide"), default="today")
    return parser


if __name__ == "__main__":
    main()
