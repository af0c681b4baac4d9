"""The error tree: what each status and code means, and what an error never holds."""

from __future__ import annotations

import copy
import json
import pickle
import time

import pytest
from langchain_core import exceptions as core
from langchain_core.messages import AIMessage

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue.tables import rows
from langchain_tokenhub.errors import (
    CLASSES,
    Response,
    TokenHubError,
    clean,
    error_from,
    fault_in,
    redact_text,
)

TREE = {
    "AuthenticationError": ((core.ModelAuthenticationError,), False),
    "PermissionDeniedError": ((core.ModelPermissionDeniedError,), False),
    "QuotaExhaustedError": ((core.ModelPermissionDeniedError,), False),
    "ModelNotAvailableError": ((core.ModelNotFoundError,), False),
    "InvalidRequestError": ((core.ModelInvalidRequestError,), False),
    "ContextLengthError": ((core.ContextOverflowError, errors.InvalidRequestError), False),
    "ResponseFormatError": ((core.ModelInvalidRequestError,), False),
    "ContentBlockedError": ((core.ModelError,), False),
    "RateLimitError": ((core.ModelRateLimitError,), True),
    "ServerError": ((core.ModelAPIError,), True),
    "APIConnectionError": ((core.ModelConnectionError,), True),
    "APITimeoutError": ((core.ModelTimeoutError,), True),
    "CertificateError": ((core.ModelConnectionError,), False),
    "IncompleteStreamError": ((core.ModelConnectionError,), True),
    "JobError": ((core.ModelError,), False),
    "JobFailedError": ((errors.JobError,), False),
    "JobBlockedError": ((errors.JobFailedError, errors.ContentBlockedError), False),
    "JobTimeoutError": ((errors.JobError,), False),
    "JobNotFoundError": ((errors.JobError,), False),
    "SubmissionUnknownError": ((errors.JobError,), False),
    "ResultExpiredError": ((errors.JobError,), False),
}


def test_each_class_has_its_bases_and_says_if_it_is_worth_retrying():
    for name, (bases, is_retryable) in TREE.items():
        cls = getattr(errors, name)
        assert issubclass(cls, TokenHubError), name
        assert all(issubclass(cls, base) for base in bases), name
        assert cls.is_retryable is is_retryable, name


GUIDE = [  # the guide, "错误码": HTTP status, code, type as it is sent
    (400, "400001", "InvalidRequestError"),
    (400, "400002", "InvalidRequestError"),
    (400, "400003", "ContextLengthError"),
    (400, "400004", "ModelNotAvailableError"),
    (400, "400005", "InvalidRequestError"),
    (400, "400006", "ResponseFormatError"),
    (401, "401001", "AuthenticationError"),
    (401, "401002", "AuthenticationError"),
    (402, "401007", "QuotaExhaustedError"),
    (401, "401008", "QuotaExhaustedError"),
    (403, "403001", "PermissionDeniedError"),
    (403, "403002", "PermissionDeniedError"),
    (403, "403004", "QuotaExhaustedError"),
    (403, "403005", "PermissionDeniedError"),
    (403, "model_not_available", "ModelNotAvailableError"),
    (402, "insufficient_quota", "QuotaExhaustedError"),
    (404, None, "ModelNotAvailableError"),
    (408, None, "APITimeoutError"),
    (410, "410001", "InvalidRequestError"),
    (413, "413001", "InvalidRequestError"),
    (418, None, "InvalidRequestError"),
    (429, "429001", "RateLimitError"),
    (429, "429006", "RateLimitError"),
    (429, "20097", "QuotaExhaustedError"),
    (200, "20097", "QuotaExhaustedError"),
    (451, "451001", "ContentBlockedError"),
    (200, "FailedOperation.ModerationFailed", "ContentBlockedError"),
    (200, "RequestLimitExceeded.JobNumExceed", "RateLimitError"),
    (499, "499001", "APIConnectionError"),
    (500, "500001", "ServerError"),
    (502, "502001", "ServerError"),
    (503, "503001", "ServerError"),
    (504, "504001", "ServerError"),
    (520, None, "ServerError"),
    (200, "nobody.knows", "ServerError"),
]


@pytest.mark.parametrize(("status", "code", "name"), GUIDE)
def test_status_and_code_decide_the_class(status, code, name):
    body = {"error": {"code": code, "message": "m"}} if code else b""
    error = error_from(status, {}, body)
    assert type(error).__name__ == name
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize(
    ("body", "code", "message", "request_id"),
    [
        ({"error": {"code": "c", "message": "m", "request_id": "r"}}, "c", "m", "r"),
        ({"error": {"code": 400001, "message": "m", "message_zh": "信"}}, "400001", "m / 信", None),
        ({"error": {"type": "t", "message": "m"}}, "t", "m", None),
        ({"error": "text"}, None, "text", None),
        ({"id": "i", "status": "failed", "error": {"code": "c", "message": "m"}}, "c", "m", "i"),
        ({"error_code": 7, "error_message": "m"}, "7", "m", None),
        ({"ErrorMsg": {"Code": "c", "Msg": "m"}}, "c", "m", None),
        ({"Response": {"Error": {"Code": "c", "Message": "m"}, "RequestId": "r"}}, "c", "m", "r"),
    ],
)
def test_every_shape_of_complaint_is_understood(body, code, message, request_id):
    fault = fault_in(body)
    assert (fault.code, fault.message, fault.request_id) == (code, message, request_id)


@pytest.mark.parametrize("body", [{}, [], "x", None, {"error": None}, {"error": {}}, {"id": "1"}])
def test_what_complains_of_nothing(body):
    assert fault_in(body) is None


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"\xff\xfe", b"[" * 50_000, b"null"])
def test_any_error_body_gives_an_error(body):
    assert isinstance(error_from(502, {}, body), errors.ServerError)


def every_field(cls):
    error = cls(
        "it failed",
        status=500,
        code="c",
        request_id="r",
        host="h",
        attempts=3,
        hint="do this",
        response=Response(500, {"a": "b"}, "{}"),
        phase="sent",
        elapsed=1.5,
        retry_after=2.0,
        client_request_id="ours",
    )
    error.host_unavailable, error.partial = True, AIMessage("so far")
    error.ledger_key = "k"
    error.add_note("a note")
    return error


@pytest.mark.parametrize("name", TREE)
@pytest.mark.parametrize(
    "again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_an_error_pickles_with_all_its_fields(name, again):
    """Errors of openai 3.54.0 and httpx 0.28.1 fail to unpickle."""
    error = every_field(getattr(errors, name))
    twin = again(error)
    assert type(twin) is type(error)
    assert vars(twin) == vars(error)
    assert str(twin) == str(error)


def test_a_message_says_what_where_and_what_next():
    text = str(every_field(errors.ServerError))
    assert text == "it failed [host h, request ID r, 3 attempts]; do this"


SECRETS = [
    "Authorization: Bearer abcDEF123.456",
    "key sk-abcdef0123456789",
    "https://user:pass@proxy.test/",
    "https://cos.test/a.png?q-sign-algorithm=sha1&q-ak=AKIDabc",
    "https://s3.test/a?X-Amz-Signature=abc&X-Amz-Credential=AKIDabc",
    "https://oss.test/a?Expires=1&Signature=abc",
    "https://h.test/a?token=abc",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_cut_from_server_text(text):
    shown = clean(text)
    assert "redacted" in shown
    assert not any(word in shown for word in ("abc", "AKID", "user", "pass@"))


def test_an_honest_query_stays():
    assert clean("see https://h.test/docs?page=2") == "see https://h.test/docs?page=2"


def test_control_characters_are_escaped():
    assert clean("a\x1b[31m\nb\u2028c\x9b") == "a\\x1b[31m\\nb\\u2028c\\x9b"
    assert clean("半个\ud83d") == "半个\\ud83d"


def test_server_text_is_cut_to_two_kilobytes():
    assert len(clean("x" * 100_000)) < 2100


@pytest.mark.parametrize(
    "text", ["?" * 65536, "://" + "a:" * 32768, "sk-" * 20000, "Bearer " * 9000]
)
def test_hostile_text_is_redacted_in_linear_time(text):
    """Quadratic patterns would take minutes here; the clock only guards against hanging."""
    begun = time.process_time()
    redact_text(text)
    assert time.process_time() - begun < 5


def test_the_tracers_response_still_parses():
    body = json.dumps({"error": {"message": "bad\nkey sk-abcdef012345"}}, indent=2).encode()
    error = error_from(401, {"x-request-id": "r", "Set-Cookie": "s=1"}, body)
    assert error.response.json() == {"error": {"message": "bad\nkey [redacted]"}}
    assert error.response.headers == {"x-request-id": "r"}
    assert error.request_id == "r"


def test_a_row_of_the_table_names_a_class_that_exists():
    assert {row["name"] for row in rows("error_codes")["row"]} <= CLASSES.keys()
