"""A site's hosts and their health. Pure: the time is an argument.

A host that cannot be connected to is left alone for a while, doubling with each relapse; after
that, one request tries it again while the others stay with the backup. Fail-over never leaves the
site: other sites have other keys, other models, other laws.
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
"""Seconds that a host rests after it was found unavailable; doubles up to `LONGEST_REST`."""
MAX_COOLDOWN = 300.0
PROBE_INTERVAL = 15.0
"""Seconds after which a probe that never reported is forgotten."""
MAX_FAILURES = 2
"""Gateway pages in a row that count as unavailable."""
FAILURE_WINDOW = 30.0
"""Seconds within which they must come."""


@dataclass
class _Health:
    failures: int = 0
    failed_at: float = 0.0
    cooldowns: int = 0
    unavailable_until: float = 0.0
    probed_until: float = 0.0


class Hosts:
    """The origins of one site, the primary first, shared by all who use the site."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.origins = origins
        self._health = {origin: _Health() for origin in origins}
        self._lock = threading.Lock()

    def order(self, now: float, *, prefer: str | None = None) -> tuple[str, ...]:
        """Return the origins in the order in which to try them.

        Args:
            now: Monotonic seconds.
            prefer: Host name that took a job: its polls go there first.
        """
        ranked = sorted(self.origins, key=lambda origin: host_name(origin) != prefer)
        if len(ranked) == 1:
            return self.origins
        with self._lock:
            first, *others = sorted(ranked, key=lambda origin: not self._usable(origin, now))
            if self._health[first].unavailable_until and self._usable(first, now):
                self._health[first].probed_until = (
                    now + PROBE_INTERVAL
                )  # this request alone tries it
        return first, *others

    def _usable(self, origin: str, now: float) -> bool:
        health = self._health[origin]
        return now >= max(health.unavailable_until, health.probed_until)

    def worked(self, origin: str) -> bool:
        """Note that `origin` answered; say whether that is news."""
        with self._lock:
            was_down = self._health[origin].unavailable_until > 0
            if was_down or self._health[origin].failures:
                self._health[origin] = _Health()
        return was_down

    def failed(self, origin: str, now: float, *, proven: bool) -> bool:
        """Note that `origin` is unavailable; say whether it rests from now on.

        Args:
            origin: Who failed.
            now: Monotonic seconds.
            proven: No connection could be made; otherwise a gateway's page, which counts half.
        """
        with self._lock:
            health = self._health[origin]
            health.failures = 1 if now - health.failed_at > FAILURE_WINDOW else health.failures + 1
            health.failed_at = now
            if not proven and health.failures < MAX_FAILURES:
                return False
            rest = min(BASE_COOLDOWN * 2**health.cooldowns, MAX_COOLDOWN)
            news = not health.unavailable_until
            health.unavailable_until = now + rest * random.uniform(0.8, 1.2)  # noqa: S311 - not secret
            health.probed_until = 0.0
            health.cooldowns += 1
            return news


_shared: dict[tuple[str, ...], Hosts] = {}


def shared_hosts(origins: tuple[str, ...]) -> Hosts:
    """Return the one `Hosts` of these origins in this process."""
    return _shared.get(origins) or _shared.setdefault(origins, Hosts(origins))


def forget() -> None:
    """Start anew, in a forked child: another thread of the parent may have held a lock."""
    _shared.clear()


def host_name(origin: str) -> str:
    """Return the name in `origin`, without scheme; the port stays, it tells emulators apart."""
    return origin.split("://", 1)[1]


def ascii_name(url: httpx.URL) -> str:
    """Return the host in `url` as a resolver is asked for it.

    Raises:
        UnicodeError: No resolver takes it: a label is empty or too long, or bad Punycode.
    """
    name = url.raw_host.decode("ascii") if url.host else ""  # reading `host` undoes Punycode
    name.encode("idna")
    return name


def loopback(host: str) -> bool:
    """Say whether `host` names this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
