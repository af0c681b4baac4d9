"""`python -m langchain_tokenhub.testing`: the emulator by itself."""

from __future__ import annotations

import argparse
import sys

from langchain_tokenhub.testing import options

_WORDS = {
    "host": "address to listen on; default 127.0.0.1",
    "port": "port; 0, the default, takes a free one",
    "speed": "divides every wait; default 1; at 0 jobs stand still",
    "emulator-seed": "same seed and requests, same answers; default 0",
    "emulator-key": "the only good API key; may be given again; default: nearly any",
    "era": "whose error words: today's service or the guide of April 2026",
    "latency": "real seconds before every answer, or from-to as in 0.1-0.5",
    "rpm": "chat requests a minute per key and model",
    "tpm": "tokens a minute per key and model",
    "no-quotas": "let any number of jobs run at once",
}


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C; the first line on stdout is the base URL."""
    parser = argparse.ArgumentParser(
        prog="python -m langchain_tokenhub.testing",
        description="A TokenHub on this machine. Prints its base URL.",
    )
    options.add_options(parser, _WORDS.__getitem__)
    given = parser.parse_args(arguments)

    def announce(url: str) -> None:
        sys.stderr.write(f"{options.exports(given, url)}\nCtrl-C stops it.\n")
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    try:
        options.serve(options.emulator(given), announce)
    except (ImportError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
