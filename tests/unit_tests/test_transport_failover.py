"""Which host is asked, and when a resting one is tried again."""

from __future__ import annotations

import pytest

from langchain_tokenhub.transport.retry import (
    BASE_COOLDOWN,
    FAILURE_WINDOW,
    MAX_COOLDOWN,
    PROBE_INTERVAL,
    Hosts,
    host_name,
    shared_hosts,
)

A, B = "https://a.test", "https://b.test"
LATER = BASE_COOLDOWN * 1.2 + 1


@pytest.fixture
def hosts():
    return Hosts((A, B))


def test_a_single_host_is_always_asked():
    alone = Hosts((A,))
    alone.record_failure(A, 0.0, proven=True)
    assert alone.order(1.0) == (A,)


def test_one_refused_connection_sends_the_next_requests_to_the_backup(hosts):
    assert hosts.record_failure(A, 0.0, proven=True)
    assert [hosts.order(t)[0] for t in (0.1, 5.0, BASE_COOLDOWN * 0.7)] == [B, B, B]


def test_after_its_cooldown_one_request_alone_tries_the_primary(hosts):
    hosts.record_failure(A, 0.0, proven=True)
    assert [hosts.order(LATER)[0] for _ in range(5)] == [A, B, B, B, B]


def test_a_probe_that_never_reports_is_forgotten(hosts):
    hosts.record_failure(A, 0.0, proven=True)
    hosts.order(LATER)
    assert hosts.order(LATER + PROBE_INTERVAL + 0.1)[0] == A


def test_a_host_that_answers_again_is_healthy_and_that_is_logged_once(hosts):
    hosts.record_failure(A, 0.0, proven=True)
    assert [hosts.record_success(A), hosts.record_success(A)] == [True, False]
    assert [hosts.order(1.0)[0] for _ in range(3)] == [A, A, A]


def test_a_cooldown_is_logged_once(hosts):
    told = [hosts.record_failure(A, float(t), proven=True) for t in range(3)]
    assert [cooldown is not None for cooldown in told] == [True, False, False]


def test_further_failures_double_the_cooldown_up_to_a_limit(hosts):
    now = 0.0
    for _ in range(12):
        hosts.record_failure(A, now, proven=True)
        now += MAX_COOLDOWN * 1.2 + 1
    hosts.record_failure(A, now, proven=True)
    assert hosts.order(now + MAX_COOLDOWN * 0.79)[0] == B
    assert hosts.order(now + MAX_COOLDOWN * 1.21)[0] == A


def test_a_gateways_page_counts_half(hosts):
    assert not hosts.record_failure(A, 0.0, proven=False)
    assert hosts.order(0.1)[0] == A
    assert hosts.record_failure(A, 0.2, proven=False)
    assert hosts.order(0.3)[0] == B


def test_two_gateway_pages_far_apart_do_not_add_up(hosts):
    hosts.record_failure(A, 0.0, proven=False)
    assert not hosts.record_failure(A, FAILURE_WINDOW + 1, proven=False)


def test_an_answer_between_two_gateway_pages_clears_the_first(hosts):
    hosts.record_failure(A, 0.0, proven=False)
    hosts.record_success(A)
    assert not hosts.record_failure(A, 1.0, proven=False)


def test_when_both_are_in_their_cooldown_the_primary_is_tried_first(hosts):
    hosts.record_failure(A, 0.0, proven=True)
    hosts.record_failure(B, 0.0, proven=True)
    assert hosts.order(1.0) == (A, B)


def test_a_job_is_asked_for_where_it_was_taken(hosts):
    assert hosts.order(0.0, prefer="b.test") == (B, A)


def test_a_preferred_host_in_its_cooldown_is_not_asked_first(hosts):
    hosts.record_failure(B, 0.0, proven=True)
    assert hosts.order(1.0, prefer="b.test") == (A, B)


def test_a_name_keeps_its_port():
    assert host_name("http://127.0.0.1:8000") == "127.0.0.1:8000"


def test_all_users_of_a_site_share_its_health():
    assert shared_hosts((A, "https://shared.test")) is shared_hosts((A, "https://shared.test"))


def test_requests_that_ask_the_backup_first_take_no_probe_from_others(hosts):
    hosts.record_failure(A, 0.0, proven=True)
    assert [hosts.order(LATER, prefer="b.test")[0] for _ in range(5)] == [B] * 5
    assert hosts.order(LATER)[0] == A
