"""Where ledger records are stored: a folder, a database, or a LangChain store."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from langchain_core.stores import BaseStore

from langchain_tokenhub.errors import InvalidRequestError

LOCK_TIMEOUT = 10.0
"""Seconds after which an unchanged lock file counts as left behind; it is held for microseconds."""
MAX_ENTRY_BYTES = 16 * 1024**2
_NAMESPACE = "tokenhub"


@runtime_checkable
class LedgerBackend(Protocol):
    """Where records are stored. Its methods may block."""

    def get(self, key: str) -> str | None:
        """Return the record, or None."""

    def replace(self, key: str, old: str | None, new: str | None) -> bool:
        """Write `new` in place of `old` in one step; None stands for no record.

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

    def replace(self, key: str, old: str | None, new: str | None) -> bool:  # noqa: D102
        file = self._file(key)
        if old is None:
            return new is None or _create(file, new)
        with _part(file, new) as part, _locked(file.with_name(f"{file.name}.lock")):
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

    Two workers that start the same call at the same moment may both submit.
    """

    def __init__(self, store: BaseStore[str, Any]) -> None:
        self._store = store

    def get(self, key: str) -> str | None:  # noqa: D102
        return _decoded(self._store.mget([f"{_NAMESPACE}/{key}"])[0])

    def replace(self, key: str, old: str | None, new: str | None) -> bool:  # noqa: D102
        if self.get(key) != old:
            return False
        if new is None:
            self._store.mdelete([f"{_NAMESPACE}/{key}"])
        else:
            self._store.mset([(f"{_NAMESPACE}/{key}", new.encode(errors=_HALF))])
        return True

    def texts(self) -> Iterator[str]:  # noqa: D102
        keys = list(self._store.yield_keys(prefix=_NAMESPACE))
        yield from filter(None, map(_decoded, self._store.mget(keys)))


_HALF = "backslashreplace"
"""Half a surrogate pair has no UTF-8; with a backslash it is what JSON has for it."""


def _decoded(found: Any) -> str | None:
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
        if not stat.S_ISREG(file.stat().st_mode):
            raise _unreadable(file, "is not a regular file")
        with os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
            data = opened.read(MAX_ENTRY_BYTES + 1)
    except FileNotFoundError:
        if file.is_symlink():
            raise _unreadable(file, "is a link to a file that does not exist") from None
        return None
    except NotADirectoryError:
        raise
    except OSError as problem:
        raise _unreadable(file, f"cannot be read ({problem.strerror})") from None
    if len(data) > MAX_ENTRY_BYTES:
        raise _unreadable(file, f"is larger than {MAX_ENTRY_BYTES // 1024**2} MB")
    return data.decode(errors="replace")


def _unreadable(file: Path, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the ledger cannot be used: its entry {file.name!r} {reason}",
        phase="not sent",
        hint=f"look at {str(file)!r}; the call may have been charged before: once that is settled, "
        "move the entry away and call again",
    )


def _create(file: Path, text: str) -> bool:
    """Write a file that does not exist yet; return False if it does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    try:
        _write(handle, text)
    except BaseException:  # a claim that was not written whole would block the call
        file.unlink(missing_ok=True)
        raise
    return True


@contextmanager
def _part(file: Path, text: str | None) -> Iterator[Path | None]:
    """Yield a temporary file beside `file` that holds `text`, and remove it if it stays."""
    if text is None:
        yield None
        return
    part = file.with_name(f"{file.name}.part-{secrets.token_hex(4)}")
    try:
        _write(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), text)
        yield part
    finally:
        part.unlink(missing_ok=True)


def _write(handle: int, text: str) -> None:
    with os.fdopen(handle, "w", encoding="utf-8", errors=_HALF) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock file; one that a killed process left behind is removed after `LOCK_TIMEOUT`."""
    while not (mine := _lock(lock)):
        seen, until = _version(lock), time.monotonic() + LOCK_TIMEOUT
        while seen is not None and _version(lock) == seen:
            if time.monotonic() >= until:
                _break(lock, seen)
                break
            time.sleep(0.002)
    try:
        yield
    finally:
        if _version(lock) == mine:
            lock.unlink(missing_ok=True)


def _lock(lock: Path) -> tuple[int, int] | None:
    """Create a lock file and return its version, or None if there is one."""
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return None
    return _version(lock)


def _version(file: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        facts = file.lstat()
        return facts.st_ino, facts.st_mtime_ns
    return None


def _break(lock: Path, seen: tuple[int, int]) -> None:
    """Remove a lock that was left behind, unless another worker has just replaced it."""
    old = lock.with_name(f"{lock.name}-{secrets.token_hex(4)}")
    with suppress(OSError):
        lock.rename(old)
        if _version(old) != seen:
            os.link(old, lock)
        old.unlink()


def backend_for(location: str | Path | BaseStore[str, Any] | LedgerBackend) -> LedgerBackend:
    """Return the backend of a folder, of a database's URL, or of a store.

    Raises:
        InvalidRequestError: The database is of a kind that cannot be used, or a library is missing.
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
    except ModuleNotFoundError:
        raise InvalidRequestError(
            "a database as `ledger` needs SQLAlchemy",
            phase="not sent",
            hint="pip install 'langchain-tokenhub[bulk]'",
        ) from None
    return SqlBackend(url)
