"""Ledger records in a database. Requires SQLAlchemy (the extra `bulk`)."""

from __future__ import annotations

import errno
import functools
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.schema import CreateTable

from langchain_tokenhub.errors import InvalidRequestError

T = TypeVar("T")

BUSY_TIMEOUT = 15.0
"""Seconds to wait for another process that writes to the same SQLite file."""
CONNECT_TIMEOUT = 5
"""Seconds to wait for a PostgreSQL server, which is tried twice."""
METADATA = sa.MetaData()
"""The tables; missing ones are created after a transaction has failed."""
CALLS = sa.Table(
    "tokenhub_calls",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
)
_READ = sa.text("SELECT record FROM tokenhub_calls WHERE key = :key")
_CLAIM = sa.text(
    "INSERT INTO tokenhub_calls (key, record) VALUES (:key, :new) ON CONFLICT DO NOTHING"
)
_CHANGE = sa.text("UPDATE tokenhub_calls SET record = :new WHERE key = :key AND record = :old")
_REMOVE = sa.text("DELETE FROM tokenhub_calls WHERE key = :key AND record = :old")
_LIMIT_IDLE = "SET LOCAL idle_in_transaction_session_timeout = '30s'"
"""Frees the locks of a process that lost its network; a server may notice that after hours only."""
_SHOWN = re.compile(
    "Connection refused|timeout expired|password authentication failed|no password supplied"
    "|does not exist|starting up|shutting down|too many clients"
)
"""Parts of drivers' messages that are shown; the rest may hold secrets."""
_HIDDEN = re.compile("password|secret|timeout")
"""Names of a URL's parameters that are neither shown nor pickled."""


class SqlBackend:
    """Records in the table `tokenhub_calls` of SQLite or PostgreSQL.

    A pickle of it holds the URL without its password.

    Args:
        url: `sqlite:///file` or `postgresql+psycopg://user:password@host/name`.

    Raises:
        InvalidRequestError: The URL is not of a supported database.
        ModuleNotFoundError: Its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse_url(url)
        self._is_sqlite = self._url.drivername == "sqlite"
        _engine(self._url, os.getpid())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_without_password(self._url)!r})"

    def __reduce__(self) -> tuple[type[SqlBackend], tuple[str]]:
        return type(self), (_without_password(self._url),)

    def __deepcopy__(self, _memo: object) -> SqlBackend:
        return self

    def get(self, key: str) -> str | None:  # noqa: D102
        record: str | None = self.run(lambda connection: connection.scalar(_READ, {"key": key}))
        return record

    def replace(
        self,
        key: str,
        old: str | None,
        new: str | None,
        links: Mapping[str, str] = MappingProxyType({}),
        also: Callable[[sa.Connection], None] = lambda _: None,
    ) -> bool:
        """Replace a record, see `LedgerBackend`; `also` runs in the same transaction."""
        statement = _CLAIM if old is None else _REMOVE if new is None else _CHANGE

        def change(connection: sa.Connection) -> bool:
            if connection.execute(statement, {"key": key, "old": old, "new": new}).rowcount != 1:
                return False
            for link, source in links.items():
                connection.execute(_CLAIM, {"key": link, "new": source})
            also(connection)
            return True

        return self.run(change)

    def texts(self) -> list[str]:  # noqa: D102
        query = sa.select(CALLS.c.record).where(CALLS.c.key.not_like("links/%"))
        return self.run(lambda connection: list(connection.scalars(query)))

    def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Return what `work` returns, which runs in a transaction.

        Args:
            work: Runs once more, with all tables and a new connection, if the database fails.

        Raises:
            OSError: The database cannot be used.
        """
        process = os.getpid()
        shared = _group(self._url, process).open if self._is_sqlite else None
        if (connection := getattr(shared, "connection", None)) is not None:
            return work(connection)
        engine = _engine(self._url, process)
        try:
            try:
                return _transact(engine, work)
            except exc.DBAPIError:
                _create_tables(engine)
                return _transact(engine, work)
        except exc.SQLAlchemyError as problem:
            reason = _reason(problem)
        raise OSError(errno.EIO, f"{_without_password(self._url)}: {reason}")

    def start_call(self, call: Callable[[], T]) -> Future[T] | None:
        """Call a function that uses these records on a thread; None if they are not SQLite's.

        Calls that wait at the same time share a transaction, and one commit. If one of them fails,
        each is repeated in a transaction of its own: a call may run more than once.
        """
        return _group(self._url, os.getpid()).start(self, call) if self._is_sqlite else None


class _Group:
    """The calls that wait for an SQLite database, and the transaction that they share."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.open = threading.local()
        """`connection`: the transaction in which a thread runs calls."""
        self._threads = threads
        self._lock = threading.Lock()
        self._waiting: list[_Call] = []
        self._is_running = False

    def start(self, backend: SqlBackend, call: Callable[[], T]) -> Future[T]:
        """Queue a call, and run what waits on a thread."""
        future = Future[T]()
        future.set_running_or_notify_cancel()  # it cannot be cancelled
        with self._lock:
            if not self._is_running:
                self._threads.submit(self._run_waiting, backend)  # raises at the interpreter's end
                self._is_running = True
            self._waiting.append((call, future))
        return future

    def _run_waiting(self, backend: SqlBackend) -> None:
        while True:
            with self._lock:
                calls, self._waiting = self._waiting, []
                self._is_running = bool(calls)
            if not calls:
                return
            self._run_together(backend, calls)

    def _run_together(self, backend: SqlBackend, calls: list[_Call]) -> None:
        problem = self._run(backend, calls)
        failures, is_alone = 0, len(calls) == 1
        for one in calls if problem else ():  # outside of `except`: errors refer to no other call
            # after two in a row the database is away, and each would wait for it
            if not is_alone and failures < 2:
                problem = self._run(backend, [one])
                failures = failures + 1 if isinstance(problem, OSError) else 0
            if problem:
                one[1].set_exception(problem)

    def _run(self, backend: SqlBackend, calls: list[_Call]) -> BaseException | None:
        """Run calls in one transaction; return the error of those that failed."""
        try:
            results = backend.run(functools.partial(self._call_all, calls))
        except BaseException as problem:  # noqa: BLE001 - it is raised where the call is awaited
            return problem
        for (_, future), result in zip(calls, results, strict=True):
            future.set_result(result)
        return None

    def _call_all(self, calls: list[_Call], connection: sa.Connection) -> list[Any]:
        self.open.connection = connection
        try:
            return [call() for call, _ in calls]
        finally:
            del self.open.connection


def _parse_url(url: str) -> sa.URL:
    """Return a URL with the driver to use and, of SQLite, an absolute path."""
    parsed = None
    with suppress(exc.ArgumentError, ValueError):  # their text quotes the URL
        parsed = sa.make_url(url)
    match parsed and parsed.drivername, parsed:
        case "sqlite" | "sqlite+pysqlite", sa.URL(database=str() as file, query=query) if (
            file not in {"", ":memory:"} and "uri" not in query
        ):
            path = os.path.abspath(Path(file).expanduser())  # noqa: PTH100 - links stay links
            return sa.URL.create("sqlite", database=path, query=query)
        case "postgresql" | "postgres" | "postgresql+psycopg", sa.URL(query=query):
            limits = {"connect_timeout": str(CONNECT_TIMEOUT), "tcp_user_timeout": "15000"}
            return parsed.set(drivername="postgresql+psycopg", query={**limits, **query})
    kind = repr(parsed.drivername) if parsed else "URL that cannot be read"
    raise InvalidRequestError(
        f"`ledger` cannot be this database: {kind}",
        phase="not sent",
        hint="use sqlite:///path/to/file.db or postgresql+psycopg://user:password@host/name",
    )


_Call: TypeAlias = tuple[Callable[[], Any], Future[Any]]


@functools.cache
def _threads(_process: int) -> ThreadPoolExecutor:
    """Return the threads for all SQLite databases; Python waits for them at its end."""
    return ThreadPoolExecutor(12, thread_name_prefix="tokenhub-ledger")


@functools.cache
def _group(_url: sa.URL, process: int) -> _Group:
    """Return the calls that wait for a database in a process."""
    return _Group(_threads(process))


@functools.cache
def _engine(url: sa.URL, _process: int) -> sa.Engine:
    """Return the engine of a process; after a fork, connections of the parent are not used."""
    sqlite = url.drivername == "sqlite"
    options: dict[str, Any] = {"pool_size": 2, "connect_args": {"prepare_threshold": None}}
    options["isolation_level"] = "READ COMMITTED"  # where the server's default is stricter
    if sqlite:  # threads share one connection: waiting inside SQLite takes longer
        options = {"pool_size": 1, "max_overflow": 0, "connect_args": {"timeout": BUSY_TIMEOUT}}
    engine = sa.create_engine(url, hide_parameters=True, **options)
    if sqlite:
        create = functools.partial(_create_file, Path(str(url.database)))
        event.listen(engine, "do_connect", create)
    return engine


def _create_file(file: Path, *_: object) -> None:
    """Create a database file that others cannot read: records hold signed links."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)


def _transact(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    with engine.connect() as connection:
        try:
            with connection.begin():
                if engine.dialect.name == "postgresql":
                    connection.exec_driver_sql(_LIMIT_IDLE)
                return work(connection)
        except exc.DBAPIError:
            connection.invalidate()  # its file may have been replaced
            raise


def _create_tables(engine: sa.Engine) -> None:
    raced = (exc.IntegrityError, exc.InternalError, exc.ProgrammingError)
    for table in METADATA.sorted_tables:
        with suppress(*raced), engine.begin() as connection:  # another process may create it too
            connection.execute(CreateTable(table, if_not_exists=True))


def _without_password(url: sa.URL) -> str:
    query = {name: value for name, value in url.query.items() if not _HIDDEN.search(name)}
    shown = sa.URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, query
    )
    return shown.render_as_string()


def _reason(problem: exc.SQLAlchemyError) -> str:
    origin = getattr(problem, "orig", None) or problem
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    shown = _SHOWN.findall(str(origin))[:1]
    return " ".join(filter(None, [type(origin).__name__, code, *shown]))
