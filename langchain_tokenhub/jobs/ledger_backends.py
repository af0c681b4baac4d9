"""Where ledger records are stored: a folder, a database, or a LangChain store."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from langchain_core.stores import BaseStore

from langchain_tokenhub.errors import InvalidRequestError, TokenHubError
from langchain_tokenhub.jobs.files import move
from langchain_tokenhub.transport import AsyncRuntime, Runtime

T = TypeVar("T")
Links: TypeAlias = Mapping[str, str]
"""`MediaFile.source` by the key of a link."""
NO_LINKS: Links = MappingProxyType({})

MAX_RECORD_BYTES = 16 * 1024**2
_NAMESPACE = "tokenhub"


@runtime_checkable
class LedgerBackend(Protocol):
    """Where records are stored. Its methods may block."""

    def get(self, key: str) -> str | None:
        """Return the record, or None."""

    def replace(self, key: str, old: str | None, new: str | None, links: Links = NO_LINKS) -> bool:
        """Write `new` in place of `old` in one step; None stands for no record.

        Args:
            key: The call.
            old: Its record.
            new: Its next record.
            links: Records of links, which are created where there are none.

        Returns:
            False if the record was not `old`; nothing was changed.
        """
        ...

    def texts(self) -> Iterable[str]:
        """Yield every readable record."""
        ...


class FolderBackend:
    """Records as files; each step is atomic on local disks and NFS."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.json"

    def get(self, key: str) -> str | None:  # noqa: D102
        return _read(self._file(key))

    def replace(  # noqa: D102
        self, key: str, old: str | None, new: str | None, links: Links = NO_LINKS
    ) -> bool:
        if not self._write(key, old, new):
            return False
        for link, source in links.items():
            self._write(link, None, source)
        return True

    def _write(self, key: str, old: str | None, new: str | None) -> bool:
        file = self._file(key)
        with nullcontext() if new is None else _part(file, new) as part:
            if old is None and part is not None:
                with suppress(FileExistsError):
                    return bool(move(part, file))
                return False
            with _hold_lock(self._path / ".lock"):
                if _read(file) != old:
                    return False
                if part is None:
                    file.unlink(missing_ok=True)
                else:
                    part.replace(file)
        return True

    def texts(self) -> Iterator[str]:  # noqa: D102
        for file in self._path.glob("*.json"):
            with suppress(OSError, InvalidRequestError):
                yield _read(file) or ""


class StoreBackend:
    """Records in a LangChain store, which has no atomic step.

    Two workers that start the same call at the same time may both submit.
    """

    def __init__(self, store: BaseStore[str, Any]) -> None:
        self._store = store

    def get(self, key: str) -> str | None:  # noqa: D102
        return _as_text(self._store.mget([f"{_NAMESPACE}/{key}"])[0])

    def replace(  # noqa: D102
        self, key: str, old: str | None, new: str | None, links: Links = NO_LINKS
    ) -> bool:
        if self.get(key) != old:
            return False
        if new is None:
            self._store.mdelete([f"{_NAMESPACE}/{key}"])
        else:
            records = {key: new, **links}
            self._store.mset([(f"{_NAMESPACE}/{k}", v.encode()) for k, v in records.items()])
        return True

    def texts(self) -> Iterator[str]:  # noqa: D102
        keys = list(self._store.yield_keys(prefix=_NAMESPACE))
        yield from filter(None, map(_as_text, self._store.mget(keys)))


def _as_text(found: Any) -> str | None:
    """Return a stored value as text; anything but bytes and text is an unreadable record."""
    if isinstance(found, bytes):
        return found.decode(errors="replace")
    return found if found is None or isinstance(found, str) else f"({type(found).__name__})"


def _read(file: Path) -> str | None:
    """Return the text of a record, or None if there is no such file.

    Raises:
        InvalidRequestError: It is not a readable file of a plausible size.
    """
    try:
        facts = file.stat()
        if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_RECORD_BYTES:
            return file.read_bytes().decode(errors="replace")
        reason = f"is not a regular file of at most {MAX_RECORD_BYTES // 1024**2} MB"
    except FileNotFoundError:
        if not file.is_symlink():
            return None
        reason = "is a link to a file that does not exist"
    except NotADirectoryError:
        raise
    except OSError as problem:
        reason = f"cannot be read ({problem.strerror})"
    raise InvalidRequestError(
        f"the ledger cannot be used: its entry {file.name!r} {reason}",
        phase="not sent",
        hint=f"check {str(file)!r}: the call may have been charged before; once that is clear, "
        "move the entry away and call again",
    )


@contextmanager
def _part(file: Path, text: str) -> Iterator[Path]:
    """Yield a temporary file next to `file` that holds `text`, and remove it if it is left."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as opened:
            opened.write(text.encode())
            opened.flush()
            os.fsync(opened.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _hold_lock(lock: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system releases the lock of a killed process."""
    with lock.open("ab") as opened:
        _lock(opened.fileno())
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        while True:
            with suppress(PermissionError):  # another process holds it
                return msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            time.sleep(0.002)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)


async def call_backend(
    runtime: Runtime, backend: object, function: Callable[..., T], *args: Any
) -> T:
    """Call a function that uses a backend; in async code on a thread, perhaps the backend's.

    Raises:
        InvalidRequestError: The backend cannot be used.
    """
    start = getattr(backend, "start_call", None)
    try:
        future: Future[T] | None = None
        if start is not None and isinstance(runtime, AsyncRuntime):
            future = start(functools.partial(function, *args))
        if future is None:
            return await runtime.blocking(function, *args)
        return await asyncio.wrap_future(future)
    except TokenHubError:
        raise
    except Exception as problem:  # noqa: BLE001 - a user's store may raise anything
        reason = getattr(problem, "strerror", None) or type(problem).__name__
    raise InvalidRequestError(
        f"the ledger cannot be used: {reason}",
        phase="not sent",
        hint="repair the folder, database or store, but do not remove it: it holds what is paid",
    )


def backend_for(location: str | Path | BaseStore[str, Any] | LedgerBackend) -> LedgerBackend:
    """Return the backend of a folder, of a database's URL, or of a store.

    Raises:
        InvalidRequestError: The database is not supported, or a library is missing.
    """
    match location:
        case BaseStore():
            return StoreBackend(location)
        case str() if "://" in location:
            return _database(location)
        case str() | Path():
            return FolderBackend(Path(location).expanduser())
        case _:
            return location


def _database(url: str) -> LedgerBackend:
    try:
        from langchain_tokenhub.jobs.ledger_sql import SqlBackend

        return SqlBackend(url)
    except ModuleNotFoundError as missing:
        name = str(missing.name)
    driver = "" if url.startswith("sqlite") else " 'psycopg[binary]'"
    raise InvalidRequestError(
        f"a ledger in a database needs {name}",
        phase="not sent",
        hint=f"pip install 'langchain-tokenhub[bulk]'{driver}",
    )
