"""The key is in the request and nowhere else."""

from __future__ import annotations

import logging
import pickle
import traceback

import httpx
import pytest
from langchain_core.load import dumpd

from langchain_tokenhub import TokenHubError
from langchain_tokenhub.transport import SyncRuntime, run_sync
from langchain_tokenhub.transport.download import fetch
from tests.integration_tests.answers import Link, reset, silence

CANARY = "sk-canary-0123456789"
PROMPT = "a secret prompt"
SIGNED = "q-sign-algorithm=sha1&q-signature=canary-signature"


async def unauthorized(connection, request):
    echo = request.headers["authorization"]
    await connection.json(
        {"error": {"code": f"401 {echo}", "message": f"bad {echo} {request.headers['x-team']}"}},
        status=401,
        X_Echo=echo,
        X_Request_Id=echo,
    )


async def html(connection, request):
    page = f"<html>{request.headers}</html>".encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    await connection.send(head % len(page) + page)


@pytest.fixture
def chat(model, peer):
    """Make a model on a peer that answers so."""

    def make(answer):
        peer.answer = answer
        secret = {"X-Team": "team-canary-token"}
        return peer, model(timeout=0.2, max_retries=1, default_headers=secret)

    return make


@pytest.mark.parametrize("verb", ["invoke", "stream"])
@pytest.mark.parametrize("answer", [unauthorized, reset, silence, html])
def test_the_key_and_the_prompt_are_in_no_log_and_no_error(answer, verb, chat, call, caplog):
    """Errors of langchain-openai 1.7.3 and langchain-mistralai 1.1.6 hold and pickle the key."""
    peer, chat = chat(answer)
    with caplog.at_level(logging.DEBUG), pytest.raises(TokenHubError) as caught:
        call(chat, verb, PROMPT)
    assert peer.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    error = caught.value
    shown = [
        caplog.text,
        repr(error),
        str(error),
        str(vars(error)),
        "".join(traceback.format_exception(error)),
        repr(pickle.dumps(error)),
        repr(pickle.dumps(chat)),
        repr(chat),
        repr(chat._endpoint()),
        repr(dumpd(chat)),
    ]
    assert [text for text in shown if "canary" in text] == []
    assert [text for text in shown if "secret prompt" in text] == []


def test_a_success_is_logged_without_key_and_prompt(model, call, caplog):
    with caplog.at_level(logging.DEBUG):
        call(model(), "invoke", PROMPT)
        call(model(), "stream", PROMPT)
    assert "langchain_tokenhub.transport" in {record.name for record in caplog.records}
    assert "canary" not in caplog.text
    assert "secret prompt" not in caplog.text


def test_the_callers_own_client_logs_no_key_either(model, caplog):
    with caplog.at_level(logging.DEBUG), httpx.Client() as own:
        model(http_client=own).invoke(PROMPT)
    assert "HTTP Request: POST" in caplog.text
    assert "canary" not in caplog.text


async def to_signed(connection, request):
    if request.path == "/":
        await connection.json({}, status=302, Location=f"/file?{SIGNED}")
    else:
        await connection.json({"bytes": 1})


def test_a_signed_link_is_in_no_log(peer, call, caplog):
    """httpx 0.28.1 logs it at INFO, also for fal_client 1.0.3 and replicate 1.0.7."""
    peer.answer = to_signed
    with caplog.at_level(logging.DEBUG):
        for url in (peer.url, f"{peer.url}/?{SIGNED}"):
            assert call(Link(url), "read") == b'{"bytes": 1}'
    assert "signature" not in caplog.text
    assert SIGNED in peer.paths()[1]


def test_other_peoples_lines_are_left_as_they_are(peer, caplog):
    peer.answer = to_signed
    with caplog.at_level(logging.DEBUG), httpx.Client() as client:
        client.get(peer.url)
    assert "signature" in caplog.text


def test_a_result_is_fetched_without_the_key(peer):
    """replicate 1.0.7 and fal_client 1.0.3 send theirs to the address that an answer names."""
    Link(f"{peer.url}/a.png").read()
    assert not {"authorization", "cookie"} & set(peer.requests[0].headers)


def test_a_fetch_that_is_left_unread_frees_its_socket(peer):
    async def file(connection, request):
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nhead")
        await connection.until_gone()

    async def leave():
        found = await fetch(SyncRuntime(), peer.url, allow_loopback=True)
        await found.pieces.aclose()

    peer.answer = file
    run_sync(leave())
    assert peer.connections[0].gone.wait(5)
