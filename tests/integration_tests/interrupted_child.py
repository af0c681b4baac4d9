"""A process that is interrupted with Ctrl-C in the middle of a paid call, and tells what it knows.

python interrupted_child.py FACE FOLDER GRACE [tell]

An interrupted submit is waited for up to GRACE seconds. With `tell` it stands still, after a line
on stdout, while progress is told. When it is interrupted it prints the notes of the exception, and
of those behind it, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from langchain_tokenhub import TokenHubVideoTool
from langchain_tokenhub.transport import runtime


def stand_still(_job):
    sys.stdout.write("here\n")
    sys.stdout.flush()
    time.sleep(1)  # in asyncio, the first Ctrl-C waits for it


def notes(error):
    """Return the notes of an exception and of what it came from."""
    if error is None:
        return []
    return [*getattr(error, "__notes__", []), *notes(error.__context__)]


def main(face, folder, grace, *more):
    runtime.INTERRUPT_GRACE = float(grace)
    tool = TokenHubVideoTool(
        save_to=Path(folder) / "out",
        ledger=Path(folder) / "ledger",
        progress=stand_still if more else None,
    )
    try:
        if face == "sync":
            tool.generate(prompt="猫")
        else:
            asyncio.run(tool.agenerate(prompt="猫"))
    except KeyboardInterrupt as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.write(json.dumps(notes(stopped)))


if __name__ == "__main__":
    main(*sys.argv[1:])
