"""`tokenhub bulk`: many jobs from a list."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_tokenhub.cli.console import (
    INTERRUPTED,
    NOT_SAVED,
    Console,
    UsageError,
    error_text,
    exit_code,
)
from langchain_tokenhub.cli.parser import FOLDER, Parser
from langchain_tokenhub.errors import AuthenticationError
from langchain_tokenhub.jobs.live_lines import bar_line, clock, live_lines

if TYPE_CHECKING:
    from langchain_tokenhub.bulk.report import Counts, Outcome
    from langchain_tokenhub.bulk.runs import RunOptions

_ORDER = (7, 6, 5, 2, 3, 4, NOT_SAVED, 1)
"""Exit codes, the most important first."""


def add_bulk(parser: Parser) -> None:
    """Add the options of `tokenhub bulk`."""
    add = parser.add
    add("rows", metavar="FILE", text="manifest")
    parser.add_folder("-o", "--out", text="out", dest="save_to", default=FOLDER)
    add("--budget", dest="budget_cny", type=float, metavar="CNY")
    add("--price", action="append", metavar="MODEL=CNY")
    add("--dry-run", action="store_true")
    add("--in-flight", type=int, metavar="N")
    add("--keys-file", type=Path, metavar="FILE")
    add("--on-error", choices=["continue", "stop"], default="continue")
    add("--retry-failed", action="store_true")
    add("--again", choices=["unknown"], text="again-unknown")
    add("--ledger", metavar="URL")
    add("--executor", choices=["local", "ray"], default="local")
    parser.add_wait()
    parser.add_connection()
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the rows, or print what they cost."""
    from langchain_tokenhub import bulk

    if options.dry_run:
        return _estimate(options, console)
    shots = bulk.run(options.rows, out=options.save_to, **_run_options(options, console))
    codes: set[int] = set()
    unknown: list[str] = []
    try:
        with (
            redirect_stdout(sys.stderr),  # Ray prints there when a worker dies
            closing(Progress(console, Path(options.rows).name, shots)) as progress,
        ):
            for outcome in shots:
                codes.add(_write_outcome(console, outcome))
                progress.update()
                if outcome.state == "unknown":
                    unknown.append(outcome.id)
    except KeyboardInterrupt:
        shots.close()
        text = console.translate("bulk-stopped", running=shots.running)
        console.write_message(f"tokenhub: {text}")
        return INTERRUPTED
    _write_end(console, shots, unknown, options.save_to / "report.jsonl")
    return next((code for code in _ORDER if code in codes), 0)


def _run_options(options: argparse.Namespace, console: Console) -> RunOptions:
    from langchain_tokenhub.bulk.runs import RunOptions

    given: dict[str, Any] = {
        name: value
        for name, value in vars(options).items()
        if name in RunOptions.__annotations__ and value is not None
    }
    given |= {"price_cny": _prices(options, console), "language": console.translate.language}
    return cast("RunOptions", given)


def _prices(options: argparse.Namespace, console: Console) -> float | dict[str, float] | None:
    found: dict[str, float] = {}
    for text in options.price or ():
        model, equals, price = text.rpartition("=")
        try:
            found[model.strip().lower() if equals else ""] = float(price)
        except ValueError:
            raise UsageError(f"--price {text}: {console.translate('bulk-price')}") from None
    return found.get("") if set(found) == {""} else found or None


def _estimate(options: argparse.Namespace, console: Console) -> int:
    from langchain_tokenhub.bulk.plan import estimates, make_plan
    from langchain_tokenhub.bulk.runs import accounts_of, check_options

    given = check_options(_run_options(options, console))
    try:
        accounts = len(accounts_of(given))
    except AuthenticationError:
        accounts = 1
    rows = make_plan(
        options.rows, price_cny=given.get("price_cny"), has_budget=options.budget_cny is not None
    )
    table = estimates(rows, accounts, options.in_flight)
    if console.as_json:
        console.write_json([vars(one) for one in table])
        return 0
    translate = console.translate
    heads = ("col-id", "col-rows", "col-cny", "col-hours")
    lines = [[one.model, str(one.rows), _amount(one.cny), f"{one.hours:.2f}"] for one in table]
    prices = [one.cny for one in table if one.cny is not None]
    total = sum(prices) if len(prices) == len(table) else None
    hours = max(one.hours for one in table)
    last = [translate("col-total"), str(len(rows)), _amount(total), f"{hours:.2f}"]
    console.write_table([[translate(head) for head in heads], *lines, last])
    console.write_text("bulk-estimates", accounts=accounts)
    return 0


def _amount(cny: float | None) -> str:
    return "?" if cny is None else f"{cny:.2f}"


def _write_outcome(console: Console, outcome: Outcome) -> int:
    """Print paths on stdout, for other programs, and what failed on stderr; return the code."""
    if outcome.error is not None:
        text = error_text(console, outcome.error)
        if hint := console.translate.hint(outcome.error.hint or ""):
            text = console.translate("with-hint", text=text, hint=hint)
        console.write_text("bulk-row", id=outcome.id, text=text)
        return exit_code(outcome.error)
    files = outcome.result.files if outcome.result else []
    for file in files:
        if file.path is None:
            text = console.translate("not-saved", url=file.url or "-")
            console.write_text("bulk-row", id=outcome.id, text=text)
        elif not console.as_json:
            console.write_line(str(file.path))
    return 0 if all(file.path for file in files) else NOT_SAVED


def _write_end(console: Console, shots: Counts, unknown: list[str], report: Path) -> None:
    names = ("rows", "done", "failed", "unknown", "skipped", "spent", "left")
    counts = {name: getattr(shots, name) for name in names} | {"report": str(report)}
    if console.as_json:
        console.write_json({**counts, "unknown_rows": unknown})
    if not console.quiet:
        console.write_text("bulk-ended", **{**counts, "spent": _spent(shots)})
    if unknown:
        console.write_text("bulk-unknown", ids=", ".join(unknown))


def _spent(shots: Counts) -> str:
    budget = "" if shots.left is None else f" / ¥{shots.spent + shots.left:.2f}"
    return f"¥{shots.spent:.2f}{budget}"


class Progress:
    """A bar with the counts of a run, redrawn below other output on a terminal.

    Elsewhere a line is printed for each tenth of the run.
    """

    def __init__(self, console: Console, label: str, shots: Counts) -> None:
        self._console, self._label, self._shots = console, label, shots
        self._started = time.monotonic()
        self._tenths = -1
        self._is_plain = not console.quiet and not live_lines.add(self._draw)

    def update(self) -> None:
        """Print a line if another tenth of the rows has ended and no line is live."""
        ended, rows = self._shots.ended, self._shots.rows
        if self._is_plain and 10 * ended // rows > self._tenths:
            self._tenths = 10 * ended // rows
            line = f"{self._label}  {ended}/{rows}  {_counts(self._console, self._shots)}"
            self._console.write_message(line)

    def close(self) -> None:
        """Leave the bar as text."""
        live_lines.remove(self._draw, keep=True)

    def _draw(self, columns: int) -> str:
        ended, rows = self._shots.ended, self._shots.rows
        seconds = time.monotonic() - self._started
        text = f"{ended}/{rows}  {clock(seconds)}"
        if 0 < ended < rows:
            text += f" / ~{clock(seconds * rows / ended)}"
        line = bar_line(self._label, ended / rows, text, columns)
        return f"{line}\n{_counts(self._console, self._shots)}" if ended < rows else line


def _counts(console: Console, shots: Counts) -> str:
    names = ("done", "failed", "running", "waiting")
    counts = {name: getattr(shots, name) for name in names}
    return console.translate("bulk-counts", **counts, spent=_spent(shots))
