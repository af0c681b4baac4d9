"""`tokenhub bulk`: many jobs from a list."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_tokenhub.cli import exit_codes
from langchain_tokenhub.cli.console import Console, RunProgress
from langchain_tokenhub.cli.parser import FOLDER, Parser, add_connection, add_output, connection
from langchain_tokenhub.errors import AuthenticationError

if TYPE_CHECKING:
    from langchain_tokenhub.bulk import Outcome, Run
    from langchain_tokenhub.bulk.options import RunOptions

_ORDER = (7, 6, 5, 2, 3, 4, exit_codes.NOT_SAVED, 1)
"""Exit codes, the most important first."""


def add_bulk(parser: Parser) -> None:
    """Add the options of `tokenhub bulk`."""
    translate, add = parser.translate, parser.add_argument
    add("rows", metavar="FILE", help=translate("manifest"))
    out = translate("out", default=f"./{FOLDER}")
    add("-o", "--out", dest="save_to", type=Path, default=FOLDER, metavar="FOLDER", help=out)
    add("--budget", type=float, metavar="CNY", help=translate("budget"))
    add("--price", action="append", metavar="MODEL=CNY", help=translate("price"))
    add("--dry-run", action="store_true", help=translate("dry-run"))
    add("--in-flight", type=int, metavar="N", help=translate("in-flight"))
    add("--keys-file", type=Path, metavar="FILE", help=translate("keys-file"))
    on_error, again = translate("on-error"), translate("again-unknown")
    add("--on-error", choices=["continue", "stop"], default="continue", help=on_error)
    add("--retry-failed", action="store_true", help=translate("retry-failed"))
    add("--again", choices=["unknown"], help=again)
    add("--ledger", metavar="URL", help=translate("ledger"))
    add("--executor", choices=["local", "ray"], default="local", help=translate("executor"))
    add("--wait-timeout", type=float, metavar="SECONDS", help=translate("wait-timeout"))
    add("-q", "--quiet", action="store_true", help=translate("quiet"))
    add_output(parser)
    add_connection(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the rows, or print what they cost."""
    from langchain_tokenhub import bulk

    if options.dry_run:
        return _estimate(options, console)
    shots = bulk.run(options.rows, out=options.save_to, **_run_options(options, console))
    ended: list[Outcome] = []
    try:
        with (
            redirect_stdout(sys.stderr),  # Ray prints there when a worker dies
            _Progress(console, Path(options.rows).name, shots) as progress,
        ):
            for outcome in shots:
                _write_outcome(console, outcome)
                progress.show()
                if outcome.error is not None or _unsaved(outcome):
                    ended.append(outcome)
    except KeyboardInterrupt:
        shots.close()
        text = console.translate("bulk-stopped", running=shots.running)
        console.write_message(f"tokenhub: {text}")
        return exit_codes.INTERRUPTED
    _write_end(console, shots, ended, options.save_to)
    codes = {_exit_code(outcome) for outcome in ended}
    return next((code for code in _ORDER if code in codes), 0)


def _run_options(options: argparse.Namespace, console: Console) -> RunOptions:
    names = ("ledger", "on_error", "in_flight", "keys_file", "retry_failed", "again", "executor")
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given |= {"budget_cny": options.budget, "price_cny": _prices(options, console)}
    given |= {"wait_timeout": options.wait_timeout, "language": console.translate.language}
    return cast("RunOptions", given | connection(options))


def _prices(options: argparse.Namespace, console: Console) -> float | dict[str, float] | None:
    found: dict[str, float] = {}
    for text in options.price or ():
        model, equals, price = text.rpartition("=")
        try:
            found[model.strip().lower() if equals else ""] = float(price)
        except ValueError:
            raise exit_codes.UsageError(
                f"--price {text}: {console.translate('bulk-price')}"
            ) from None
    return found.get("") if set(found) == {""} else found or None


def _estimate(options: argparse.Namespace, console: Console) -> int:
    from langchain_tokenhub.bulk.options import accounts_of, checked_options
    from langchain_tokenhub.bulk.plan import estimates, make_plan

    given = checked_options(_run_options(options, console))
    try:
        accounts = len(accounts_of(given).hashes)
    except AuthenticationError:
        accounts = 1
    rows = make_plan(
        options.rows, price_cny=given.get("price_cny"), has_budget=options.budget is not None
    )
    table = estimates(rows, accounts, options.in_flight)
    if console.as_json:
        console.write_json([vars(one) for one in table])
        return 0
    translate = console.translate
    heads = ("col-id", "col-rows", "col-cny", "col-hours")
    lines = [[one.model, str(one.rows), _amount(one.cny), f"{one.hours:.2f}"] for one in table]
    known = [one.cny for one in table if one.cny is not None]
    total = sum(known) if len(known) == len(table) else None
    hours = max(one.hours for one in table)
    last = [translate("col-total"), str(len(rows)), _amount(total), f"{hours:.2f}"]
    console.write_table([[translate(head) for head in heads], *lines, last])
    console.write_message(translate("bulk-estimates", accounts=accounts))
    return 0


def _amount(cny: float | None) -> str:
    return "?" if cny is None else f"{cny:.2f}"


def _unsaved(outcome: Outcome) -> bool:
    return outcome.result is not None and any(f.path is None for f in outcome.result.files)


def _exit_code(outcome: Outcome) -> int:
    return exit_codes.exit_code(outcome.error) if outcome.error else exit_codes.NOT_SAVED


def _write_outcome(console: Console, outcome: Outcome) -> None:
    """Print the paths on stdout, for other programs, and what failed on stderr."""
    if outcome.error is not None:
        text = exit_codes.error_text(console, outcome.error)
        if hint := console.translate.hint(outcome.error.hint or ""):
            text = console.translate("with-hint", text=text, hint=hint)
        console.write_message(console.translate("bulk-row", id=outcome.id, text=text))
    for file in outcome.result.files if outcome.result else ():
        if file.path is None:
            text = console.translate("not-saved", url=file.url or "-")
            console.write_message(console.translate("bulk-row", id=outcome.id, text=text))
        elif not console.as_json:
            console.write_line(str(file.path))


def _write_end(console: Console, shots: Run, ended: list[Outcome], out: Path) -> None:
    names = ("rows", "done", "failed", "unknown", "skipped", "spent", "left")
    counts = {name: getattr(shots, name) for name in names}
    unknown = [outcome.id for outcome in ended if outcome.state == "unknown"]
    if console.as_json:
        console.write_json({**counts, "report": str(out / "report.jsonl"), "unknown_rows": unknown})
    if not console.quiet:
        shown = {**counts, "spent": _spent(shots), "report": out / "report.jsonl"}
        console.write_message(console.translate("bulk-ended", **shown))
    if unknown:
        console.write_message(console.translate("bulk-unknown", ids=", ".join(unknown)))


def _spent(shots: Run) -> str:
    budget = "" if shots.left is None else f" / ¥{shots.spent + shots.left:.2f}"
    return f"¥{shots.spent:.2f}{budget}"


class _Progress(RunProgress):
    """Shows the counts of a run, which change while it is drawn."""

    def __init__(self, console: Console, label: str, shots: Run) -> None:
        self._shots = shots
        self._translate = console.translate
        super().__init__(console, label, total=shots.rows)

    def show(self) -> None:
        """Show the counts."""
        self.update(self._shots.ended, self._counts())

    def _counts(self) -> str:
        names = ("done", "failed", "running", "waiting")
        counts = {name: getattr(self._shots, name) for name in names}
        return self._translate("bulk-counts", **counts, spent=_spent(self._shots))

    def _draw(self, columns: int) -> str:
        self._done, self._status = self._shots.ended, self._counts()
        return super()._draw(columns)
