"""What a run has submitted and what that is estimated to cost, in the ledger's database.

A claim and the price of its submit are written in one transaction, and so are a claim that is
removed and its refund: the sum counts each submit once, whatever becomes of the processes. Neither
prompts nor API keys are stored. This module needs SQLAlchemy, the extra `bulk`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import BigInteger, Column, Connection, Table, Text, text

from langchain_tokenhub.errors import BudgetExceededError, InvalidRequestError
from langchain_tokenhub.jobs.ledger_keys import NO_LINKS, Links
from langchain_tokenhub.jobs.ledger_sql import METADATA, SqlBackend
from langchain_tokenhub.transport import Runtime

T = TypeVar("T")

MICRO = 1_000_000
"""Amounts are stored in millionths of a yuan."""
UNLIMITED = 2**62
"""Limit, in millionths of a yuan, that stands for no budget."""

Table(
    "tokenhub_runs",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("spent", BigInteger, nullable=False),
)
Table(
    "tokenhub_submits",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("token", Text, primary_key=True),  # of the ledger's entry
    Column("run", Text, nullable=False),
    Column("cny", BigInteger, nullable=False),
)
Table(
    "tokenhub_failures",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("error", Text, nullable=False),
)
_INSERT_RUN = text("INSERT INTO tokenhub_runs VALUES (:run, 0) ON CONFLICT DO NOTHING")
_SPEND = text(
    "UPDATE tokenhub_runs SET spent = spent + :cny WHERE run = :run AND spent + :cny <= :most"
)
_SUBMIT = text("INSERT INTO tokenhub_submits VALUES (:key, :token, :run, :cny)")
_SUBMITTED = text("SELECT run, cny FROM tokenhub_submits WHERE key = :key AND token = :token")
_DELETE_SUBMIT = text("DELETE FROM tokenhub_submits WHERE key = :key AND token = :token")
_REFUND = text("UPDATE tokenhub_runs SET spent = spent - :cny WHERE run = :run")
_SPENT = text("SELECT spent FROM tokenhub_runs WHERE run = :run")
_KEYS = text("SELECT key FROM tokenhub_submits WHERE run = :run")
_IS_SUBMITTED = text("SELECT 1 FROM tokenhub_submits WHERE key = :key AND run = :run LIMIT 1")
_UPSERT_FAILURE = text(
    "INSERT INTO tokenhub_failures VALUES (:run, :key, :error) "
    "ON CONFLICT (run, key) DO UPDATE SET error = :error"
)
_DELETE_FAILURE = text("DELETE FROM tokenhub_failures WHERE run = :run AND key = :key")
_FAILURES = text("SELECT key, error FROM tokenhub_failures WHERE run = :run")


class RowBackend:
    """The ledger's records for one row, whose price is spent and refunded with its claims.

    Args:
        backend: The database.
        run: The run's id.
        key: The row's call.
        cny: Price of a submit.
        budget_cny: What the run may spend; None is any amount.
    """

    def __init__(
        self, backend: SqlBackend, run: str, key: str, cny: float, budget_cny: float | None
    ) -> None:
        self._backend = backend
        self._most = UNLIMITED if budget_cny is None else _micro(budget_cny)
        self._cny = _micro(cny)
        self._values = {"run": run, "key": key, "cny": self._cny, "most": self._most}
        self.get = backend.get
        self.texts = backend.texts

    def replace(self, key: str, old: str | None, new: str | None, links: Links = NO_LINKS) -> bool:
        """Replace a record, see `LedgerBackend`.

        Raises:
            BudgetExceededError: The budget does not allow the claim that `new` adds.
        """

        def update_budget(connection: Connection) -> None:
            before, after = _tokens(old), _tokens(new)
            for token in after.keys() - before:
                self._spend(connection, token)
            # an accepted submit takes the place of others, which stay paid for
            if not any(has_job and not before.get(token) for token, has_job in after.items()):
                for token in before.keys() - after:
                    _refund(connection, key, token)

        return self._backend.replace(key, old, new, links, update_budget)

    def _spend(self, connection: Connection, token: str) -> None:
        values = {**self._values, "token": token}
        if connection.execute(_SPEND, values).rowcount != 1:
            spent, cny = connection.scalar(_SPENT, values) or 0, self._cny
            raise BudgetExceededError(
                f"the budget of {_cny(self._most):g} CNY does not allow {_cny(cny):g} CNY more; "
                f"{_cny(spent):g} CNY are spent",
                phase="not sent",
                hint="raise the budget and run again",
            )
        connection.execute(_SUBMIT, values)
        connection.execute(_DELETE_FAILURE, values)


def _refund(connection: Connection, key: str, token: str) -> None:
    """Subtract the price of a submit that was refused, or whose job failed."""
    values = {"key": key, "token": token}
    if (row := connection.execute(_SUBMITTED, values).first()) is not None:
        connection.execute(_DELETE_SUBMIT, values)
        connection.execute(_REFUND, {"run": row.run, "cny": row.cny})


def _tokens(record: str | None) -> Mapping[str, bool]:
    """Return the tokens of a record's entries, and whether each has a job."""
    first = json.loads(record) if record else None
    entries = [first, *first["others"]] if first else []
    return {entry["token"]: bool(entry["job"]) for entry in entries}


class Budget:
    """What a run has spent, and which of its rows failed.

    Args:
        backend: The ledger's database.
        runtime: Waits.
        run: The run's id.
    """

    def __init__(self, backend: SqlBackend, runtime: Runtime, run: str) -> None:
        self._backend = backend
        self._runtime = runtime
        self._run = {"run": run}
        self.spent = 0.0
        """CNY of all submits at the last call, those of other processes too."""

    async def open(self) -> tuple[set[str], dict[str, str]]:
        """Return the calls that the run has submitted, and those that failed, with the error."""

        def work(connection: Connection) -> tuple[set[str], dict[str, str]]:
            connection.execute(_INSERT_RUN, self._run)
            failures = connection.execute(_FAILURES, self._run)
            return set(connection.scalars(_KEYS, self._run)), {f.key: f.error for f in failures}

        return await self._do(work)

    async def refresh(self) -> None:
        """Read what is spent."""
        await self._do(lambda _: None)

    async def record_end(self, key: str, error: str | None = None) -> bool:
        """Record a call's error, if it is final; return True if the run has paid for the call."""
        values = {**self._run, "key": key, "error": error}

        def work(connection: Connection) -> bool:
            if error is not None:
                connection.execute(_UPSERT_FAILURE, values)
            return connection.scalar(_IS_SUBMITTED, values) is not None

        return await self._do(work)

    async def _do(self, work: Callable[[Connection], T]) -> T:
        def both(connection: Connection) -> tuple[T, int]:
            return work(connection), connection.scalar(_SPENT, self._run) or 0

        try:
            result, spent = await self._runtime.blocking(self._backend.run, both)
        except OSError as problem:
            reason = problem.strerror
        else:
            self.spent = _cny(spent)
            return result
        raise InvalidRequestError(
            f"the ledger cannot be used: {reason}",
            phase="not sent",
            hint="see that the database can be reached, then run again: nothing is paid twice",
        )


def _micro(cny: float) -> int:
    return round(cny * MICRO)


def _cny(micro: int) -> float:
    return micro / MICRO
