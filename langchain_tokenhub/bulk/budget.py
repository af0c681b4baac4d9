"""What a run has submitted and what that is estimated to cost, in the ledger's database.

The estimate of a row is reserved before its submit, so that money spent counts whatever becomes of
the process. No prompt and no key is stored. This module needs SQLAlchemy, the extra `bulk`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.ledger_sql import CALLS, METADATA, SqlBackend
from langchain_tokenhub.transport import Runtime

T = TypeVar("T")

MICRO = 1_000_000
"""Amounts are stored in millionths of a yuan."""
STALE = 60.0
"""Seconds after which a reservation without a ledger entry counts as left behind."""

RUNS = Table(
    "tokenhub_runs",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("reserved", BigInteger, nullable=False),
)
ROWS = Table(
    "tokenhub_rows",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("row", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("attempt", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("error", Text),
    Column("at", Float, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The estimated price of one submit.

    Args:
        row: The row's id.
        key: Its key in the ledger.
        account: Hash of the key that pays.
        model: Model id.
        cny: Estimated price.
        attempt: Distinguishes a submit on purpose from an earlier one; else empty.
    """

    row: str
    key: str
    account: str
    model: str
    cny: float
    attempt: str = ""


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
        self._most = None if budget_cny is None else _micro(budget_cny)
        self.spent = 0.0
        """CNY reserved so far, by earlier processes too."""

    async def open(self) -> dict[tuple[str, str], str | None]:
        """Return the rows with a reservation or a failure, and the class of the failure's error.

        Reservations of killed processes that submitted nothing are given back.
        """

        def work(connection: Connection) -> list[Any]:
            if connection.execute(select(RUNS).where(RUNS.c.run == self._run)).first() is None:
                connection.execute(insert(RUNS).values(run=self._run, reserved=0))
            called = select(CALLS.c.key).where(CALLS.c.key == ROWS.c.key).exists()
            left = and_(ROWS.c.error.is_(None), ROWS.c.at < time.time() - STALE, ~called)
            connection.execute(delete(ROWS).where(ROWS.c.run == self._run, left))
            self._count(connection)
            columns = (ROWS.c.row, ROWS.c.key, ROWS.c.error)
            return list(connection.execute(select(*columns).where(ROWS.c.run == self._run)))

        return {(row, key): error for row, key, error in await self._do(work)}

    async def reserve(self, one: Reservation) -> bool:
        """Reserve the price of a submit; return False if the budget does not allow it."""
        amount = _micro(one.cny)

        def work(connection: Connection) -> bool:
            old = connection.execute(select(ROWS).where(self._is(one))).first()
            if old is not None and old.error is None:
                return True
            raised = update(RUNS).where(RUNS.c.run == self._run)
            if self._most is not None:
                raised = raised.where(RUNS.c.reserved + amount <= self._most)
            raised = raised.values(reserved=RUNS.c.reserved + amount)
            if connection.execute(raised).rowcount != 1:
                return False
            values = {
                "account": one.account,
                "model": one.model,
                "reserved": amount,
                "error": None,
                "at": time.time(),
            }
            names = {"row": one.row, "key": one.key, "attempt": one.attempt}
            if old is None:
                connection.execute(insert(ROWS).values(run=self._run, **names, **values))
            else:
                connection.execute(update(ROWS).where(self._is(one)).values(**values))
            return True

        return await self._do(work)

    async def release(self, one: Reservation, error: str | None = None) -> None:
        """Give a reservation back; record the class of an error that is not to be repeated."""

        def work(connection: Connection) -> None:
            change = update(ROWS).values(reserved=0, error=error) if error else delete(ROWS)
            connection.execute(change.where(self._is(one)))
            self._count(connection)

        await self._do(work)

    async def mark(self, one: Reservation, error: str) -> None:
        """Record the class of an error that is not to be repeated; the money is spent."""
        change = update(ROWS).where(self._is(one)).values(error=error)
        await self._do(lambda connection: connection.execute(change))

    def _is(self, one: Reservation) -> Any:
        same = {"run": self._run, "row": one.row, "key": one.key, "attempt": one.attempt}
        return and_(*(ROWS.c[name] == value for name, value in same.items()))

    def _count(self, connection: Connection) -> None:
        """Set what the run has reserved to the sum of its rows."""
        total = select(func.coalesce(func.sum(ROWS.c.reserved), 0)).where(ROWS.c.run == self._run)
        change = update(RUNS).where(RUNS.c.run == self._run)
        connection.execute(change.values(reserved=total.scalar_subquery()))

    async def _do(self, work: Callable[[Connection], T]) -> T:
        def both(connection: Connection) -> tuple[T, int]:
            result = work(connection)
            total = select(RUNS.c.reserved).where(RUNS.c.run == self._run)
            return result, connection.scalar(total) or 0

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
