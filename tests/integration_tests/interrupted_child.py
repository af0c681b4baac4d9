"""Processes that are interrupted with Ctrl-C in the middle of a paid call.

Each is a fork of this process, made for a line of JSON on stdin: [URL, FACE, FOLDER, GRACE, STILL].
Its PID is printed at once, and "ended" when it has ended.

An interrupted submit is waited for up to GRACE seconds. With STILL, the process stands still while
progress is reported, and makes FOLDER/still. When it is interrupted it writes the notes of the
exception, and of those behind it, to FOLDER/notes. FOLDER/log is its stderr.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

from langchain_tokenhub import TokenHubVideoTool
from langchain_tokenhub.transport import runtime


def stand_still(folder, _job):
    (folder / "still").touch()
    time.sleep(1)  # in asyncio, the first Ctrl-C waits for it


def notes(error):
    """Return the notes of an exception and of what it came from."""
    if error is None:
        return []
    return [*getattr(error, "__notes__", []), *notes(error.__context__)]


def make_call(url, face, folder, grace, is_still):
    os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    runtime.INTERRUPT_GRACE = grace
    progress = functools.partial(stand_still, folder) if is_still else None
    places = {"save_to": folder / "out", "ledger": folder / "ledger"}
    tool = TokenHubVideoTool(base_url=url, api_key="any", progress=progress, **places)
    try:
        if face == "sync":
            tool.generate(prompt="猫")
        else:
            asyncio.run(tool.agenerate(prompt="猫"))
    except KeyboardInterrupt as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        (folder / "notes").write_text(json.dumps(notes(stopped)), "utf-8")


if __name__ == "__main__":
    TokenHubVideoTool(ledger="unused")  # imports what the forks need
    for line in sys.stdin:
        url, face, folder, grace, is_still = json.loads(line)
        if (child := os.fork()) == 0:
            make_call(url, face, Path(folder), grace, is_still)
            sys.exit()
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
