"""The errors that the service answers with, today's and those of the guide of April 2026."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from langchain_tokenhub.testing.tables import served_models, table

Era = Literal["today", "guide"]
ERAS: tuple[Era, ...] = ("today", "guide")


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


def bad(message: str, *, code: str = "400002") -> RefusedError:
    """Return the refusal of a malformed chat request."""
    return RefusedError(code, message)


def check_model(model_id: str, kind: str, added: Collection[str]) -> None:
    """Check that a model is served as a kind; ids are exact, in lower case.

    Args:
        model_id: The id; services of the user, `ep-...`, are served as any kind.
        kind: `chat`, `embedding`, or a kind of media.
        added: Further ids that are served as any kind.

    Raises:
        RefusedError: 400004 for an unknown id, 400005 for a model of another kind.
    """
    if model_id in added or model_id.startswith("ep-"):
        return
    served = served_models().get(model_id)
    if served is None:
        raise RefusedError("400004", f"The model or service ID {model_id} does not exist.")
    if served != kind:
        raise RefusedError("400005", f"The model {model_id} is not served on this path.")


def status_of(era: Era, code: str) -> int:
    """Return the HTTP status of a code or a word of the guide; an unknown one has 500."""
    tables = table("errors")
    row = tables["code"].get(code, {})
    by_word = {word: status for status, word in tables["guide_words"].items()}
    by_digits = code[:3] if len(code) == 6 and code[:3] in tables["types"] else 500
    status = row.get("status") or by_word.get(code, by_digits)
    if era == "guide":
        status = row.get("guide_status") or tables["guide_status"].get(str(status), status)
    return int(status)


def error_body(era: Era, status: int, code: str, message: str, request_id: str) -> dict[str, Any]:
    """Build the JSON body of a refusal."""
    tables = table("errors")
    if era == "guide":
        words = tables["guide_words"]
        nearest = str(tables["guide_status"].get(str(status), status))
        word = words.get(nearest, words["400" if status < 500 else "500"])
        return {"error": {"message": message, "type": word, "code": word}}
    row = tables["code"].get(code, {})
    error = {
        "message": message,
        "message_zh": row.get("zh", "请求失败"),
        "code": code,
        "type": row.get("type", tables["types"].get(str(status), "gateway_error")),
        "request_id": request_id,
    }
    optional = ("source", "upstream_code", "upstream_status")
    return {"error": error | {name: row[name] for name in optional if name in row}}
