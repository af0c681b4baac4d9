"""Provoke the faults our transport survives, against it and its peers.

    python tests/benchmarks/peers/run.py [--only SUBJECT] [--fault FAULT] [--json PATH]

Each fault is provoked for each subject in a process of its own, over a loopback server, and
judged by the same lines for all; what never ends is a failure. The table tells who holds and who
fails, what was seen, and which test of ours makes the claim. Peers that are not installed are
left out: `pip install fal_client replicate runwayml mistralai langchain-groq langchain-deepseek`
adds those that the extra `dev` does not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import chats
import jobs
import streams
from faults import FAULTS, Fault
from models import Subject

OURS = {"ChatTokenHub", "TokenHubVideo"}
LONGEST = 180
MODULES = (chats, streams, jobs)
"""Importing them puts their faults on the list."""


@dataclass(frozen=True)
class Row:
    """One cell: `held` is None where the script itself went wrong."""

    fault: str
    test: str
    who: str
    held: bool | None
    saw: str

    def line(self) -> str:
        verdict = {True: "holds", False: "FAILS", None: "?????"}[self.held]
        return f"  {verdict}  {self.who:41} {self.saw}"


def installed(subject: type[Subject]) -> str | None:
    """Return the version of a subject's package, None where there is none."""
    try:
        return version(subject.package)
    except PackageNotFoundError:
        return None


def title(subject: type[Subject]) -> str:
    """Return class, package and version, as the table names them."""
    return f"{subject.__name__} ({subject.package} {installed(subject)})"


def one(fault: str, name: str) -> None:
    """Provoke one fault in this process and print what was seen."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    (subject,) = [each for each in FAULTS[fault].subjects if each.__name__ == name]
    held, saw = FAULTS[fault].provoke(subject)
    print(json.dumps([bool(held), saw]), flush=True)
    os._exit(0)  # what still hangs is left behind


def seen(name: str, fault: Fault, subject: type[Subject]) -> Row:
    """Provoke one fault in a process of its own."""
    command = [sys.executable, __file__, "--one", name, subject.__name__]
    about = (fault.claim, fault.test, title(subject))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return Row(*about, held=False, saw=f"hangs for {LONGEST} s")
    if done.returncode:
        return Row(*about, held=None, saw=f"{done.stderr.strip().splitlines()[-1:]}")
    held, saw = json.loads(done.stdout.splitlines()[-1])
    return Row(*about, held=held, saw=" ".join(saw.split()))


def table(only: str | None, fault: str | None, workers: int) -> list[Row]:
    """Provoke what is asked for and print it, fault by fault."""
    rows = []
    with ThreadPoolExecutor(workers) as pool:
        asked = {name: f for name, f in FAULTS.items() if fault in {None, name}}
        futures = {
            name: [
                pool.submit(seen, name, each, subject)
                for subject in each.subjects
                if installed(subject) and only in {None, subject.__name__}
            ]
            for name, each in asked.items()
        }
        for name, cells in futures.items():
            if cells:
                print(f"\n{FAULTS[name].claim}  [{FAULTS[name].test}]", flush=True)
            for cell in cells:
                rows.append(cell.result())
                print(rows[-1].line(), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="SUBJECT")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--one", nargs=2, metavar=("FAULT", "SUBJECT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        return one(*asked.one)
    rows = table(asked.only, asked.fault, asked.workers)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
    return sys.exit(any(row.held is not True for row in rows if row.who.split()[0] in OURS))


if __name__ == "__main__":
    main()
