"""The words in which the service refuses, today's and the guide's."""

from __future__ import annotations

from typing import Any, Literal

from langchain_tokenhub.testing.tables import table

Era = Literal["today", "guide"]


class RefusedError(Exception):
    """The service does not do what it was asked.

    Args:
        status: The HTTP status of today's service.
        code: Today's six digits, a row of `errors.toml`.
        message: What a person reads.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bad(message: str, *, code: str = "400002") -> RefusedError:
    """Refuse a malformed chat request."""
    return RefusedError(400, code, message)


def status_of(era: Era, status: int, code: str) -> int:
    """Return the HTTP status: the guide has 403 where today's service has 400 for a model."""
    row = table("errors")["code"].get(code, {})
    return int(row.get("guide_status", status)) if era == "guide" else status


def error_body(era: Era, status: int, code: str, message: str, request_id: str) -> dict[str, Any]:
    """Build the JSON body of a refusal."""
    if era == "guide":
        word = _guide_word(status_of(era, status, code))
        return {"error": {"message": message, "type": word, "code": word}}
    return {"error": _today(status, code, message) | {"request_id": request_id}}


def _guide_word(status: int) -> str:
    words: dict[str, str] = table("errors")["guide_words"]
    return words.get(str(status), "engine_server_error")


def _today(status: int, code: str, message: str) -> dict[str, Any]:
    row = table("errors")["code"].get(code, {})
    types: dict[str, str] = table("errors")["types"]
    body = {
        "message": message,
        "message_zh": row.get("zh", "请求失败"),
        "code": code,
        "type": row.get("type", types.get(str(status), "gateway_error")),
    }
    return body | ({"source": row["source"]} if "source" in row else {})
