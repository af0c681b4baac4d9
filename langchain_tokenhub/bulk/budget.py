"""What a run has submitted and what that is estimated to cost, in the ledger's database.

The estimate of a row is reserved before its submit, so that money spent counts whatever becomes of
the process. No prompt and no key is stored. This module needs SQLAlchemy, the extra `bulk`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

from sqlalchemy import BigInteger, Column, Connection, Float, Table, Text, TextClause, text

from langchain_tokenhub.bulk.executors import Task
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.ledger_sql import METADATA, SqlBackend
from langchain_tokenhub.transport import Runtime

T = TypeVar("T")
Reserved: TypeAlias = Literal["own", "other", "too much"]
"""`other`: by another driver, which may run or have been killed."""

MICRO = 1_000_000
"""Amounts are stored in millionths of a yuan."""
MOST = 2**62
"""Of an amount: no budget."""
STALE = 3600.0
"""Seconds after which a reservation without a ledger entry counts as left behind. A submit may wait
about as long for room in a full account."""

Table(
    "tokenhub_runs",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("reserved", BigInteger, nullable=False),
)
Table(
    "tokenhub_rows",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("error", Text),
    Column("at", Float, nullable=False),
)
_THIS = "WHERE run = :run AND id = :id AND key = :key"
_BEGIN = text("INSERT INTO tokenhub_runs VALUES (:run, 0) ON CONFLICT DO NOTHING")
_LOCK = text("UPDATE tokenhub_runs SET reserved = reserved WHERE run = :run")
_TOTAL = text("SELECT reserved FROM tokenhub_runs WHERE run = :run")
_STALE = text(
    "DELETE FROM tokenhub_rows WHERE run = :run AND error IS NULL AND at < :at AND NOT EXISTS "
    "(SELECT 1 FROM tokenhub_calls WHERE tokenhub_calls.key = tokenhub_rows.key)"
)
_ROWS = text("SELECT id, key, error FROM tokenhub_rows WHERE run = :run")
_ROW = text(f"SELECT error FROM tokenhub_rows {_THIS}")  # noqa: S608 - constants
_RAISE = text(
    "UPDATE tokenhub_runs SET reserved = reserved + :cny "
    "WHERE run = :run AND reserved + :cny <= :most"
)
_RESERVE = text(
    "INSERT INTO tokenhub_rows (run, id, key, owner, account, model, reserved, at) "
    "VALUES (:run, :id, :key, :owner, :account, :model, :cny, :at) "
    "ON CONFLICT (run, id, key) DO UPDATE SET owner = :owner, account = :account, error = NULL, "
    "reserved = tokenhub_rows.reserved + :cny, at = :at"
)
_KEEP = text(
    "INSERT INTO tokenhub_rows (run, id, key, owner, account, model, reserved, at) "
    "VALUES (:run, :id, :key, :owner, :account, :model, :cny, :at) "
    "ON CONFLICT (run, id, key) DO UPDATE SET owner = :owner, account = :account, "
    # the other driver may have given its reservation back before
    "reserved = CASE WHEN tokenhub_rows.reserved < :cny THEN :cny ELSE tokenhub_rows.reserved END"
)
_GIVE_BACK = text(
    f"UPDATE tokenhub_rows SET reserved = reserved - :cny {_THIS} "  # noqa: S608
    "AND (owner = :owner OR :again)"
)
_REFUSE = text(f"UPDATE tokenhub_rows SET reserved = 0, error = :error {_THIS}")  # noqa: S608
_REMOVE = text(f"DELETE FROM tokenhub_rows {_THIS}")  # noqa: S608
_MARK = text(f"UPDATE tokenhub_rows SET error = :error {_THIS}")  # noqa: S608
_COUNT = text(
    "UPDATE tokenhub_runs SET reserved = (SELECT COALESCE(SUM(reserved), 0) FROM tokenhub_rows "
    "WHERE run = :run) WHERE run = :run"
)


class Budget:
    """The reservations of a run.

    Args:
        backend: The ledger's database.
        runtime: Waits.
        run: The run's id.
        budget_cny: What may be reserved in all; None is any amount.
    """

    def __init__(
        self, backend: SqlBackend, runtime: Runtime, run: str, budget_cny: float | None
    ) -> None:
        self._backend = backend
        self._runtime = runtime
        self._run = run
        self._owner = secrets.token_hex(8)
        self._most = MOST if budget_cny is None else _micro(budget_cny)
        self.spent = 0.0
        """CNY reserved so far, by other processes too."""

    async def open(self) -> dict[tuple[str, str], str | None]:
        """Return the rows with a reservation or a failure, and the class of the failure's error.

        Reservations of killed processes that submitted nothing are given back.
        """
        run = {"run": self._run}

        def work(connection: Connection) -> list[Any]:
            connection.execute(_BEGIN, run)
            connection.execute(_LOCK, run)  # PostgreSQL sums what it sees when a statement begins
            connection.execute(_STALE, {**run, "at": time.time() - STALE})
            connection.execute(_COUNT, run)
            return list(connection.execute(_ROWS, run))

        return {(row.id, row.key): row.error for row in await self._do(work)}

    async def reserve(self, task: Task, cny: float | None) -> Reserved:
        """Reserve the price of a submit, if the budget allows it."""
        values = self._values(task, cny)

        def work(connection: Connection) -> Reserved:
            connection.execute(_LOCK, values)
            old = connection.execute(_ROW, values).first()
            if not task.again and old is not None and old.error is None:
                return "other"
            if connection.execute(_RAISE, values).rowcount != 1:
                return "too much"
            connection.execute(_RESERVE, values)
            return "own"

        return await self._do(work)

    async def keep(self, task: Task, cny: float | None) -> None:
        """Count a row that another driver reserved and this one may have submitted."""
        await self._change(_KEEP, self._values(task, cny))

    async def give_back(self, task: Task, cny: float | None) -> None:
        """Give back what this driver reserved, and no other one has kept."""
        await self._change(_GIVE_BACK, self._values(task, cny))

    async def release(self, task: Task, error: str | None = None) -> None:
        """Free all of a row that has no job; record the class of an error not to be repeated."""
        await self._change(_REFUSE if error else _REMOVE, self._values(task, 0.0, error))

    async def mark(self, task: Task, error: str) -> None:
        """Record the class of an error that is not to be repeated; the money is spent."""
        await self._change(_MARK, self._values(task, 0.0, error))

    async def _change(self, statement: TextClause, values: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(_LOCK, values)
            connection.execute(statement, values)
            connection.execute(_COUNT, values)

        await self._do(work)

    def _values(self, task: Task, cny: float | None, error: str | None = None) -> dict[str, Any]:
        names = ("id", "key", "account", "model")
        own = {"run": self._run, "owner": self._owner, "most": self._most, "at": time.time()}
        amount = {"cny": _micro(cny or 0.0), "error": error, "again": task.again}
        return {name: getattr(task, name) for name in names} | own | amount

    async def _do(self, work: Callable[[Connection], T]) -> T:
        def both(connection: Connection) -> tuple[T, int]:
            return work(connection), connection.scalar(_TOTAL, {"run": self._run}) or 0

        try:
            result, total = await self._runtime.blocking(lambda: self._backend.run(both))
        except OSError as problem:
            reason = problem.strerror
        else:
            self.spent = total / MICRO
            return result
        raise InvalidRequestError(
            f"the ledger cannot be used: {reason}",
            phase="not sent",
            hint="see that the database can be reached, then run again: nothing is paid twice",
        )


def _micro(cny: float) -> int:
    return round(cny * MICRO)
