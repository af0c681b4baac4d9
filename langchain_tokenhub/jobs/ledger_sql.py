"""Ledger records in a database. This module alone imports SQLAlchemy, the extra `bulk`."""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    exc,
    make_url,
    select,
    text,
)
from sqlalchemy.schema import CreateTable

from langchain_tokenhub.errors import InvalidRequestError

T = TypeVar("T")

BUSY_TIMEOUT = 15.0
"""Seconds to wait for another process that writes to the same SQLite file."""
CONNECT_TIMEOUT = 5
"""Seconds to wait for a PostgreSQL server, which is tried twice."""
METADATA = MetaData()
"""The tables; those that are absent are created by the first step that fails for it."""
CALLS = Table(
    "tokenhub_calls",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("record", Text, nullable=False),
)
_CLAIM = text("INSERT INTO tokenhub_calls (key, record) VALUES (:key, :new) ON CONFLICT DO NOTHING")
_CHANGE = text("UPDATE tokenhub_calls SET record = :new WHERE key = :key AND record = :old")
_REMOVE = text("DELETE FROM tokenhub_calls WHERE key = :key AND record = :old")
_KNOWN_REASONS = (
    "Connection refused",
    "timeout expired",
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "starting up",
    "shutting down",
    "too many clients",
)
"""Parts of drivers' messages that may be shown; the rest may quote anything."""


class SqlBackend:
    """Records in the table `tokenhub_calls` of SQLite or PostgreSQL.

    A pickle of it holds the URL without its password.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://user:password@host/name`.

    Raises:
        InvalidRequestError: The URL is of another kind, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._engine()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_without_password(self._url)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SqlBackend) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __reduce__(self) -> tuple[type[SqlBackend], tuple[str]]:
        return type(self), (_without_password(self._url),)

    def __deepcopy__(self, _memo: object) -> SqlBackend:
        return self

    def __copy__(self) -> SqlBackend:
        return self

    def get(self, key: str) -> str | None:  # noqa: D102
        query = select(CALLS.c.record).where(CALLS.c.key == key)
        return self.run(lambda connection: connection.scalar(query))

    def replace(self, key: str, old: str | None, new: str | None) -> bool:  # noqa: D102
        if old is None and new is None:
            return True
        statement = _CLAIM if old is None else _REMOVE if new is None else _CHANGE
        names = {"key": key, "old": old, "new": new}
        values = {name: value for name, value in names.items() if value is not None}
        attempts = []

        def change(connection: Connection) -> bool:
            attempts.append(statement)
            return connection.execute(statement, values).rowcount == 1

        # the first attempt may have changed the record before its connection was lost
        return self.run(change) or (len(attempts) > 1 and self.get(key) == new)

    def texts(self) -> list[str]:  # noqa: D102
        query = select(CALLS.c.record).where(CALLS.c.key.not_like("links/%"))
        return self.run(lambda connection: list(connection.scalars(query)))

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; once more if that fails, with tables and a new connection.

        Args:
            work: May run twice, so it must not depend on the number of times.

        Raises:
            OSError: The database cannot be used.
        """
        engine = self._engine()
        try:
            try:
                return _transact(engine, work)
            except exc.DBAPIError:
                engine.dispose()
                _create_tables(engine)
                return _transact(engine, work)
        except exc.SQLAlchemyError as problem:
            reason = _reason(problem)
        raise OSError(errno.EIO, f"{_without_password(self._url)}: {reason}")

    def _engine(self) -> Engine:
        return _engine(self._url, os.getpid())


def _checked(url: str) -> URL:
    """Return a URL with the driver to use and, of SQLite, an absolute path."""
    try:
        made = make_url(url)
    except (exc.ArgumentError, ValueError):  # whose text quotes the URL
        made = None
    if made is None:
        raise _refused("the database URL given as `ledger` cannot be read")
    match made.drivername:
        case "sqlite" | "sqlite+pysqlite":
            if made.database in {None, "", ":memory:"} or "uri" in made.query:
                raise _refused("as `ledger`, SQLite needs a file")
            path = os.path.abspath(Path(str(made.database)).expanduser())  # noqa: PTH100 - links stay links
            return made.set(drivername="sqlite", database=path)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            limits = {"connect_timeout": str(CONNECT_TIMEOUT), "tcp_user_timeout": "15000"}
            query = {**limits, **made.query}
            return made.set(drivername="postgresql+psycopg", query=query)
        case other:
            raise _refused(f"a database {other!r} cannot be a `ledger`")


def _refused(problem: str) -> InvalidRequestError:
    return InvalidRequestError(
        problem,
        phase="not sent",
        hint="use sqlite:///path/to/file.db or postgresql+psycopg://user:password@host/name",
    )


@functools.cache
def _engine(url: URL, _process: int) -> Engine:
    """Return the engine of a process; after a fork, connections of the parent are not used."""
    sqlite = url.drivername == "sqlite"
    options: dict[str, Any] = {"pool_size": 2, "connect_args": {"prepare_threshold": None}}
    if sqlite:  # threads take turns: waiting for each other inside SQLite takes longer
        options = {"pool_size": 1, "max_overflow": 0, "connect_args": {"timeout": BUSY_TIMEOUT}}
    try:
        engine = create_engine(url, hide_parameters=True, **options)
    except ModuleNotFoundError:
        raise InvalidRequestError(
            "PostgreSQL as `ledger` needs psycopg",
            phase="not sent",
            hint="pip install 'psycopg[binary]'",
        ) from None
    if sqlite:
        event.listen(engine, "do_connect", functools.partial(_create_file, Path(str(url.database))))
    return engine


def _create_file(file: Path, *_: object) -> None:
    """Create a database file that others cannot read: records hold signed links."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _create_tables(engine: Engine) -> None:
    raced = (exc.IntegrityError, exc.InternalError, exc.ProgrammingError)
    with suppress(*raced), engine.begin() as connection:  # another process may create them too
        for table in METADATA.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))


def _without_password(url: URL) -> str:
    hidden = re.compile(r"password|secret|timeout")
    query = {name: value for name, value in url.query.items() if not hidden.search(name)}
    shown = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
    return shown.render_as_string()


def _reason(problem: exc.SQLAlchemyError) -> str:
    """Return what failed, without the message of the driver."""
    origin = getattr(problem, "orig", None) or problem
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    known = [reason for reason in _KNOWN_REASONS if reason in str(origin)]
    return " ".join(filter(None, [type(origin).__name__, code, *known[:1]]))
