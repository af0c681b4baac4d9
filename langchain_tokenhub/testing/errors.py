"""The errors that the service answers with, and the faults that a test injects."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from langchain_tokenhub.testing.tables import served_models, table

Era = Literal["today", "guide"]


@dataclass(eq=False)
class RefusedError(Exception):
    """The service refuses a request.

    Args:
        code: Six digits, a row of `errors.toml`.
        message: The text of the error.
        retry_after: The header, seconds or a date.
        status: The HTTP status, else that of the code.
    """

    code: str
    message: str
    retry_after: float | str | None = None
    status: int | None = None

    def answer(self, era: Era, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status, of an unknown code 500, and the JSON body."""
        code, statuses = self.code, table("errors")["status"]
        row = table("errors")["code"].get(code, {})
        by_word = {kind.get("word"): status for status, kind in statuses.items()}
        by_digits = code[:3] if len(code) == 6 and code[:3] in statuses else 500
        status = int(self.status or row.get("status") or by_word.get(code, by_digits))
        kind = statuses.get(str(status), {"type": "gateway_error"})
        if era == "guide":
            nearest = row.get("guide_status") or kind.get("guide", status)
            known = statuses.get(str(nearest)) or statuses["400" if status < 500 else "500"]
            error = {"message": self.message, "type": known["word"], "code": known["word"]}
            return self.status or nearest, {"error": error}
        error = {
            "message": self.message,
            "message_zh": row.get("zh", "请求失败"),
            "code": code,
            "type": row.get("type", kind["type"]),
            "request_id": request_id,
        }
        optional = ("source", "upstream_code", "upstream_status")
        return status, {"error": error | {name: row[name] for name in optional if name in row}}


class MediaRefusedError(RefusedError):
    """A submit is refused with a code such as `InvalidParameter.X`, inside HTTP 200."""

    def answer(self, era: Era, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return 200 and the body of the answer to a submit: its id is empty."""
        del era
        error = {"message": self.message, "type": "api_error", "code": self.code}
        return 200, {"id": "", "status": "failed", "error": error, "request_id": request_id}


def bad(message: str, *, code: str = "400002") -> RefusedError:
    """Return the refusal of a malformed chat request."""
    return RefusedError(code, message)


def check_model(model_id: Any, kind: str, added: Collection[str]) -> str:
    """Return the id of a model that is served as a kind; ids are exact, in lower case.

    `ep-...` and the ids in `added` are served as any kind.
    """
    if not isinstance(model_id, str) or not model_id:
        raise bad("Missing required parameter: 'model'.")
    served = served_models().get(model_id)
    if model_id in added or model_id.startswith("ep-") or served == kind:
        return model_id
    if served is None:
        raise bad(f"The model or service ID {model_id} does not exist.", code="400004")
    raise bad(f"The model {model_id} is not served on this path.", code="400005")


# -- faults -------------------------------------------------------------------------------------

FaultKind = Literal[
    "status", "reset", "hang", "garbage", "error-in-200", "drip", "black-hole",
    "cut", "stall", "keep-alive", "bad-sse", "duplicate", "job", "refuse", "lost-answer",
]  # fmt: skip
_CHAT = "/v1/chat/completions"
_PATHS: dict[FaultKind, str] = {
    **dict.fromkeys(("cut", "stall", "keep-alive", "bad-sse", "duplicate"), _CHAT),
    **dict.fromkeys(("job", "refuse", "lost-answer"), "submit"),
}
_MEDIA_CODES: dict[FaultKind, str] = {
    "job": "FailedOperation.ModerationFailed",
    "refuse": "InvalidParameter.InvalidParameter",
}


@dataclass
class Fault:
    """A fault; `Emulator.fail` explains the fields. `times` counts down."""

    kind: FaultKind
    status: int | None = None
    code: str = ""
    message: str = "made by the emulator on request"
    retry_after: float | str | None = None
    body: str | None = None
    after: int = 0
    seconds: float = 1.0
    times: int = 1
    path: str | None = None

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist: it would have no effect."""
        if self.kind not in get_args(FaultKind):
            kinds = ", ".join(get_args(FaultKind))
            raise ValueError(f"There is no fault {self.kind!r}; there are {kinds}.")

    def error(self) -> RefusedError:
        """Return the error that the fault describes."""
        if self.kind in _MEDIA_CODES:
            return MediaRefusedError(self.code or _MEDIA_CODES[self.kind], self.message)
        code = self.code or f"{self.status or 500}001"
        return RefusedError(code, self.message, retry_after=self.retry_after, status=self.status)

    def matches(self, method: str, path: str) -> bool:
        """Return True if the fault is for such a request."""
        prefix = self.path or _PATHS.get(self.kind, "")
        if prefix == "submit":
            return method == "POST" and path.endswith(("/submit", "/lite"))
        return path.startswith(prefix)


class Faults:
    """The injected faults, the oldest first. Safe to use from any thread."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def inject(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._faults += [fault] if fault.times > 0 else []

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request, if one is injected."""
        with self._lock:
            fault = next((fault for fault in self._faults if fault.matches(method, path)), None)
            if fault:
                fault.times -= 1
                self._faults = [fault for fault in self._faults if fault.times > 0]
            return fault

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()
