"""The report of a run: one line of JSON for each row that ended, appended at once."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.models import MediaResult

FILE = "report.jsonl"
State: TypeAlias = Literal["done", "failed", "unknown", "skipped"]
"""`unknown`: the row may have been charged, and no job is known. `skipped`: nothing was sent."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a row ended.

    Args:
        id: The row's id.
        state: `done`, `failed`, `unknown` or `skipped`.
        result: The result of a row that is done.
        error: Why a row is not done.
        cny: Estimated price of what this run submitted for it; None where no price is known.
    """

    id: str
    state: State
    result: MediaResult | None = None
    error: TokenHubError | None = None
    cny: float | None = None


@dataclass(eq=False)
class Counts:
    """The counts of a run so far.

    Args:
        rows: Number of rows.
        budget: CNY that the run may spend; None is any amount.
        running: Number of rows that run.
        done: Number of rows that have results.
        failed: Number of rows that failed.
        unknown: Number of rows that may have been charged and have no known job.
        skipped: Number of rows that were not submitted.
        spent: CNY of what was submitted for this `out`, by estimate.
    """

    rows: int
    budget: float | None = None
    running: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    skipped: int = 0
    spent: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count a row that ended."""
        setattr(self, outcome.state, getattr(self, outcome.state) + 1)

    @property
    def ended(self) -> int:
        """Number of rows that have ended."""
        return self.done + self.failed + self.unknown + self.skipped

    @property
    def waiting(self) -> int:
        """Number of rows that have not begun."""
        return self.rows - self.running - self.ended

    @property
    def left(self) -> float | None:
        """CNY of the budget that are left; None without a budget."""
        return None if self.budget is None else max(0.0, round(self.budget - self.spent, 6))


class Report:
    """Appends to `report.jsonl`; what an earlier run wrote of the same job is not repeated."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: set[tuple[str, str]] = set()
        line = b"\n"
        with (out / FILE).open("a+b") as file:
            file.seek(0)
            for line in file:
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    row = json.loads(line)
                    if row["state"] == "done":
                        self._known.add((row["row"], row["job"]))
            if not line.endswith(b"\n"):  # it was cut off
                file.write(b"\n")

    def add(self, outcome: Outcome, model: str) -> None:
        """Append a row's outcome."""
        done = (outcome.id, outcome.result.job.id) if outcome.result else None
        if done in self._known:
            return
        line = json.dumps(self._facts(outcome, model), ensure_ascii=False, default=str)
        try:
            with (self._out / FILE).open("ab", buffering=0) as file:
                file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as problem:
            warn_user(f"row {outcome.id!r} is not in {FILE}: {problem.strerror}")

    def _facts(self, outcome: Outcome, model: str) -> dict[str, Any]:
        result, error = outcome.result, outcome.error
        job = result.job if result else error and error.job
        paths = [file.path for file in result.files if file.path] if result else []
        files = [p.relative_to(self._out) if p.is_relative_to(self._out) else p for p in paths]
        return {
            "row": outcome.id,
            "model": model,
            "state": outcome.state,
            "files": [file.as_posix() for file in files],
            "seconds": result and result.seconds,
            "cny": outcome.cny,
            "job": job and job.id,
            "error": error and {"type": type(error).__name__, "message": str(error)},
        }
