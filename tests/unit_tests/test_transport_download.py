"""Where a result may be fetched from, over a scripted wire."""

from __future__ import annotations

import gzip
import ssl

import httpx
import pytest

from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    ModelNotAvailableError,
    TokenHubError,
)
from langchain_tokenhub.transport import run_sync
from langchain_tokenhub.transport.download import MAX_REDIRECTS, fetch, resolve
from langchain_tokenhub.transport.http.proxy import proxy_of
from tests.conftest import ScriptedRuntime

LINK = "https://cos.test/a.png?q-sign-algorithm=sha1&q-signature=canary"


class Resolving(ScriptedRuntime):
    """A scripted wire that knows names."""

    def __init__(self, *script):
        super().__init__(*script)
        self.names = {"cos.test": ("93.184.216.34",)}

    async def blocking(self, work, host):
        assert work is resolve
        if host not in self.names:
            raise OSError(host)
        return self.names[host]


def file(body=b"bytes", status=200, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=names, stream=httpx.ByteStream(body))


def to(location):
    return file(status=302, location=location)


def named(**names):
    runtime = Resolving(file())
    runtime.names = {f"{name}.test": addresses for name, addresses in names.items()}
    return runtime


async def _whole(runtime, url, details):
    found = await fetch(runtime, url, **details)
    return found, b"".join([piece async for piece in found.pieces])


def fetched(runtime, url=LINK, **details):
    return run_sync(_whole(runtime, url, details))


def refusal(runtime, url=LINK, **details):
    with pytest.raises(TokenHubError) as caught:
        fetched(runtime, url, **details)
    return caught.value


def test_a_file_is_its_bytes():
    found, data = fetched(Resolving(file(etag='"1"', content_length="5")))
    assert (data, found.size, found.etag) == (b"bytes", 5, '"1"')


@pytest.mark.parametrize("etag", ['"é"'.encode(), b'"a\x01"'], ids=["not ASCII", "control"])
def test_a_version_that_cannot_be_sent_is_none(etag):
    found, _ = fetched(Resolving(file(etag=etag)))
    assert found.etag is None


def test_the_connection_goes_to_the_address_that_was_looked_at():
    runtime = Resolving(file())
    fetched(runtime)
    (request,) = runtime.sent
    assert (request.url.host, request.url.netloc) == ("cos.test", "cos.test")
    assert request.addresses == ("93.184.216.34",)
    assert request.url.path.endswith("?q-sign-algorithm=sha1&q-signature=canary")


def test_a_fetch_carries_no_key_and_asks_for_plain_bytes():
    runtime = Resolving(file())
    fetched(runtime)
    assert "authorization" not in runtime.sent[0].headers
    assert runtime.sent[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
        *("::", "::1", "fd00::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1"),
        # the same IPv4 addresses inside IPv6 ones: mapped, compatible, translated, NAT64, 6to4
        *("::ffff:10.0.0.1", "::10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1"),
        *("64:ff9b:1::10.0.0.1", "2002:a00:1::1"),
    ],
)
def test_a_link_to_an_address_that_is_not_public_is_refused(address):
    error = refusal(named(cos=("93.184.216.34", address)))
    assert isinstance(error, InvalidRequestError)
    assert "canary" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["http://cos.test/a", "file:///etc/passwd", "https://", "not a url", "http://127.0.0.1/a"],
)
def test_what_is_not_https_is_refused(url):
    runtime = Resolving(file())
    assert isinstance(refusal(runtime, url), InvalidRequestError)
    assert runtime.sent == []


@pytest.mark.parametrize(
    "address",
    ["2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34", "2002:5db8:d822::1"],
)
def test_a_public_address_of_ipv6_is_fetched_from(address):
    assert fetched(named(cos=(address,)))[1] == b"bytes"


@pytest.mark.parametrize("proxy", ["", "http://proxy.test:1"])
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1.", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "10.1"),
        *("169.254.169.254", "[::1]", "[fd00::1]", "[fe80::1%25eth0]", "[::ffff:10.0.0.1]"),
        *("localhost", "LOCALHOST.", "a.localhost", "printer.local", "Printer.LOCAL."),
        *("metadata.google.internal", "nas.home.arpa", "intranet"),
    ],
)
def test_a_host_that_is_never_public_is_refused_whoever_resolves(monkeypatch, proxy, host):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    runtime = Resolving(file())
    runtime.names = None  # nobody is asked
    assert isinstance(refusal(runtime, f"https://{host}/a?q-signature=canary"), InvalidRequestError)
    assert runtime.sent == []


@pytest.mark.parametrize("host", ["a..b", "h" * 64 + ".test", "xn--a.test"])
def test_a_host_that_no_resolver_takes_is_refused(host):
    for runtime in (Resolving(to(f"https://{host}/a")), Resolving(to(f"//{host}/a"))):
        assert isinstance(refusal(runtime), InvalidRequestError)


def test_a_name_in_chinese_is_asked_for_in_ascii():
    runtime = Resolving(file())
    runtime.names = {"xn--fsqu00a.xn--0zwm56d": ("93.184.216.34",)}
    fetched(runtime, "https://例子.测试/a")
    assert runtime.sent[0].url.netloc == "xn--fsqu00a.xn--0zwm56d"


def test_a_certificate_that_is_refused_is_not_tried_again():
    refused = httpx.ConnectError("certificate verify failed")
    refused.__cause__ = ssl.SSLCertVerificationError()
    assert refusal(Resolving(refused)).is_retryable is False


def test_at_most_four_addresses_are_tried():
    addresses = tuple(f"93.184.216.{last}" for last in range(1, 10))
    runtime = named(cos=addresses)
    fetched(runtime)
    assert runtime.sent[0].addresses == addresses[:4]


def test_loopback_is_allowed_where_the_api_is_there_too():
    assert fetched(Resolving(file()), "http://127.0.0.1:1/a", allow_loopback=True)[1] == b"bytes"


def test_each_redirect_is_checked_anew():
    runtime = named(cos=("93.184.216.34",), evil=("10.0.0.1",))
    runtime.script = [to("https://evil.test/a")]
    assert "evil.test" in refusal(runtime).message


def test_a_redirect_never_leaves_https():
    assert isinstance(refusal(Resolving(to("http://cos.test/a"))), InvalidRequestError)


def test_a_relative_redirect_is_followed():
    runtime = Resolving(to("/b.png"), file(b"b"))
    assert fetched(runtime)[1] == b"b"
    assert runtime.sent[1].url.path == "/b.png"


@pytest.mark.parametrize("location", ["https://[", "https://cos.test:bad/", "\\x", ""])
def test_a_redirect_to_nonsense_is_our_error(location):
    with pytest.raises(InvalidRequestError):
        fetched(Resolving(*[to(location)] * (MAX_REDIRECTS + 1)))


def test_redirects_come_to_an_end():
    runtime = Resolving(*[to("/again") for _ in range(MAX_REDIRECTS + 1)])
    assert "redirects more than" in refusal(runtime).message


def test_a_file_is_continued_only_if_it_is_the_same():
    runtime = Resolving(file(status=206))
    fetched(runtime, start=100, etag='"1"')
    assert runtime.sent[0].headers["range"] == "bytes=100-"
    assert runtime.sent[0].headers["if-range"] == '"1"'


@pytest.mark.parametrize(
    ("said", "start"),
    [("bytes 100-199/200", 100), ("bytes 0-199/200", 0), ("bytes */200", None), ("100-", None)],
)
def test_a_continued_file_says_where_it_begins(said, start):
    found, _ = fetched(Resolving(file(status=206, content_range=said)), start=100, etag='"1"')
    assert found.start == start


def test_a_whole_file_begins_at_its_beginning():
    assert fetched(Resolving(file()), start=100, etag='"1"')[0].start == 0


def test_bytes_packed_unasked_are_unpacked():
    packed = gzip.compress(b"v 0 0 0")
    found, data = fetched(Resolving(file(packed, content_encoding="gzip", content_length="27")))
    assert (data, found.size) == (b"v 0 0 0", None)


class Dripping(httpx.AsyncByteStream):
    """A body that brings `size` bytes every `seconds`."""

    def __init__(self, size, seconds, times):
        self.size, self.seconds, self.times = size, seconds, times

    async def __aiter__(self):
        for _ in range(self.times):
            self.runtime.time += self.seconds
            yield bytes(self.size)


def dripping(size, seconds, times=100_000, status=200):
    body = Dripping(size, seconds, times)
    body.runtime = Resolving(httpx.Response(status, stream=body))
    return body.runtime


def test_a_download_that_drips_is_given_up_and_not_tried_again():
    runtime = dripping(1, 0.25)
    error = refusal(runtime)
    assert (type(error), error.is_retryable, error.host) == (APITimeoutError, False, "cos.test")
    assert runtime.now() < 1062


def test_a_slow_and_honest_line_may_take_hours():
    assert len(fetched(dripping(4096, 1.0, times=7200))[1]) == 4096 * 7200


def test_the_time_that_the_disk_takes_does_not_count():
    runtime = dripping(65536, 0.1, times=100)

    async def leisurely():
        found = await fetch(runtime, LINK)
        async for _ in found.pieces:
            runtime.time += 600

    run_sync(leisurely())


def test_an_error_page_that_drips_is_read_in_part():
    runtime = dripping(1, 0.25, status=404)
    assert isinstance(refusal(runtime), ModelNotAvailableError)
    assert runtime.now() < 1011


def test_a_dead_link_is_an_error_with_the_hosts_name_and_no_query():
    error = refusal(Resolving(file(b"<Error/>", status=404)))
    assert isinstance(error, ModelNotAvailableError)
    assert (error.status, error.host) == (404, "cos.test")
    assert "canary" not in str(vars(error))


@pytest.mark.parametrize(
    ("failure", "cls"),
    [
        (httpx.ConnectError("refused"), APIConnectionError),
        (httpx.ReadTimeout("silent"), APITimeoutError),
        (httpx.ConnectTimeout("slow"), APITimeoutError),
    ],
)
def test_a_failure_of_the_wire_is_ours(failure, cls):
    error = refusal(Resolving(failure))
    assert isinstance(error, cls)
    assert (error.host, error.__cause__, error.__context__) == ("cos.test", None, None)


def test_a_name_without_an_address_is_an_error():
    assert isinstance(refusal(named()), APIConnectionError)


def test_a_proxy_that_is_set_or_unset_after_the_host_was_checked_changes_nothing(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    proxied, direct = named(), Resolving(file())
    fetched(proxied)
    monkeypatch.setenv("HTTPS_PROXY", "")
    fetched(direct)
    assert proxy_of(proxied.sent[0]).url == "http://proxy.test:1"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    assert proxy_of(direct.sent[0]) is None
