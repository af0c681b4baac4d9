"""Many jobs: from a list of rows to files, within a budget, on one machine or many.

`run` and `arun` take rows, or a JSONL or CSV file, and yield how each ended. Run again, they start
nothing twice and continue. Requires the extra `bulk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader

if TYPE_CHECKING:
    from langchain_tokenhub.bulk.report import Outcome, State
    from langchain_tokenhub.bulk.runs import AsyncRun, Run, arun, run

__all__ = ["AsyncRun", "Outcome", "Run", "State", "arun", "run"]

__getattr__ = loader(__name__, __all__, "runs", {"report": "Outcome State"})
