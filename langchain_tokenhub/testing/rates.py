"""How much a key may ask of a chat model in a minute."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field

from langchain_tokenhub.testing.errors import RefusedError

_MINUTE = 60.0
Spent = deque[tuple[float, int]]


@dataclass
class Rates:
    """The limits of the console: requests (RPM) and tokens (TPM) a minute; `None` is no limit."""

    rpm: int | None
    tpm: int | None
    _spent: dict[tuple[str, str], Spent] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, who: tuple[str, str], now: float, prompt: int, tokens: int) -> None:
        """Let a request in, or not.

        Args:
            who: Key and model.
            now: Seconds on the hub's wall clock.
            prompt: Tokens of the question: those are known before the answer is written.
            tokens: Tokens of question and answer, which is what the minute is charged with.

        Raises:
            RefusedError: 429002 or 429003, with the seconds until there is room.
        """
        if self.rpm is None and self.tpm is None:
            return
        with self._lock:
            spent = self._spent.setdefault(who, deque())
            while spent and spent[0][0] <= now - _MINUTE:
                spent.popleft()
            used = sum(tokens for _, tokens in spent)
            wanted = (
                ("429002", "requests", self.rpm, len(spent) + 1),
                ("429003", "tokens", self.tpm, used + prompt),
            )
            for code, what, limit, total in wanted:
                if limit is not None and total > limit:
                    wait = spent[0][0] + _MINUTE - now if spent else _MINUTE
                    raise _refusal(code, f"{limit} {what}", wait)
            spent.append((now, tokens))


def _refusal(code: str, limit: str, wait: float) -> RefusedError:
    message = f"The limit of {limit} per minute is reached for this key and model."
    return RefusedError(code, message, retry_after=math.ceil(wait))
