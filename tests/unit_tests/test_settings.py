"""The connection fields: names, places they come from, and what a pickle holds."""

from __future__ import annotations

import copy
import pickle
import traceback
import warnings

import httpx
import httpx2
import pytest
from pydantic import ValidationError

from langchain_tokenhub.catalogue import SITE_NAMES
from langchain_tokenhub.errors import AuthenticationError
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.transport import Timeouts

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in ("API_KEY", "SITE", "BASE_URL"):
        monkeypatch.delenv(f"TOKENHUB_{name}", raising=False)
    monkeypatch.delenv("TENCENT_TOKENHUB_API_KEY", raising=False)


def test_the_key_comes_from_the_first_variable_that_is_set(monkeypatch):
    monkeypatch.setenv("TENCENT_TOKENHUB_API_KEY", "second")
    assert ConnectionSettings()._key() == "second"
    monkeypatch.setenv("TOKENHUB_API_KEY", " first \n")
    assert ConnectionSettings()._key() == "first"


def test_a_given_key_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("TOKENHUB_API_KEY", "env")
    assert ConnectionSettings(api_key="given")._key() == "given"


def test_without_a_key_the_first_call_says_so_in_one_sentence():
    with pytest.raises(AuthenticationError, match="TOKENHUB_API_KEY"):
        ConnectionSettings()._key()


@pytest.mark.parametrize("key", ["sk-密钥", "sk-a\nb", "sk-\u200b"])
def test_a_key_that_cannot_be_a_header_is_refused_and_not_shown(key):
    with pytest.raises(AuthenticationError) as caught:
        ConnectionSettings(api_key=key)._key()
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert key not in str(caught.value)
    assert repr(key)[1:-1] not in shown.replace(f"key = {key!r}", "").replace(repr(key), "")


@pytest.mark.parametrize(
    ("site", "host"),
    [
        ("mainland", "https://tokenhub.tencentmaas.com"),
        ("overseas", "https://tokenhub-intl.tencentmaas.com"),
        ("international", "https://tokenhub-intl.tencentcloudmaas.com"),
        ("international-guangzhou", "https://tokenhub.tencentcloudmaas.com"),
    ],
)
def test_a_site_is_a_host_and_its_backup(site, host):
    first, backup = ConnectionSettings(site=site)._origins()
    assert (first, backup) == (host, backup)
    assert backup.rsplit(".", 1)[0] == host.rsplit(".", 1)[0]


def test_the_site_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("TOKENHUB_SITE", "overseas")
    assert ConnectionSettings().site == "overseas"


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("https://h.test", ("https://h.test",)),
        ("https://h.test/v1", ("https://h.test",)),
        ("https://h.test/v1/", ("https://h.test",)),
        (" https://h.test:8443/v1 ", ("https://h.test:8443",)),
        ("https://h.test/gate/v1", ("https://h.test/gate",)),
        (["https://a.test", "https://b.test/v1"], ("https://a.test", "https://b.test")),
        (("https://a.test", "https://a.test/v1"), ("https://a.test",)),
        ("http://127.0.0.1:80", ("http://127.0.0.1:80",)),
        ("http://localhost:80/v1", ("http://localhost:80",)),
        ("http://[::1]:80", ("http://[::1]:80",)),
    ],
)
def test_a_base_url_in_every_form(given, origins):
    assert ConnectionSettings(base_url=given)._origins() == origins


def test_the_base_url_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("TOKENHUB_BASE_URL", "https://env.test/v1")
    assert ConnectionSettings()._origins() == ("https://env.test",)


@pytest.mark.parametrize(
    "address",
    [
        "http://h.test",
        "http://127.0.0.1.evil.test",
        "http://localhost.evil.test",
        "h.test",
        "ftp://h.test",
        "https://user:pw@h.test",
        "https://h.test?key=1",
        "https://h.test#x",
        "https://h..test",
        f"https://{'h' * 64}.test",
        "https://xn--a.test",
        "https://h.test:port",
        "https://",
        [],
    ],
)
def test_an_address_that_would_expose_the_key_is_refused(address):
    with pytest.raises(ValidationError, match="base_url"):
        ConnectionSettings(base_url=address)


def test_a_secret_in_a_refused_address_is_not_shown():
    for address in (
        *(f"https://h.test?key={CANARY}", f"http://h.test/v1?key={CANARY}", f"ftp://h?{CANARY}"),
        *("https://h.test?token=s3cret-canary", "https://h.test#s3cret-canary", CANARY),
        *("https://[h?s3cret-canary", "https://user:s3cret-canary@h.test"),
        *("https://user:s3cret-canary@h.test:port", "user:s3cret-canary@h.test"),
        "https:/user:s3cret-canary@h.test",
    ):
        with pytest.raises(ValidationError, match="base_url") as caught:
            ConnectionSettings(base_url=address)
        assert "canary" not in str(caught.value)


def test_the_timeout_has_langchains_alias():
    settings = ConnectionSettings(request_timeout=7)
    assert (settings.timeout, settings.request_timeout) == (7, 7)


@pytest.mark.parametrize(
    "timeout",
    [
        0,
        -1,
        float("nan"),
        float("inf"),
        1e10,
        httpx.Timeout(0),
        httpx.Timeout(5, read=-1),
        httpx2.Timeout(0),
    ],
)
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(ValidationError, match="timeout"):
        ConnectionSettings(timeout=timeout)


def test_fewer_than_no_retries_are_refused():
    with pytest.raises(ValidationError, match="max_retries"):
        ConnectionSettings(max_retries=-1)


def test_a_number_bounds_every_wait_and_keeps_the_shorter_connect():
    found = Timeouts.of(60, Timeouts())
    assert (found.read, found.content, found.first, found.connect) == (60, 60, 60, 5)
    assert Timeouts.of(1, Timeouts()).connect == 1


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_httpx_timeout_is_taken_as_it_is(http):
    found = Timeouts.of(ConnectionSettings(timeout=http.Timeout(9, connect=20)).timeout, Timeouts())
    assert found.within(None, backed=True) == {"connect": 20, "read": 9, "write": 9, "pool": 30.0}


def test_a_backup_shortens_the_wait_for_a_connection():
    assert Timeouts().within(None, backed=True)["connect"] == 3.0
    assert Timeouts().within(None)["connect"] == 5.0


def test_no_limit_is_longer_than_what_is_left_of_the_call():
    assert set(Timeouts(read=None).within(0.5).values()) == {0.5}


@pytest.mark.parametrize(
    "headers",
    [{"X-A": "s3cret密"}, {"X-A": "s3cret\r\nX-B: b"}, {"Authorization: Bearer s3cret": ""}],
)
def test_headers_that_cannot_be_sent_are_refused_without_being_shown(headers):
    with pytest.raises(ValidationError, match="default_headers") as caught:
        ConnectionSettings(default_headers=headers)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["Transfer-Encoding", "content-length", "", "X A", "X-A:"])
def test_headers_that_say_where_a_request_ends_or_are_none_are_refused(name):
    with pytest.raises(ValidationError, match="default_headers"):
        ConnectionSettings(default_headers={name: "5"})


def full():
    return ConnectionSettings(
        api_key=CANARY,
        default_headers={"X-Secret": CANARY},
        http_client=httpx.Client(),
        base_url="https://h.test",
        timeout=httpx.Timeout(3),
    )


def test_nothing_shows_the_key():
    settings = full()
    shown = [repr(settings), str(settings), str(vars(settings)["api_key"])]
    shown += [repr(settings._endpoint()), repr(settings._sync())]
    assert not [text for text in shown if CANARY in text]
    settings.http_client.close()


def test_a_pickle_holds_no_key_no_headers_and_no_client():
    settings = full()
    data = pickle.dumps(settings)
    twin = pickle.loads(data)
    assert CANARY.encode() not in data
    assert (twin.api_key, twin.default_headers, twin.http_client) == (None, None, None)
    assert (twin.base_url, twin.timeout) == (settings.base_url, settings.timeout)
    settings.http_client.close()


def test_after_unpickling_the_key_comes_from_the_environment(monkeypatch):
    twin = pickle.loads(pickle.dumps(ConnectionSettings(api_key=CANARY)))
    monkeypatch.setenv("TOKENHUB_API_KEY", "there")
    assert twin._key() == "there"


def test_a_deep_copy_keeps_the_key_and_shares_the_callers_client():
    settings = full()
    twin = copy.deepcopy(settings)
    assert twin.http_client is settings.http_client
    assert twin._key() == CANARY
    assert twin.default_headers == settings.default_headers
    settings.http_client.close()


def test_a_model_copy_changes_what_is_asked():
    twin = ConnectionSettings(api_key="a").model_copy(update={"max_retries": 0})
    assert twin._endpoint().max_retries == 0


def test_the_same_settings_share_health_and_budget():
    one, two = (ConnectionSettings(api_key=CANARY)._endpoint() for _ in range(2))
    other = ConnectionSettings(api_key="another")._endpoint()
    assert one.hosts is two.hosts is other.hosts
    assert one.budget is two.budget
    assert one.budget is not other.budget


async def test_closing_is_optional_and_can_be_repeated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ConnectionSettings(api_key="a") as settings:
            settings.close()
            settings.close()
        async with settings:
            await settings.aclose()
            await settings.aclose()


def test_an_unknown_site_is_refused_with_the_names_of_all(monkeypatch):
    every = ", ".join(SITE_NAMES)
    with pytest.raises(ValidationError, match=f"site\n.*'intl' is not a site; use one of {every}"):
        ConnectionSettings(site="intl")
    monkeypatch.setenv("TOKENHUB_SITE", "intl")
    with pytest.raises(ValidationError, match=f"TOKENHUB_SITE: 'intl' is not a site.* {every}"):
        ConnectionSettings()


def test_a_key_given_as_a_site_is_not_shown():
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings(site="sk-canary-0123456789")
    assert "canary" not in str(caught.value)
