"""The errors that the service answers with, today's and those of the guide of April 2026."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

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

    def status_in(self, era: Era) -> int:
        """Return the HTTP status of the code or the word of the guide; of an unknown one 500."""
        tables, code = table("errors"), self.code
        row = tables["code"].get(code, {})
        by_word = {word: status for status, word in tables["guide_words"].items()}
        by_digits = code[:3] if len(code) == 6 and code[:3] in tables["types"] else 500
        status = row.get("status") or by_word.get(code, by_digits)
        if era == "guide":
            status = row.get("guide_status") or tables["guide_status"].get(str(status), status)
        return self.status or int(status)

    def body(self, era: Era, request_id: str) -> dict[str, Any]:
        """Return the JSON body."""
        tables, status = table("errors"), self.status_in(era)
        if era == "guide":
            words = tables["guide_words"]
            nearest = str(tables["guide_status"].get(str(status), status))
            word = words.get(nearest, words["400" if status < 500 else "500"])
            return {"error": {"message": self.message, "type": word, "code": word}}
        row = tables["code"].get(self.code, {})
        error = {
            "message": self.message,
            "message_zh": row.get("zh", "请求失败"),
            "code": self.code,
            "type": row.get("type", tables["types"].get(str(status), "gateway_error")),
            "request_id": request_id,
        }
        optional = ("source", "upstream_code", "upstream_status")
        return {"error": error | {name: row[name] for name in optional if name in row}}


class MediaRefusedError(RefusedError):
    """A submit is refused with a code such as `InvalidParameter.X`, inside HTTP 200."""

    def status_in(self, era: Era) -> int:
        """Return 200."""
        del era
        return 200

    def body(self, era: Era, request_id: str) -> dict[str, Any]:
        """Return the body of the answer to a submit: its id is empty."""
        del era
        error = {"message": self.message, "type": "api_error", "code": self.code}
        return {"id": "", "status": "failed", "error": error, "request_id": request_id}


def bad(message: str, *, code: str = "400002") -> RefusedError:
    """Return the refusal of a malformed chat request."""
    return RefusedError(code, message)


def check_model(model_id: Any, kind: str, added: Collection[str]) -> str:
    """Return the id of a model that is served as a kind; ids are exact, in lower case.

    Args:
        model_id: The id; services of the user, `ep-...`, are served as any kind.
        kind: `chat`, `embedding`, or a kind of media.
        added: Further ids that are served as any kind.

    Raises:
        RefusedError: 400002 without an id, 400004 for an unknown one, 400005 for a model of
            another kind.
    """
    if not isinstance(model_id, str) or not model_id:
        raise bad("Missing required parameter: 'model'.")
    served = served_models().get(model_id)
    if model_id in added or model_id.startswith("ep-") or served == kind:
        return model_id
    if served is None:
        raise bad(f"The model or service ID {model_id} does not exist.", code="400004")
    raise bad(f"The model {model_id} is not served on this path.", code="400005")
