"""Jobs in flight, counted over processes: a folder, or a Redis.

A place is held by a process, not by a job. In a folder it is a lock of the operating system, in
Redis a lease that is renewed, so the places of a process that dies come back: at once, or when the
lease ends. Its jobs may still run at the service then, and one more is refused there for a while
(`JobNumExceed`), which is waited out like every full account. Nothing is ever blocked by the dead.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import sys
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from langchain_tokenhub.errors import InvalidRequestError

logger = logging.getLogger("langchain_tokenhub.jobs")

LEASE = 60.0
"""Seconds after which the places of a dead process come back from Redis; renewed four times."""
SOCKET_SECONDS = 5.0


def _lock(handle: int) -> bool:
    """Lock an open file, and say whether nobody else has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # not at the top: a system without it can do all but this

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)


class Places(Protocol):
    """So many places, shared by processes. The methods may block for a moment."""

    def take(self, most: int) -> Any:
        """Return a place, or None where all of `most` are taken."""

    def give(self, place: Any) -> None:
        """Give a place back."""

    def moves(self) -> Any:
        """Return what changes whenever a place is taken or given back."""


class FolderPlaces:
    """Places as files that are locked; for processes of one machine, or of a current NFS."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def take(self, most: int) -> int | None:  # noqa: D102
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(most):
            file = self._folder / f"{self._name}-{number}.slot"
            if (handle := _locked(file)) is not None:
                _held[handle] = file
                _touch(file)
                return handle
        return None

    def give(self, place: int) -> None:  # noqa: D102
        _touch(_held.pop(place))
        _unlock(place)
        os.close(place)

    def moves(self) -> list[int]:  # noqa: D102
        files = sorted(self._folder.glob(f"{self._name}-*.slot"))
        return [file.stat().st_mtime_ns for file in files]


_held: dict[int, Path] = {}
"""Files that this process has locked, by handle."""


def _locked(file: Path) -> int | None:
    """Open and lock a file; None where somebody else has."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    mine = False
    try:
        mine = _lock(handle)
    finally:
        if not mine:
            os.close(handle)
    return handle if mine else None


def _touch(file: Path) -> None:
    with suppress(OSError):  # by name: not every system touches by handle
        os.utime(file)


def _forget_handles() -> None:
    """Close, in a forked child, what its parent holds: else the child would hold it too."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_handles)


_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2000)
redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], 86400000)
return 1
"""
_RENEW = """
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1000000 + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2000)
"""
_GIVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('INCR', KEYS[2])
"""


class RedisPlaces:
    """Places as leases in a Redis; for processes of many machines."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._keys = (f"{{tokenhub:{name}}}:places", f"{{tokenhub:{name}}}:moves")

    def take(self, most: int) -> str | None:  # noqa: D102
        token = uuid.uuid4().hex
        if not self._do(_TAKE, token, LEASE, most):
            return None
        _renewer().add(token, self)
        return token

    def give(self, place: str) -> None:  # noqa: D102
        _renewer().discard(place)
        self._do(_GIVE, place)

    def moves(self) -> Any:  # noqa: D102
        return self._do("return redis.call('GET', KEYS[2])")

    def renew(self, place: str) -> None:
        """Let a lease begin anew."""
        self._do(_RENEW, place, LEASE)

    def _do(self, script: str, *args: Any) -> Any:
        from redis.exceptions import RedisError

        try:
            return _client(self._url, os.getpid()).eval(script, 2, *self._keys, *map(str, args))
        except RedisError as problem:
            reason = type(problem).__name__  # its text may hold the address, and so a password
        raise ConnectionError(0, reason)


@functools.cache
def _client(url: str, _process: int) -> Any:
    from redis import Redis

    return Redis.from_url(url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS)


class _Renewer:
    """One thread a process, alive while there are leases to renew."""

    def __init__(self) -> None:
        self._leases: dict[str, RedisPlaces] = {}
        self._lock = threading.Lock()
        self._running = False

    def add(self, token: str, places: RedisPlaces) -> None:
        with self._lock:
            self._leases[token] = places
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="tokenhub-leases", daemon=True).start()

    def discard(self, token: str) -> None:
        with self._lock:
            self._leases.pop(token, None)

    def _run(self) -> None:
        pause = threading.Event()
        while self._left():
            pause.wait(LEASE / 4)
            for token, places in list(self._leases.items()):
                self._renew(token, places)

    def _renew(self, token: str, places: RedisPlaces) -> None:
        try:
            places.renew(token)
        except OSError as problem:
            logger.warning("a place in flight could not be renewed: %s", problem)
        if token not in self._leases:  # given back meanwhile
            with suppress(OSError):
                places.give(token)

    def _left(self) -> bool:
        with self._lock:
            self._running = bool(self._leases)
            return self._running


@functools.cache
def _renewer_of(_process: int) -> _Renewer:
    return _Renewer()


def _renewer() -> _Renewer:
    return _renewer_of(os.getpid())


class Claim:
    """A place that is wanted; who leaves while a thread still takes it leaves nothing behind."""

    def __init__(self, places: Places, most: int) -> None:
        self._places = places
        self._most = most
        self._held: Any = None
        self._gone = False
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a place if one is free."""
        try:
            place = self._places.take(self._most)
        except (OSError, ImportError) as problem:
            raise _unusable(problem) from None
        with self._lock:
            if not self._gone:
                self._held = place
                return place is not None
        self._free(place)
        return False

    def moves(self) -> Any:
        """Return what changes when anybody moves."""
        with suppress(OSError):
            return self._places.moves()

    def give(self) -> None:
        """Give the place back, or want it no more."""
        with self._lock:
            self._gone, place, self._held = True, self._held, None
        self._free(place)

    def _free(self, place: Any) -> None:
        try:
            if place is not None:
                self._places.give(place)
        except OSError as problem:
            logger.warning("a place in flight could not be given back: %s", problem)


def _unusable(problem: OSError | ImportError) -> InvalidRequestError:
    reason = getattr(problem, "strerror", None) or type(problem).__name__
    return InvalidRequestError(
        f"in_flight_store cannot be used: {reason}",
        phase="not sent",
        hint="mend the folder or the Redis given as `in_flight_store`; nothing was charged",
    )


def places_of(store: str | Path, account: str, model: str, origins: Sequence[str]) -> Places:
    """Return the places of an account, model and site.

    Args:
        store: Folder, or the URL of a Redis.
        account: The API key; only a digest of it, the model and the site is stored.
        model: Model id.
        origins: The site's hosts.
    """
    whole = json.dumps([hashlib.sha256(account.encode()).hexdigest(), model, list(origins)])
    digest = hashlib.sha256(whole.encode()).hexdigest()[:24]
    name = f"{re.sub(r'[^a-z0-9.-]', '_', model.lower())[:80]}-{digest}"
    if re.match(r"(rediss?|unix)://", str(store)):
        return _in_redis(str(store), name)
    return FolderPlaces(Path(store).expanduser(), name)


def _in_redis(url: str, name: str) -> Places:
    try:
        import redis  # noqa: F401 - asked for before anything is paid
    except ImportError:
        pass
    else:
        return RedisPlaces(url, name)
    raise InvalidRequestError(
        "in_flight_store is a Redis, and its library is not installed",
        phase="not sent",
        hint="pip install 'langchain-tokenhub[scale]'",
    )
