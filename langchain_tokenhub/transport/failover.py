"""State that the calls of a site share: the health of its hosts, and a budget of retries.

A host that cannot be connected to is not used for a cooldown, which doubles with each further
failure. After the cooldown one request tries the host while the others stay with the backup.
Failover never leaves the site, as other sites have other keys, models and laws.
"""

from __future__ import annotations

import ipaddress
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

BASE_COOLDOWN = 30.0
"""Seconds for which an unavailable host is not used; doubles up to `MAX_COOLDOWN`."""
MAX_COOLDOWN = 300.0
PROBE_INTERVAL = 15.0
"""Seconds after which a probe without an outcome no longer counts."""
MAX_FAILURES = 2
"""Consecutive gateway errors that make a host unavailable."""
FAILURE_WINDOW = 30.0
"""Seconds within which they must occur."""


@dataclass
class _Health:
    failures: int = 0
    failed_at: float = 0.0
    cooldowns: int = 0
    unavailable_until: float = 0.0
    probed_until: float = 0.0


class Hosts:
    """The origins of one site, the primary first. Times are monotonic seconds."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.origins = origins
        self._health = {origin: _Health() for origin in origins}
        self._lock = threading.Lock()

    def order(self, now: float, *, prefer: str | None = None) -> tuple[str, ...]:
        """Return the origins in the order in which to try them, the preferred host first."""
        if len(self.origins) == 1:
            return self.origins
        ranked = sorted(self.origins, key=lambda origin: host_name(origin) != prefer)
        with self._lock:
            first, *others = sorted(ranked, key=lambda origin: not self._is_usable(origin, now))
            if self._health[first].unavailable_until and self._is_usable(first, now):
                self._health[first].probed_until = now + PROBE_INTERVAL  # others use the backup
        return first, *others

    def _is_usable(self, origin: str, now: float) -> bool:
        health = self._health[origin]
        return now >= max(health.unavailable_until, health.probed_until)

    def record_success(self, origin: str) -> bool:
        """Record that `origin` answered; return True if it was unavailable before."""
        with self._lock:
            was_down = self._health[origin].unavailable_until > 0
            if was_down or self._health[origin].failures:
                self._health[origin] = _Health()
        return was_down

    def record_failure(self, origin: str, now: float, *, proven: bool) -> float | None:
        """Record a failure; `proven` means that no connection could be opened.

        Returns:
            The cooldown in seconds if `origin` becomes unavailable now, else None.
        """
        with self._lock:
            health = self._health[origin]
            health.failures = 1 if now - health.failed_at > FAILURE_WINDOW else health.failures + 1
            health.failed_at = now
            if not proven and health.failures < MAX_FAILURES:
                return None
            cooldown = min(BASE_COOLDOWN * 2**health.cooldowns, MAX_COOLDOWN)
            cooldown *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            is_new = not health.unavailable_until
            health.unavailable_until = now + cooldown
            health.probed_until = 0.0
            health.cooldowns += 1
            return cooldown if is_new else None


class Budget:
    """The retry budget of one site and key, which limits all retry layers above together."""

    size = 200
    """Tenths of a retry. A success adds one, a retry takes `cost`."""
    cost = 10

    def __init__(self) -> None:
        self._left = self.size
        self._lock = threading.Lock()

    def withdraw(self) -> bool:
        """Take one retry from the budget; return False if none is left."""
        with self._lock:
            if self._left < self.cost:
                return False
            self._left -= self.cost
            return True

    def deposit(self) -> None:
        """Add a tenth of a retry, for a request that succeeded."""
        if self._left < self.size:
            with self._lock:
                self._left = min(self.size, self._left + 1)


_hosts: dict[tuple[str, ...], Hosts] = {}
_budgets: dict[tuple[object, ...], Budget] = {}


def shared_hosts(origins: tuple[str, ...]) -> Hosts:
    """Return the one `Hosts` of these origins in this process."""
    return _hosts.get(origins) or _hosts.setdefault(origins, Hosts(origins))


def shared_budget(*owner: object) -> Budget:
    """Return the one budget of `owner` (hosts and a hash of the key) in this process."""
    return _budgets.get(owner) or _budgets.setdefault(owner, Budget())


def reset_after_fork() -> None:
    """Reset in a forked child: another thread of the parent may have held a lock."""
    _hosts.clear()
    _budgets.clear()


def host_name(origin: str) -> str:
    """Return the host and port in `origin`, without the scheme."""
    return origin.split("://", 1)[1]


def ascii_name(url: httpx.URL) -> str:
    """Return the host in `url` in the form for a resolver.

    Raises:
        UnicodeError: No resolver accepts the name: a label is empty or too long, or bad Punycode.
    """
    name = url.raw_host.decode("ascii") if url.host else ""  # reading `host` decodes Punycode
    name.encode("idna")
    return name


def is_loopback_host(host: str) -> bool:
    """Return True if `host` names this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
