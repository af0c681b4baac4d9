"""Measure ChatTokenHub, its peers and two floors: `python tests/benchmarks/run.py [JSON]`.

CPU time of this process, the least of interleaved rounds: noise only ever adds. Needs the extra
`dev`. Prints a table, and writes the same as JSON where a path is given.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import subjects

EVENTS = 2000
HERE = Path(__file__).parent
Row = tuple[str, str, float, str]
"""Figure, subject, value, unit."""


def least(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the least CPU seconds of each of `works`, their rounds interleaved."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up
        for name, work in works.items():
            gc.collect()
            begun = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - begun)
    return best


class Bench:
    """The measurements, each a list of rows."""

    def __init__(self, port: int, *, quick: bool) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.rounds = 3 if quick else 12
        self.quick = quick
        self.loop = asyncio.new_event_loop()

    def clients(self, path: str) -> dict[str, Any]:
        """Return the peers at `path`, and the floors."""
        url = self.url + path
        made = {name: make(url) for name, make in subjects.PEERS.items()}
        ready = subjects.Ready(events=EVENTS)
        return {**made, "floor: core": ready, "floor: httpx": subjects.Bare(url)}

    def streams(self) -> list[Row]:
        """CPU of a streamed chunk, sync and async."""
        clients = self.clients(f"/stream/{EVENTS}")

        def sync(client: Any) -> None:
            for _ in client.stream("q"):
                pass

        async def consume(client: Any) -> None:
            async for _ in client.astream("q"):
                pass

        faces: dict[str, Callable[[Any], None]] = {
            "sync": sync,
            "async": lambda client: self.loop.run_until_complete(consume(client)),
        }
        return [
            row
            for face, use in faces.items()
            for row in self._each(f"a streamed chunk, {face}", clients, use, 1e6 / EVENTS, "µs")
        ]

    def v3(self) -> list[Row]:
        """CPU of a streamed chunk as v3 events: the native hook, and core's bridge.

        The bridge alone is given ready chunks; ours are cheaper for it, and come from the network.
        """
        url = f"{self.url}/stream/{EVENTS}"
        clients = {"ChatTokenHub": subjects.ours(url), "our chunks, bridged": subjects.bridged(url)}
        clients |= {"floor: native": subjects.Ready(events=EVENTS, native=True)}
        clients |= {"core's bridge": subjects.Ready(events=EVENTS)}
        clients |= {name: subjects.PEERS[name](url) for name in ("ChatMistralAI", "ChatOpenAI")}

        def use(client: Any) -> None:
            for _ in client.stream_events("q", version="v3"):
                pass

        return self._each("a streamed chunk, v3 events", clients, use, 1e6 / EVENTS, "µs")

    def plain(self) -> list[Row]:
        """CPU of a whole answer."""
        clients, times = self.clients("/plain"), 100

        def sync(client: Any) -> None:
            for _ in range(times):
                client.invoke("q")

        async def many(client: Any) -> None:
            for _ in range(times):
                await client.ainvoke("q")

        def use(client: Any) -> None:
            self.loop.run_until_complete(many(client))

        rows = self._each("a plain call, sync", clients, sync, 1e6 / times, "µs")
        return rows + self._each("a plain call, async", clients, use, 1e6 / times, "µs")

    def in_flight(self) -> list[Row]:
        """CPU of a call among many slow ones."""
        rows: list[Row] = []
        for count in (100, 400) if self.quick else (100, 400, 1000, 3000):
            names = ["ChatTokenHub"] if count > 1000 else list(subjects.PEERS)
            address = f"{self.url}/slow/{2 + count / 600:.1f}"
            clients = {name: subjects.PEERS[name](address) for name in names}
            found: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(5 if count == 100 else 2):
                for name, client in clients.items():
                    if turn and count > 100 and name != "ChatTokenHub":
                        continue  # ChatMistralAI's waves take up to a minute each
                    found[name].append(self._wave(client, count) * 1e3 / count)
            figure = f"a call with {count} in flight"
            rows += [(figure, name, min(waves), "ms") for name, waves in found.items()]
        return rows

    def _wave(self, client: Any, count: int) -> float:
        async def wave() -> float:
            if hasattr(client, "aclose"):
                await client.aclose()  # as for the peers' first wave, every connection is new
            begun = time.process_time()
            await asyncio.gather(*[client.ainvoke("q") for _ in range(count)])
            return time.process_time() - begun

        gc.collect()
        return self.loop.run_until_complete(wave())

    def constructions(self) -> list[Row]:
        """CPU of ten constructions after the first."""

        def ten(make: Callable[[str], Any]) -> Callable[[], None]:
            return lambda: [make(self.url) for _ in range(10)] and None

        works = {name: ten(make) for name, make in subjects.PEERS.items()}
        found = least(works, self.rounds)
        return [("ten constructions", name, s * 1e3, "ms") for name, s in found.items()]

    def _each(
        self, figure: str, clients: dict[str, Any], use: Callable[[Any], None], by: float, unit: str
    ) -> list[Row]:
        works = {name: lambda c=client: use(c) for name, client in clients.items()}
        return [(figure, name, s * by, unit) for name, s in least(works, self.rounds).items()]


IMPORTS = {
    "ChatTokenHub": "from langchain_tokenhub import ChatTokenHub",
    "floor: core": "import langchain_core.language_models.chat_models",
    "ChatMistralAI": "from langchain_mistralai import ChatMistralAI",
    "ChatOpenAI": "from langchain_openai import ChatOpenAI",
}


DEEP = """
def at(depth):
    if depth: return at(depth - 1)
    {}
at({})
"""
"""CPython maps and unmaps a page of its stack over and over where calls cross the page's end: the
same import costs up to a quarter more at an unlucky depth, so each is done at several."""


def imports(rounds: int) -> list[Row]:
    """CPU of a process that imports, the bare interpreter's start taken off.

    All are compiled before, as `pip install` does; a checkout may not be.
    """
    folder = tempfile.mkdtemp()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}

    def child(code: str, depth: int) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", DEEP.format(code, depth)]
        subprocess.run(command, check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    best = dict.fromkeys([*IMPORTS, ""], float("inf"))
    for turn in range(4 * rounds):
        for name in best:
            best[name] = min(best[name], child(IMPORTS.get(name, "pass"), 6 * (turn % 4)))
    shutil.rmtree(folder)
    start = best.pop("")
    return [("import", name, seconds - start, "s") for name, seconds in best.items()]


MEMORY = """
import asyncio, gc, os, sys
sys.path.insert(0, sys.argv[1])
import subjects
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
async def main(client, count):
    async def begin():
        stream = client.astream("q")
        await anext(stream)
        return stream
    warm = [await begin() for _ in range(20)]
    gc.collect()
    before = rss()
    streams = await asyncio.gather(*[begin() for _ in range(count)])
    gc.collect()
    print((rss() - before) / count / 1024, flush=True)
    os._exit(0)
asyncio.run(main(subjects.PEERS[sys.argv[2]](sys.argv[3]), int(sys.argv[4])))
"""


MOST_OPEN = {"ChatMistralAI": 75, "ChatOpenAI": 950}
"""Their pools hold no more: 100 and 1000 connections."""


def memory(url: str, count: int) -> list[Row]:
    """Resident memory of an open stream, each subject in a process of its own."""
    rows: list[Row] = []
    for name in subjects.PEERS:
        most = min(count, MOST_OPEN.get(name, count))
        command = [sys.executable, "-c", MEMORY, str(HERE), name, f"{url}/hold", str(most)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append((f"memory of an open stream, {most} open", name, float(done.stdout), "KiB"))
    return rows


def measured(port: int, *, quick: bool) -> list[Row]:
    bench = Bench(port, quick=quick)
    rows = bench.constructions() + bench.streams() + bench.v3() + bench.plain()
    rows += imports(2 if quick else 5)
    rows += memory(bench.url, 200 if quick else 1000)
    return rows + bench.in_flight()


def conditions() -> dict[str, Any]:
    """Return when, on what and with which versions was measured."""
    packages = ("langchain-core", "langchain-openai", "langchain-mistralai", "httpx")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "versions": {"Python": platform.python_version()} | {p: version(p) for p in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", nargs="?", help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with subprocess.Popen(
        [sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            rows = measured(int(server.stdout.readline()), quick=options.quick)
        finally:
            server.terminate()
    print("| figure | who | CPU, or as said | \n| --- | --- | ---: |")
    for figure, name, value, unit in rows:
        print(f"| {figure} | {name} | {value:.3g} {unit} |")
    if options.json:
        keys = ("figure", "subject", "value", "unit")
        found = {**conditions(), "rows": [dict(zip(keys, row, strict=True)) for row in rows]}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
