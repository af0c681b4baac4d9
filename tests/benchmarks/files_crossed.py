"""Count which of our files a warm call enters: `python tests/benchmarks/files_crossed.py [-v]`.

A call that crosses many files is hard to follow. `invoke` is counted until its first byte leaves,
an image job from the call to the saved file; each is made once before, so that imports do not
count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import langchain_tokenhub
from langchain_tokenhub import ChatTokenHub, TokenHubImageTool
from langchain_tokenhub.testing import Emulator

ROOT = Path(langchain_tokenhub.__file__).parent


class Profile:
    """The files entered, in order, by all threads but the emulator's."""

    def __init__(self, until: str | None = None) -> None:
        self.files: list[str] = []
        self.changes = 0
        self._until = until
        self._last = ""
        self._stopped = False

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Record a call into a file of the package."""
        path = Path(frame.f_code.co_filename)
        if event != "call" or self._stopped or ROOT not in path.parents:
            return
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("testing/"):
            return
        if name not in self.files:
            self.files.append(name)
        self.changes += name != self._last
        self._last = name
        self._stopped = frame.f_code.co_qualname == self._until


def profiled(work: Callable[[], object], until: str | None = None) -> Profile:
    """Return what `work` enters, up to the function `until`."""
    profile = Profile(until)
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return profile


def main() -> None:
    """Print the counts, and with `-v` the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="name the files")
    verbose = parser.parse_args().verbose
    with Emulator(speed=1000) as hub, tempfile.TemporaryDirectory() as folder:
        model = ChatTokenHub(model="hy3", base_url=hub.url, api_key="any")
        tool = TokenHubImageTool(base_url=hub.url, api_key="any", save_to=folder)
        calls: dict[str, tuple[Callable[[], object], str | None]] = {
            "invoke": (lambda: model.invoke("hi"), "SyncStream.write"),
            "image job": (lambda: tool.generate(prompt="a cat"), None),
        }
        for name, (work, until) in calls.items():
            work()
            found = profiled(work, until)
            print(f"{name}: {len(found.files)} files, {found.changes} changes of file")
            if verbose:
                print(*(f"  {file}" for file in found.files), sep="\n")


if __name__ == "__main__":
    main()
