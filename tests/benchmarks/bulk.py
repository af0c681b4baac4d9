"""CPU and memory a row of `bulk.run` beside the tools alone, which keep no record.

python tests/benchmarks/bulk.py [--rows 10000] [--model hy-video-1.5] [--in-flight 64] [--ray]

The emulator is a process of its own, and so is each client. Alone, a model with jobs is submitted
and collected with `aresults`, which polls all jobs at one time; each, as many calls of `agenerate`
run at one time as rows in bulk. All save the files. The bulk client keeps its ledger and budget in
SQLite. Printed as JSON, for lite and for a job model.
With `--ray`, another client runs the rows on a Ray that it starts; all of Ray's processes count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MODELS = ("hy-image-lite", "hy-video-1.5")


def serve() -> None:
    """Run the emulator until standard input ends.

    It makes one file of each kind: making a video a job would take the processor from the client.
    """
    from langchain_tokenhub.testing import Emulator, sample_files

    render, made = sample_files._render, dict[str, bytes]()
    sample_files._render = lambda kind, *scene: (
        made.get(kind) or made.setdefault(kind, render(kind, *scene))
    )
    with Emulator(speed=200, quotas=False) as hub:
        print(hub.url, flush=True)
        sys.stdin.read()


def rows(asked: argparse.Namespace) -> list[dict[str, str]]:
    """Return the rows."""
    return [
        {"id": f"shot-{n}", "model": asked.model, "prompt": f"第{n}段"} for n in range(asked.rows)
    ]


async def alone(asked: argparse.Namespace, out: Path) -> int:
    """Do the work with a tool; return the number of results."""
    from langchain_tokenhub import MediaResult
    from langchain_tokenhub.catalogue import media_model
    from langchain_tokenhub.tools.media_tools import TOOLS

    facts = media_model(asked.model)
    assert facts
    tool = TOOLS[facts.kind](model=asked.model, save_to=out, max_in_flight=asked.rows)
    room = asyncio.Semaphore(asked.in_flight)

    async def one(row: dict[str, str]) -> Any:
        async with room:
            if asked.each or facts.query_path is None:
                return await tool.agenerate(prompt=row["prompt"])
            return await tool.asubmit(prompt=row["prompt"])

    found = await asyncio.gather(*map(one, rows(asked)))
    if not asked.each and facts.query_path is not None:
        found = [outcome async for outcome in tool.aresults(found)]
    return sum(isinstance(outcome, MediaResult) for outcome in found)


def in_bulk(asked: argparse.Namespace, out: Path) -> int:
    """Do the work with `run`; return the number of results."""
    from langchain_tokenhub.bulk import run

    where = "ray" if asked.ray else "local"
    shots = run(rows(asked), out=out, in_flight=asked.in_flight, budget_cny=1e6, executor=where)
    return sum(outcome.state == "done" for outcome in shots)


def client(asked: argparse.Namespace) -> dict[str, Any]:
    """Do the work, and measure."""
    with tempfile.TemporaryDirectory() as folder:
        out, begun = Path(folder), time.monotonic()
        before = resource.getrusage(resource.RUSAGE_SELF)
        done = asyncio.run(alone(asked, out)) if asked.alone or asked.each else in_bulk(asked, out)
        used = resource.getrusage(resource.RUSAGE_SELF)
        again = time.process_time()
        if not (asked.alone or asked.each or asked.ray):
            in_bulk(asked, out)
        again = time.process_time() - again
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {
        "done": done,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_ms_per_row": round(1000 * cpu / asked.rows, 2),
        "cpu_ms_per_row_of_second_run": round(1000 * again / asked.rows, 2),
        "peak_MB": round(used.ru_maxrss / 1024),
    }


class Tree(threading.Thread):
    """Samples the processor time and memory of a process and all its descendants."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self._process = process
        self._cpu: dict[int, float] = {}
        self.peak = 0
        self.start()

    def run(self) -> None:
        """Sample until the process ends."""
        while self._process.poll() is None:
            self.peak = max(self.peak, sum(map(self._sample, self._pids())))
            time.sleep(0.2)

    def cpu(self) -> float:
        """Return seconds."""
        self.join()
        return sum(self._cpu.values())

    def _pids(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            with suppress(OSError):
                tasks = Path(f"/proc/{pid}/task").iterdir()
                found += [int(n) for task in tasks for n in (task / "children").read_text().split()]
        return found

    def _sample(self, pid: int) -> int:
        """Note the processor time; return the memory that is not shared, in kB."""
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            self._cpu[pid] = ticks / os.sysconf("SC_CLK_TCK")
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        return 0


def measure(asked: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return what both clients took for a model."""
    hub = subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert hub.stdout
    url = hub.stdout.readline().strip()
    environment = os.environ | {"TOKENHUB_BASE_URL": url, "TOKENHUB_API_KEY": "sk-bulk"}
    options = ["--rows", str(asked.rows), "--model", model, "--in-flight", str(asked.in_flight)]
    found = {}
    clients = {"alone": ["--alone"], "each": ["--each"], "bulk": []} | (
        {"ray": ["--ray"]} if asked.ray else {}
    )
    for name, more in clients.items():
        command = [sys.executable, __file__, "--client", *options, *more]
        path = {"PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(
            command, env=environment | path, stdout=subprocess.PIPE, text=True
        )
        tree = Tree(process)
        found[name] = json.loads(process.communicate()[0].splitlines()[-1])
        if name == "ray":
            cpu = round(1000 * tree.cpu() / asked.rows, 2)
            found[name] |= {"cpu_ms_per_row": cpu, "peak_MB": round(tree.peak / 1024)}
    hub.communicate("")
    cpu = {name: one["cpu_ms_per_row"] for name, one in found.items()}
    added = {name: round(cpu["bulk"] - cpu[name], 2) for name in ("alone", "each")}
    return {**found, "added_cpu_ms_per_row": added}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--ray", action="store_true", help="measure Ray too")
    for hidden in ("--serve", "--client", "--alone", "--each"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve()
    elif asked.client:
        print(json.dumps(client(asked)))
    else:
        models = [asked.model] if asked.model else MODELS
        print(json.dumps({model: measure(asked, model) for model in models}, indent=1))


if __name__ == "__main__":
    main()
