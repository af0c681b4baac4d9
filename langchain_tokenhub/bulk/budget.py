"""What a run has submitted and what that is estimated to cost, in the ledger's database.

The estimate of a row is reserved before its submit, so that money spent counts whatever becomes of
the process. No prompt and no key is stored. This module needs SQLAlchemy, the extra `bulk`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Column, Connection, Float, Table, Text, text

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.ledger_sql import METADATA, SqlBackend
from langchain_tokenhub.transport import Runtime

T = TypeVar("T")

MICRO = 1_000_000
"""Amounts are stored in millionths of a yuan."""
MOST = 2**62
"""Of an amount: no budget."""
STALE = 60.0
"""Seconds after which a reservation without a ledger entry counts as left behind."""

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
    Column("attempt", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("error", Text),
    Column("at", Float, nullable=False),
)
_THIS = "run = :run AND id = :id AND key = :key AND attempt = :attempt"
_BEGIN = text("INSERT INTO tokenhub_runs VALUES (:run, 0) ON CONFLICT DO NOTHING")
_TOTAL = text("SELECT reserved FROM tokenhub_runs WHERE run = :run")
_STALE = text(
    "DELETE FROM tokenhub_rows WHERE run = :run AND error IS NULL AND at < :at AND NOT EXISTS "
    "(SELECT 1 FROM tokenhub_calls WHERE tokenhub_calls.key = tokenhub_rows.key)"
)
_ROWS = text("SELECT id, key, error FROM tokenhub_rows WHERE run = :run")
_ROW = text(f"SELECT error FROM tokenhub_rows WHERE {_THIS}")  # noqa: S608 - a constant
_RAISE = text(
    "UPDATE tokenhub_runs SET reserved = reserved + :reserved "
    "WHERE run = :run AND reserved + :reserved <= :most"
)
_RESERVE = text(
    "INSERT INTO tokenhub_rows (run, id, key, attempt, account, model, reserved, at) "
    "VALUES (:run, :id, :key, :attempt, :account, :model, :reserved, :at) "
    "ON CONFLICT (run, id, key, attempt) "
    "DO UPDATE SET account = :account, reserved = :reserved, error = NULL, at = :at"
)
_REMOVE = text(f"DELETE FROM tokenhub_rows WHERE {_THIS}")  # noqa: S608 - a constant
_REFUSE = text(
    f"UPDATE tokenhub_rows SET reserved = 0, error = :error WHERE {_THIS}"  # noqa: S608 - constant
)
_MARK = text(f"UPDATE tokenhub_rows SET error = :error WHERE {_THIS}")  # noqa: S608 - a constant
_COUNT = text(
    "UPDATE tokenhub_runs SET reserved = (SELECT COALESCE(SUM(reserved), 0) FROM tokenhub_rows "
    "WHERE run = :run) WHERE run = :run"
)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The estimated price of one submit.

    Args:
        id: The row's id.
        key: Its key in the ledger.
        account: Hash of the key that pays.
        model: Model id.
        reserved: Estimated price in millionths of a yuan.
        attempt: Distinguishes a submit on purpose from an earlier one; else empty.
    """

    id: str
    key: str
    account: str
    model: str
    reserved: int
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
        self._most = MOST if budget_cny is None else micro(budget_cny)
        self.spent = 0.0
        """CNY reserved so far, by earlier processes too."""

    async def open(self) -> dict[tuple[str, str], str | None]:
        """Return the rows with a reservation or a failure, and the class of the failure's error.

        Reservations of killed processes that submitted nothing are given back.
        """
        run = {"run": self._run}

        def work(connection: Connection) -> list[Any]:
            connection.execute(_BEGIN, run)
            connection.execute(_STALE, {**run, "at": time.time() - STALE})
            connection.execute(_COUNT, run)
            return list(connection.execute(_ROWS, run))

        return {(row, key): error for row, key, error in await self._do(work)}

    async def reserve(self, one: Reservation) -> bool:
        """Reserve the price of a submit; return False if the budget does not allow it."""
        values = {"run": self._run, "most": self._most, "at": time.time(), **asdict(one)}

        def work(connection: Connection) -> bool:
            old = connection.execute(_ROW, values).first()
            if old is not None and old.error is None:
                return True
            if connection.execute(_RAISE, values).rowcount != 1:
                return False
            connection.execute(_RESERVE, values)
            return True

        return await self._do(work)

    async def release(self, one: Reservation, error: str | None = None) -> None:
        """Give a reservation back; record the class of an error that is not to be repeated."""
        values = {"run": self._run, "error": error, **asdict(one)}

        def work(connection: Connection) -> None:
            connection.execute(_REFUSE if error else _REMOVE, values)
            connection.execute(_COUNT, values)

        await self._do(work)

    async def mark(self, one: Reservation, error: str) -> None:
        """Record the class of an error that is not to be repeated; the money is spent."""
        values = {"run": self._run, "error": error, **asdict(one)}
        await self._do(lambda connection: connection.execute(_MARK, values))

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


def micro(cny: float) -> int:
    """Return an amount in millionths of a yuan."""
    return round(cny * MICRO)
