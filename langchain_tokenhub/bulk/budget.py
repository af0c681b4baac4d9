"""What a run has submitted and what that is estimated to cost, in the ledger's database.

A claim and its price are written in one transaction, and so are a removed claim and its refund: the
sum counts each submit once, whatever becomes of the processes. Requires SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import BigInteger, Column, Connection, Table, Text, text

from langchain_tokenhub.bulk.report import Counts
from langchain_tokenhub.errors import BudgetExceededError
from langchain_tokenhub.jobs.ledger import Entry, entries_of
from langchain_tokenhub.jobs.ledger_backends import NO_LINKS, Links, call_backend
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
    Column("token", Text, nullable=False),  # of the ledger's entry; empty if there is none
    Column("error", Text, nullable=False),
)
_INSERT_RUN = text("INSERT INTO tokenhub_runs VALUES (:run, 0) ON CONFLICT DO NOTHING")
_SPEND = text(
    "UPDATE tokenhub_runs SET spent = spent + :cny WHERE run = :run AND spent + :cny <= :most"
)
_INSERT_SUBMIT = text(
    "INSERT INTO tokenhub_submits VALUES (:key, :token, :run, :cny) ON CONFLICT DO NOTHING"
)
_SUBMITTED = text("SELECT run, cny FROM tokenhub_submits WHERE key = :key AND token = :token")
_DELETE_SUBMIT = text("DELETE FROM tokenhub_submits WHERE key = :key AND token = :token")
_REFUND = text("UPDATE tokenhub_runs SET spent = spent - :cny WHERE run = :run")
_SPENT = text("SELECT spent FROM tokenhub_runs WHERE run = :run")
_KEYS = text("SELECT key FROM tokenhub_submits WHERE run = :run")
_IS_SUBMITTED = text("SELECT 1 FROM tokenhub_submits WHERE key = :key AND run = :run LIMIT 1")
_UPSERT_FAILURE = text(
    "INSERT INTO tokenhub_failures VALUES (:run, :key, :token, :error) "
    "ON CONFLICT (run, key) DO UPDATE SET token = :token, error = :error"
)
_FAILURES = text("SELECT key, token, error FROM tokenhub_failures WHERE run = :run")


class RowBackend:
    """The ledger's records for one row, whose price is spent and refunded with its claims."""

    def __init__(
        self, backend: SqlBackend, run: str, key: str, cny: float, budget_cny: float | None
    ) -> None:
        self._backend = backend
        self._cny = _micro(cny)
        self._most = UNLIMITED if budget_cny is None else _micro(budget_cny)
        self._row = {"run": run, "key": key, "cny": self._cny}
        self.get = backend.get
        self.start_call = backend.start_call
        self.texts = backend.texts

    def replace(self, key: str, old: str | None, new: str | None, links: Links = NO_LINKS) -> bool:
        """Replace a record, see `LedgerBackend`.

        Raises:
            BudgetExceededError: The budget does not allow the claim that `new` adds.
        """

        def update_budget(connection: Connection) -> None:
            before, after = _by_token(old), _by_token(new)
            for token in after.keys() - before:
                self._spend(connection, after[token])
            # an accepted submit takes the place of others, which stay paid for
            accepted = {token for token, entry in after.items() if entry.job}
            if accepted <= {token for token, entry in before.items() if entry.job}:
                for token in before.keys() - after:
                    _refund(connection, key, token)

        return self._backend.replace(key, old, new, links, update_budget)

    def _spend(self, connection: Connection, entry: Entry) -> None:
        # one that is not pending was submitted, whatever the budget
        most = self._most if entry.is_pending else UNLIMITED
        values = {**self._row, "token": entry.token, "most": most}
        if connection.execute(_INSERT_SUBMIT, values).rowcount != 1:
            return
        if connection.execute(_SPEND, values).rowcount == 1:
            return
        connection.execute(_INSERT_RUN, values)  # the database may have been replaced
        if connection.execute(_SPEND, values).rowcount != 1:
            spent = connection.scalar(_SPENT, values) or 0
            raise BudgetExceededError(
                f"the budget of {_cny(self._most):g} CNY does not allow {_cny(self._cny):g} CNY "
                f"more; {_cny(spent):g} CNY are spent",
                phase="not sent",
                hint="raise the budget and run again",
            )


def _refund(connection: Connection, key: str, token: str) -> None:
    """Subtract the price of a submit that was refused, or whose job failed."""
    values = {"key": key, "token": token}
    if (row := connection.execute(_SUBMITTED, values).first()) is not None:
        connection.execute(_DELETE_SUBMIT, values)
        connection.execute(_REFUND, {"run": row.run, "cny": row.cny})


def _by_token(record: str | None) -> Mapping[str, Entry]:
    return {entry.token: entry for entry in entries_of(record)}


class Budget:
    """What a run has spent, also in other processes: each call writes it to `counts`."""

    def __init__(self, backend: SqlBackend, runtime: Runtime, run: str, counts: Counts) -> None:
        self._backend = backend
        self._runtime = runtime
        self._run = {"run": run}
        self._counts = counts

    async def open(self) -> tuple[set[str], dict[tuple[str, str], str]]:
        """Return the calls that the run has submitted, and errors by key and entry."""

        def work(connection: Connection) -> tuple[set[str], dict[tuple[str, str], str]]:
            connection.execute(_INSERT_RUN, self._run)
            failures = connection.execute(_FAILURES, self._run)
            errors = {(one.key, one.token): one.error for one in failures}
            return set(connection.scalars(_KEYS, self._run)), errors

        return await self._do(work)

    async def refresh(self) -> None:
        """Read what is spent."""
        await self._do(lambda _: None)

    async def record_end(self, key: str, token: str, error: str | None) -> bool:
        """Record how a call ended, with an error's class if it is not to be repeated.

        Returns:
            Whether the run has paid for the call.
        """
        values = {**self._run, "key": key, "token": token, "error": error}

        def work(connection: Connection) -> bool:
            if error is not None:
                connection.execute(_UPSERT_FAILURE, values)
            return connection.scalar(_IS_SUBMITTED, values) is not None

        return await self._do(work)

    async def _do(self, work: Callable[[Connection], T]) -> T:
        def both(connection: Connection) -> tuple[T, int]:
            return work(connection), connection.scalar(_SPENT, self._run) or 0

        result, spent = await call_backend(
            self._runtime, self._backend, lambda: self._backend.run(both)
        )
        self._counts.spent = _cny(spent)
        return result


def _micro(cny: float) -> int:
    return round(cny * MICRO)


def _cny(micro: int) -> float:
    return micro / MICRO
