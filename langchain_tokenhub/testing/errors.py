"""The words in which the service refuses, today's and the guide's."""

from __future__ import annotations

from typing import Any, Literal

from langchain_tokenhub.testing.tables import table

Era = Literal["today", "guide"]
ERAS: tuple[Era, ...] = ("today", "guide")


class RefusedError(Exception):
    """The service does not do what it was asked.

    Args:
        code: Today's six digits, a row of `errors.toml`.
        message: What a person reads.
        retry_after: Whole seconds, for the header.
    """

    def __init__(self, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


def bad(message: str, *, code: str = "400002") -> RefusedError:
    """Refuse a malformed chat request."""
    return RefusedError(code, message)


def status_of(era: Era, code: str) -> int:
    """Return the HTTP status of a code; a code that no table has comes with 500."""
    row = table("errors")["code"].get(code, {})
    if era == "guide" and "guide_status" in row:
        return int(row["guide_status"])
    status = int(row.get("status") or _status_in(code))
    return (
        int(table("errors")["guide_status"].get(str(status), status)) if era == "guide" else status
    )


def _status_in(code: str) -> int:
    """Read the status out of six digits, or out of a word of the guide."""
    by_word = {word: int(status) for status, word in table("errors")["guide_words"].items()}
    if code in by_word:
        return by_word[code]
    known = len(code) == 6 and code[:3] in table("errors")["types"]
    return int(code[:3]) if known else 500


def error_body(era: Era, status: int, code: str, message: str, request_id: str) -> dict[str, Any]:
    """Build the JSON body of a refusal."""
    if era == "guide":
        word = _guide_word(status)
        return {"error": {"message": message, "type": word, "code": word}}
    return {"error": _today(status, code, message) | {"request_id": request_id}}


def _guide_word(status: int) -> str:
    tables = table("errors")
    words: dict[str, str] = tables["guide_words"]
    nearest = str(tables["guide_status"].get(str(status), status))
    return words.get(nearest, words["400" if status < 500 else "500"])


def _today(status: int, code: str, message: str) -> dict[str, Any]:
    row = table("errors")["code"].get(code, {})
    types: dict[str, str] = table("errors")["types"]
    body = {
        "message": message,
        "message_zh": row.get("zh", "请求失败"),
        "code": code,
        "type": row.get("type", types.get(str(status), "gateway_error")),
    }
    told = ("source", "upstream_code", "upstream_status")
    return body | {name: row[name] for name in told if name in row}
