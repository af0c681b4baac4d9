"""The table of the performance page, from `performance.json`. Pure.

`python tests/benchmarks/run.py docs/performance.json` measures again.
"""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tables import Language, pick, table

FILE = Path(__file__).with_name("performance.json")
OURS, BRIDGE = "ChatTokenHub", "core's bridge"
BRIDGED, NATIVE = "our chunks, bridged", "floor: native"
PEERS = ("ChatMistralAI", "ChatOpenAI")
Found = dict[str, tuple[float, str]]
"""Value and unit, by subject."""
Against = Literal["floors", "bridge", "core", "mistral", "peers", "fewer", "fixed"]


@dataclass(frozen=True)
class Aim:
    """The target of a figure: at most `times` that of `against`."""

    en: str
    zh: str
    times: float
    against: Against


AIMS = {
    "a streamed chunk, sync": Aim("1.25 × floors", "下限的 1.25 倍", 1.25, "floors"),
    "a streamed chunk, async": Aim("1.25 × floors", "下限的 1.25 倍", 1.25, "floors"),
    "a streamed chunk, v3 events": Aim("⅓ of the bridge", "桥接的 ⅓", 1 / 3, "bridge"),
    "a plain call, sync": Aim("1.3 × floors", "下限的 1.3 倍", 1.3, "floors"),
    "a plain call, async": Aim("1.3 × floors", "下限的 1.3 倍", 1.3, "floors"),
    "a call with 100 in flight": Aim("½ of the best peer", "最好同类的 ½", 0.5, "peers"),
    "a call with 1000 in flight": Aim("⅒ of ChatMistralAI", "ChatMistralAI 的 ⅒", 0.1, "mistral"),
    "a call with 3000 in flight": Aim("1.5 × with 100", "100 个并发时的 1.5 倍", 1.5, "fewer"),
    "ten constructions": Aim("2 ms", "2 ms", 2, "fixed"),
    "import": Aim("1.1 × core", "core 的 1.1 倍", 1.1, "core"),
    "memory of an open stream": Aim("below the peers", "低于同类", 1, "peers"),
}
"""Targets by figure, in the order of the table."""
WORDS = {
    "a streamed chunk, sync": "流式一个 chunk，同步",
    "a streamed chunk, async": "流式一个 chunk，异步",
    "a streamed chunk, v3 events": "流式一个 chunk，v3 事件",
    "a plain call, sync": "一次普通调用，同步",
    "a plain call, async": "一次普通调用，异步",
    "a call with 100 in flight": "100 个并发时的一次调用",
    "a call with 1000 in flight": "1000 个并发时的一次调用",
    "a call with 3000 in flight": "3000 个并发时的一次调用",
    "ten constructions": "创建十个对象",
    "import": "导入",
    "memory of an open stream": "一个打开的流占用的内存",
}


def table_of(language: Language) -> str:
    """Return each figure beside its floors, its peers and its aim."""
    heads = pick(
        language,
        f"Figure,{OURS},Floor (core + httpx),{','.join(PEERS)},Aim,Is",
        f"指标,{OURS},下限（core + httpx）,{','.join(PEERS)},目标,结果",
    )
    return table(heads.split(","), (_row(language, name, aim) for name, aim in AIMS.items()))


def conditions(language: Language) -> str:
    """Return date, machine and versions of the measurement."""
    found = json.loads(FILE.read_text("utf-8"))
    versions = pick(language, ", ", "，").join(f"{k} {v}" for k, v in found["versions"].items())
    return pick(
        language,
        f"CPU time, the least of interleaved rounds, one loopback server in a process of its own; "
        f"{versions}; {found['date']}, {found['cores']} shared cores. "
        "Trust the ratios, not the absolute figures.",
        f"CPU 时间，交错多轮取最小值，本机服务器在独立进程中；{versions}；{found['date']}，"
        f"{found['cores']} 个共享核心。请看比例，不要看绝对值。",
    )


def _row(language: Language, name: str, aim: Aim) -> Iterator[str]:
    found = measured()[name]
    yield pick(language, name, WORDS[name])
    yield _shown(found, OURS)
    yield _floor(language, found)
    yield from (_shown(found, peer) for peer in PEERS)
    yield pick(language, aim.en, aim.zh)
    yield _reached(language, found, aim)


def measured() -> dict[str, Found]:
    """Return the figures of the file, without the number of open streams in a name."""
    figures: dict[str, Found] = {}
    for row in json.loads(FILE.read_text("utf-8"))["rows"]:
        name = "memory of an open stream" if row["figure"].startswith("memory") else row["figure"]
        figures.setdefault(name, {})[row["subject"]] = (row["value"], row["unit"])
    return figures


def _shown(found: Found, subject: str) -> str:
    if subject not in found:
        return ""
    value, unit = found[subject]
    return f"{float(f'{value:.3g}'):g}\N{NO-BREAK SPACE}{unit}"


def _floor(language: Language, found: Found) -> str:
    if BRIDGE in found:
        native, bridge = _shown(found, NATIVE), _shown(found, BRIDGE)
        bridged = f"{pick(language, 'of our chunks', '我们的 chunk')} {_shown(found, BRIDGED)}"
        return f"{native}; {pick(language, 'bridge', '桥接')} {bridge}, {bridged}"
    return " + ".join(_shown(found, name) for name in found if name.startswith("floor"))


def _reached(language: Language, found: Found, aim: Aim) -> str:
    ours, against = found[OURS][0], _AGAINST[aim.against](found)
    ratio = f"{ours / against:.2f}"
    if ours <= aim.times * against:
        return pick(language, f"reached: {ratio}", f"达到：{ratio}")
    return pick(language, f"missed: {ratio}", f"未达到：{ratio}")


_AGAINST: dict[Against, Callable[[Found], float]] = {
    "floors": lambda found: found["floor: core"][0] + found["floor: httpx"][0],
    "bridge": lambda found: found[BRIDGE][0],
    "core": lambda found: found["floor: core"][0],
    "mistral": lambda found: found["ChatMistralAI"][0],
    "peers": lambda found: min(found[peer][0] for peer in PEERS),
    "fewer": lambda _: measured()["a call with 100 in flight"][OURS][0],
    "fixed": lambda _: 1.0,
}
