"""The errors: one class for each cause.

Every class is a LangChain `ModelError`, because LangChain's retry middleware retries all other
errors. Those not worth retrying are also `RuntimeError`s, which LangGraph's `RetryPolicy()` does
not retry. None holds a key, a prompt, the query of a signed URL, or an object of the HTTP library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_core import exceptions as core
from pydantic import BaseModel, ConfigDict, Field

from langchain_tokenhub import catalogue

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

Phase = Literal["not sent", "sent", "answered", "streaming"]
"""Progress of a request: `not sent` is proven, `sent` may have reached the service."""

NO_KEY = "no TokenHub API key"
"""Message of the error for a missing key."""
_TEXT_LIMIT = 65536
"""Maximum characters of an error body kept for the tracer."""
_SECRETS = re.compile(
    r"Bearer\s+[^\s\"',\\]+"
    r"|\bsk-[A-Za-z0-9_\-]{4,}"
    r"|(?<=://)[^/\s@\"'<>]+(?=@)"
    r"|\?[^\s\"'<>\\]+",
    re.IGNORECASE,
)
"""Keys, credentials in URLs, and queries. Each alternative matches in linear time."""
_SIGNED = re.compile(r"sign|token|q-ak|q-key-time|credential|expires|key=", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and half characters, which cannot be printed."""
_UNSAFE_HEADERS = frozenset({"set-cookie", "authorization", "proxy-authorization", "cookie"})


def redact_text(text: str) -> str:
    """Return `text` without keys, passwords and the queries of signed links."""
    return _SECRETS.sub(_redact_match, text)


def _redact_match(found: re.Match[str]) -> str:
    secret = found.group()
    if not secret.startswith("?"):
        return "[redacted]"
    return "?[redacted]" if _SIGNED.search(secret) else secret


def clean(text: str, limit: int = 2048) -> str:
    """Return `text` for a message or log: truncated, without secrets and control characters."""
    shown = redact_text(text[: 2 * limit])
    shown = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), shown)
    if len(text) <= 2 * limit and len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(text)} characters)"


class JobRef(BaseModel):
    """Identifies a job; `result(job)` and `query(job)` accept it.

    Args:
        kind: `image`, `video` or `3d`.
        model: Model id as sent.
        id: The service's id, an opaque string.
        host: Name of the host that accepted the job; queries go to it first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    kind: Literal["image", "video", "3d"]
    model: str
    id: str = Field(min_length=1)
    host: str | None = None


@dataclass(frozen=True)
class Response:
    """The service's answer as a plain value; LangChain's tracer reads it."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def json(self) -> Any:
        """Return the body as parsed JSON, or raise ValueError."""
        return json.loads(self.text)


class TokenHubError(core.ModelError):
    """A call to TokenHub failed.

    `args[0]` is `str(error)`, so that a job's id and the next step survive result backends that
    store `args` alone.

    Args:
        message: What failed.
        status: HTTP status of the answer, if there was one.
        code: The service's error code, a word or six digits.
        request_id: The service's id of the request, for its support.
        host: Name of the host.
        attempts: Number of requests made.
        hint: What to do next.
        response: The answer, for tracing.
        phase: Progress of the request.
        elapsed: Seconds since the call began.
        retry_after: Seconds to wait, if the service sent them.
        job: The job concerned, if known.
        client_request_id: This package's id of the call, sent as `X-Client-Request-Id`.
    """

    host_unavailable: bool = False
    """Whether no connection to the host could be opened, so that the backup host is tried."""
    partial: AIMessage | None = None
    """The message so far, if a stream had started."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        host: str | None = None,
        attempts: int = 0,
        hint: str | None = None,
        response: Response | None = None,
        phase: Phase | None = None,
        elapsed: float | None = None,
        retry_after: float | None = None,
        job: JobRef | None = None,
        client_request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.host = host
        self.attempts = attempts
        self.hint = hint
        self.response = response
        self.phase: Phase | None = phase
        self.elapsed = elapsed
        self.retry_after = retry_after
        self.job = job
        self.client_request_id = client_request_id

    if not TYPE_CHECKING:  # for type checkers `args` is the attribute of `BaseException`

        @property
        def args(self) -> tuple[Any, ...]:
            """The whole text, as `str()` returns it."""
            return (str(self),)

        @args.setter
        def args(self, values: tuple[Any, ...]) -> None:
            Exception.__init__(self, *values)  # sets the message, which pickles restore

    @property
    def message(self) -> str:
        """What failed, without context and hint."""
        return Exception.__str__(self)

    def __str__(self) -> str:
        """Return message, context and hint on one line."""
        text = f"{self.message} {self.hint}"
        named = self.job is not None and (repr(self.job.id) in text or f"/{self.job.id}" in text)
        context = [
            self.host and f"host {self.host}",
            self.request_id and f"request ID {self.request_id}",
            self.attempts > 1 and f"{self.attempts} attempts",
            self.job and not named and f"job {self.job.model}/{self.job.id}",
        ]
        listed = ", ".join(str(fact) for fact in context if fact)
        text = " ".join(part for part in (self.message, f"[{listed}]" if listed else "") if part)
        if not self.hint:
            return text
        return f"{text}{'. ' if self.hint[0].isupper() else '; '}{self.hint}" if text else self.hint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class AuthenticationError(TokenHubError, core.ModelAuthenticationError, RuntimeError):
    """The key is missing, wrong, expired or belongs to another site (HTTP 401)."""


class PermissionDeniedError(TokenHubError, core.ModelPermissionDeniedError, RuntimeError):
    """The key or account may not do this (HTTP 403)."""


class QuotaExhaustedError(TokenHubError, core.ModelPermissionDeniedError, RuntimeError):
    """The package is used up or the account is in arrears; waiting does not help."""


class ModelNotAvailableError(TokenHubError, core.ModelNotFoundError, RuntimeError):
    """The model or service id is unknown, retired, or not opened in the console."""


class InvalidRequestError(TokenHubError, core.ModelInvalidRequestError, RuntimeError):
    """The request is invalid: refused by the service, or by a check before sending."""


class ContextLengthError(InvalidRequestError, core.ContextOverflowError):
    """The input does not fit the model's context (code 400003)."""


class BudgetExceededError(InvalidRequestError):
    """The call would cost more than is left of the `budget_cny` of a toolkit or a run."""


class ResponseFormatError(InvalidRequestError):
    """The model does not support this `response_format` (code 400006)."""


class ContentBlockedError(TokenHubError, RuntimeError):
    """The safety policy refused input or output (HTTP 451 and moderation codes)."""


class RateLimitError(TokenHubError, core.ModelRateLimitError):
    """Too many requests, tokens or concurrent jobs (HTTP 429); `retry_after` is in seconds."""


class ServerError(TokenHubError, core.ModelAPIError):
    """The service failed (HTTP 5xx) or sent an unreadable answer."""


class APIConnectionError(TokenHubError, core.ModelConnectionError):
    """The service could not be reached, or the connection was cut."""


class CertificateError(APIConnectionError, RuntimeError):
    """The host's TLS certificate was refused; the connection may be intercepted."""

    is_retryable = False


class APITimeoutError(TokenHubError, core.ModelTimeoutError):
    """No answer in time, or a stream stalled."""


class IncompleteStreamError(APIConnectionError):
    """A stream ended before its end marker; `partial` is the message so far."""


class JobError(TokenHubError, RuntimeError):
    """An error of a paid job; `job` identifies it if known. Never retried automatically."""


class JobFailedError(JobError):
    """The service reports that the job failed."""


class JobBlockedError(JobFailedError, ContentBlockedError):
    """Moderation stopped the job."""


class JobTimeoutError(JobError):
    """The wait ended before the job, which continues and can be collected later."""


class JobNotFoundError(JobError):
    """The service does not know the job: wrong id, site or model, or older than a day."""


class SubmissionUnknownError(JobError):
    """A submit may have been accepted and charged; it was not sent again."""

    ledger_key: str | None = None
    """Key of the ledger entry, if there is a ledger."""


class ResultExpiredError(JobError):
    """The link to a result has expired."""


RETRYABLE = (RateLimitError, ServerError, APIConnectionError, APITimeoutError)
"""The classes worth retrying; an instance that is a `RuntimeError` as well is not."""

CLASSES: dict[str, type[TokenHubError]] = {
    name: cls
    for name, cls in list(globals().items())
    if isinstance(cls, type) and issubclass(cls, TokenHubError)
}
"""Classes by name, for the rows of `error_codes.toml`."""


@dataclass(frozen=True)
class Fault:
    """The content of an error body, independent of its shape."""

    code: str | None
    message: str
    request_id: str | None = None


FAULT_KEYS = frozenset(
    {"error", "errors", "Error", "ErrorMsg", "Response", "error_code", "ErrorCode", "base_resp"}
)
"""Fields of a body that may hold an error."""


def fault_in(body: object) -> Fault | None:
    """Return the error that `body` reports, or None if it reports none.

    The forms, which occur with any HTTP status: `{"error": {"code", "message", "message_zh",
    "request_id"}}`, `{"error": "text"}`, `{"error": true, "message"}`, `{"error": [{...}]}`,
    `{"errors": [{...}]}`,
    `{"id": "", "status": "failed", "error": {...}}`, an `error` in a choice, its delta or message,
    `{"error_code", "error_message"}`, `{"object": "error", "code", "message"}`, `{"base_resp":
    {"status_code", "status_msg"}}`, `{"ErrorMsg": {"Code", "Msg"}}` and `{"Response": {"Error":
    {"Code", "Message"}, "RequestId"}}`. An error whose fields are empty, or whose code is 0 next to
    content, is ignored.
    """
    if not isinstance(body, Mapping):
        return None
    match body:
        case {"choices": [dict() as choice, *_], "object": "chat.completion"} if (
            FAULT_KEYS.isdisjoint(body)
        ):  # the usual answer
            return _fault_in_choice(choice, body)
        case {"Response": Mapping() as inner}:
            return fault_in(inner)
        case (
            {"error": Mapping() as error}
            | {"error": [Mapping() as error, *_]}
            | {"errors": [Mapping() as error, *_]}
        ) if _is_error(error, body):
            pass
        case {"Error": Mapping() as error} | {"ErrorMsg": Mapping() as error}:
            pass
        case {"error": error} if error and not isinstance(error, Mapping):
            text = body.get("message") if error is True else error
            error = {"message": text or "no message", "code": body.get("error_code")}
        case {"error_code": code} | {"ErrorCode": code} if code:
            message = body.get("error_message") or body.get("ErrorMessage")
            error = {"code": code, "message": message or body.get("message")}
        case {"object": "error"}:
            error = body
        case {"base_resp": {"status_code": code} as base} if code not in _NO_CODE:
            error = {"code": code, "message": base.get("status_msg")}
        case {"choices": [Mapping() as choice, *_]}:
            return _fault_in_choice(choice, body)
        case _:
            return None
    return _fault(error, body)


def _fault_in_choice(choice: Mapping[str, Any], body: Mapping[str, Any]) -> Fault | None:
    for part in (choice, choice.get("delta"), choice.get("message")):
        match part:
            case {"error": str(text)} if text:
                return _fault({"message": text}, body)
            case {"error": Mapping() as error} if _is_error(error, body):
                return _fault(error, body)
    return None


_NO_CODE = (None, "", 0, "0")


def _is_error(error: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Return False if the fields of `error` are empty, or its code is 0 next to content."""
    if all(value in _NO_CODE for value in error.values()):
        return False
    code = error.get("code", error.get("Code"))
    content = ("choices",) if "choices" in body else ("id", "data", "output")
    return code not in (0, "0") or not any(body.get(name) for name in content)


def _fault(error: Mapping[str, Any], body: Mapping[str, Any]) -> Fault:
    texts = [_first(error, "message", "Message", "Msg", "msg"), _first(error, "message_zh")]
    request_id = (
        _first(error, "request_id")
        or _first(body, "request_id", "RequestId")
        or (_first(body, "id") if "choices" not in body else None)
    )
    message = " / ".join(dict.fromkeys(text for text in texts if text))
    return Fault(_first(error, "code", "Code", "type"), message, request_id)


def _first(values: Mapping[str, Any], *names: str) -> str | None:
    found = (values.get(name) for name in names)
    return next((str(value) for value in found if value not in (None, "", [])), None)


def error_from(
    status: int,
    headers: Mapping[str, str],
    body: bytes | Mapping[str, Any],
    *,
    host: str | None = None,
) -> TokenHubError:
    """Return the error for an answer.

    The rows of `error_codes.toml` decide by status and code; the body's `type` is not used.
    """
    text, parsed = _read_body(body)
    fault = fault_in(parsed) or Fault(None, clean(text.strip(), 200) or "no body")
    row = catalogue.error_row(_status_of(status, fault.code), fault.code, fault.message)
    words = ": ".join(part for part in (fault.code, fault.message) if part)
    safe = {k: clean(v) for k, v in headers.items() if k.lower() not in _UNSAFE_HEADERS}
    return CLASSES[row.name](
        clean(f"HTTP {status} {words}".strip()),
        status=status,
        code=fault.code,
        request_id=fault.request_id or headers.get("x-request-id"),
        host=host,
        hint=hint_text(row),
        response=Response(status, safe, redact_text(text[:_TEXT_LIMIT])),
        phase="answered",
    )


def _status_of(status: int, code: str | None) -> int:
    """Return the HTTP status that decides: in a 2xx, gateways send it as the code."""
    return int(code) if status < 300 and code and re.fullmatch("[45][0-9]{2}", code) else status


def hint_text(row: catalogue.ErrorRow) -> str | None:
    """Return the hint in both languages, or None."""
    return " / ".join(part for part in (row.hint, row.hint_zh) if part) or None


def _read_body(body: bytes | Mapping[str, Any]) -> tuple[str, object]:
    """Return a body as text and as parsed JSON, which is None if it is not JSON."""
    if not isinstance(body, bytes):
        return json.dumps(body, ensure_ascii=False, default=str), body
    text = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        return text, json.loads(text, strict=False)
    return text, None
