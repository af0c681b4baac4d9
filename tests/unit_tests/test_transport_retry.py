"""What is sent again, when, and how often."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta

import pytest

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    TokenHubError,
    error_from,
)
from langchain_tokenhub.transport.retry import Budget, is_outcome_unknown, retry_after, retry_delay


def said(status, code="", **headers):
    error = error_from(status, headers, {"error": {"code": code, "message": "m"}} if code else b"")
    error.retry_after = retry_after(headers)
    return error


def distrusted():
    error = APIConnectionError("certificate", phase="not sent")
    error.is_retryable = False
    return error


FAILURES = {
    "not sent": lambda: APIConnectionError("refused", phase="not sent"),
    "no connection in time": lambda: APITimeoutError("slow", phase="not sent"),
    "cut": lambda: APIConnectionError("cut", phase="sent"),
    "cut in the answer": lambda: APIConnectionError("cut", phase="answered"),
    "timeout": lambda: APITimeoutError("silent", phase="sent"),
    "429": lambda: said(429, "429001"),
    "busy in a 200": lambda: said(200, "RequestLimitExceeded.JobNumExceed"),
    "500": lambda: said(500, "500001"),
    "502": lambda: said(502),
    "504": lambda: said(504, "504001"),
    "503": lambda: said(503),
    "503 with Retry-After": lambda: said(503, **{"retry-after": "1"}),
    "520": lambda: said(520),
    "unreadable 200": lambda: ServerError("not JSON", status=200, phase="answered"),
    "error in a 200": lambda: said(200, "InternalError"),
    "408": lambda: said(408),
    "499": lambda: said(499),
    "425": lambda: said(425),
    "408 with a type alone": lambda: error_from(408, {}, b'{"error": {"type": "timeout_error"}}'),
    "408 with a code": lambda: said(408, "408001"),
    "409 with a code": lambda: said(409, "409001"),
    "425 with a code": lambda: error_from(425, {}, b'{"ErrorMsg": {"Code": "x", "Msg": "m"}}'),
    "499 with a code": lambda: said(499, "499001"),
    "quota": lambda: QuotaExhaustedError("m", status=429),
    "402": lambda: said(402, "insufficient_quota"),
    "400": lambda: said(400, "400001"),
    "401": lambda: said(401, "401001"),
    "404": lambda: said(404),
    "409": lambda: said(409),
    "413": lambda: said(413),
    "451": lambda: said(451, "451001"),
    "certificate": distrusted,
}
A, S, N, U = 9, 1, 0, "unknown"  # always, once, never; a submit that may have been charged
TABLE = {  # read, chat, submit
    "not sent": (A, A, A),
    "no connection in time": (A, A, A),
    "cut": (A, S, U),
    "cut in the answer": (A, S, U),
    "timeout": (A, N, U),
    "429": (A, A, A),
    "busy in a 200": (A, A, N),
    "500": (A, S, U),
    "502": (A, A, U),
    "504": (A, A, U),
    "503": (A, A, U),
    "503 with Retry-After": (A, A, A),
    "520": (A, S, U),
    "unreadable 200": (A, S, U),
    "error in a 200": (A, S, N),
    "408": (A, S, U),
    "499": (A, S, U),
    "425": (N, N, U),
    "408 with a type alone": (A, S, U),
    "408 with a code": (A, S, N),
    "409 with a code": (N, N, N),
    "425 with a code": (N, N, N),
    "499 with a code": (A, S, N),
    "quota": (N, N, N),
    "402": (N, N, N),
    "400": (N, N, N),
    "401": (N, N, N),
    "404": (N, N, N),
    "409": (N, N, U),
    "413": (N, N, N),
    "451": (N, N, N),
    "certificate": (N, N, N),
}
CELLS = [
    (failure, retry_class, row[column])
    for failure, row in TABLE.items()
    for column, retry_class in enumerate(("read", "chat", "submit"))
]


def repeats(retry_class, error, most=9):
    return next(n for n in range(most + 1) if n == most or give_up(retry_class, error, n))


def give_up(retry_class, error, retries):
    return retry_delay(retry_class, error, retries=retries, max_retries=99, left=None) is None


@pytest.mark.parametrize(("failure", "retry_class", "expected"), CELLS)
def test_each_cell_of_the_table(failure, retry_class, expected):
    error = FAILURES[failure]()
    assert repeats(retry_class, error) == (0 if expected == U else expected)
    assert is_outcome_unknown(retry_class, error) == (expected == U)


@pytest.mark.parametrize("retry_class", ["read", "chat", "submit"])
def test_no_retries_means_none(retry_class):
    error = APIConnectionError("refused", phase="not sent")
    assert retry_delay(retry_class, error, retries=0, max_retries=0, left=None) is None


def pauses(error, retries, times=300):
    return [
        retry_delay("read", error, retries=retries, max_retries=99, left=None) for _ in range(times)
    ]


def test_the_pause_is_random_from_nothing_to_its_limit():
    found = pauses(ServerError("m", status=500), 0)
    assert 0 <= min(found) < 0.1
    assert 0.4 < max(found) <= 0.5


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (APIConnectionError("m", phase="not sent"), 0.1),
        (ServerError("m", status=500), 0.5),
        (RateLimitError("m", status=429), 1.0),
    ],
)
def test_the_pause_doubles_up_to_eight_seconds(error, first):
    for retries in range(12):
        assert max(pauses(error, retries, 50)) <= min(8.0, first * 2**retries)


def test_retry_after_is_a_floor_with_a_little_spread():
    found = pauses(RateLimitError("m", status=429, retry_after=10.0), 0)
    assert min(found) >= 10.0
    assert max(found) <= 10.0 + 1.0 + 0.25
    assert len(set(found)) > 100


def test_more_than_a_minute_is_raised_at_once():
    assert repeats("read", RateLimitError("m", status=429, retry_after=61.0)) == 0


def test_no_sleep_ends_after_the_deadline():
    error = RateLimitError("m", status=429, retry_after=5.0)
    assert retry_delay("read", error, retries=0, max_retries=2, left=5.0) is None


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after": "0.5"}, 0.5, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25, 0.25),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0, 0),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT"}, 0, 0),
    ],
)
def test_retry_after_in_every_form(headers, least, most):
    assert least <= retry_after(headers) <= most


def test_a_date_still_to_come_is_waited_for():
    then = datetime.now(UTC) + timedelta(hours=1)
    headers = {"retry-after": email.utils.format_datetime(then, usegmt=True)}
    assert 3000 < retry_after(headers) <= 3600


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-3",
        "nan",
        "inf",
        "1e999",
        "99 Foo 2026",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2030 00:00:00 +99999999999999999999",
    ],
)
def test_a_retry_after_that_says_nothing(value):
    assert retry_after({"retry-after": value}) is None


def test_a_budget_ends_and_successes_fill_it_again_up_to_its_size():
    budget = Budget()
    assert sum(budget.withdraw() for _ in range(50)) == 20
    for _ in range(10):
        budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    for _ in range(1000):
        budget.deposit()
    assert sum(budget.withdraw() for _ in range(50)) == 20


def test_an_error_of_no_known_class_is_not_repeated():
    assert repeats("read", TokenHubError("m")) == 0
