from __future__ import annotations

import asyncio
import threading

import httpx
import pytest

from langchain_tokenhub.testing import Emulator

CHAT = "/v1/chat/completions"
HEAD = {"authorization": "Bearer any"}
BODY = {"model": "ep-1", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = {**BODY, "stream": True}
VIDEO = {"model": "hy-video-1.5", "prompt": "小河流水"}
SUBMIT = "/v1/api/video/submit"


def wait_for(true):
    """Let the hub's own thread notice; the test's time limit is pytest's."""
    while not true():
        threading.Event().wait(0.001)


@pytest.fixture
def hub():
    with Emulator(speed=1e6) as running:
        yield running


def test_a_status_carries_code_and_retry_after(hub, client):
    hub.fail(status=429, code="429001", retry_after=0)
    answer = client.post(CHAT, json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "0")
    assert answer.json()["error"]["code"] == "429001"


def test_a_fault_strikes_as_often_as_ordered(hub, client):
    hub.fail(status=503, times=2)
    assert [client.post(CHAT, json=BODY).status_code for _ in range(3)] == [503, 503, 200]


def test_a_fault_can_wait_for_a_path(hub, client):
    hub.fail(status=500, path="/v1/models")
    assert client.post(CHAT, json=BODY).status_code == 200
    assert client.get("/v1/models").status_code == 500


def test_faults_strike_in_the_order_of_their_orders(hub, client):
    hub.fail(status=502, body="<html>")
    hub.fail(status=504)
    answers = [client.post(CHAT, json=BODY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 504]
    assert answers[0].text == "<html>"


def test_a_reset_gives_no_answer(hub, client):
    hub.fail("reset")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        client.post(CHAT, json=BODY)


def test_a_hang_gives_no_answer_in_time(hub, client):
    hub.fail("hang")
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=BODY, timeout=0.05)
    assert client.post(CHAT, json=BODY).status_code == 200


def test_garbage_is_html_with_200(hub, client):
    hub.fail("garbage")
    answer = client.post(CHAT, json=BODY)
    assert (answer.status_code, answer.text[:5]) == (200, "<!doc")


def test_an_error_may_come_with_200(hub, client):
    hub.fail("error-in-200", code="429006", times=2)
    assert client.post(CHAT, json=BODY).json()["error"]["code"] == "429006"
    assert client.post("/v1/api/video/query", json=VIDEO).json()["error"]["code"] == "429006"


def test_an_error_may_come_inside_a_stream(hub, client):
    hub.fail("error-in-200", after=2)
    events = client.post(CHAT, json=STREAM).text.split("\n\n")
    assert '"error"' in events[2]
    assert "[DONE]" not in events[-2]


def test_a_stream_can_be_cut(hub, client):
    hub.fail("cut", after=2)
    seen = []
    with (
        pytest.raises(httpx.RemoteProtocolError),
        client.stream("POST", CHAT, json=STREAM) as answer,
    ):
        seen.extend(answer.iter_lines())
    assert sum(line.startswith("data:") for line in seen) <= 2


def test_an_answer_can_be_cut(hub, client):
    hub.fail("cut")
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(CHAT, json=BODY)


def test_a_stream_can_stall(hub, client):
    hub.fail("stall", after=1)
    with (
        pytest.raises(httpx.ReadTimeout),
        client.stream("POST", CHAT, json=STREAM, timeout=0.05) as answer,
    ):
        list(answer.iter_lines())


def test_it_sees_a_client_leave_an_open_stream(hub, client):
    hub.fail("stall", after=1)
    with client.stream("POST", CHAT, json=STREAM) as answer:
        lines = answer.iter_lines()  # held: a dropped iterator closes the stream
        next(lines)
        assert hub.streams == 1
    wait_for(lambda: hub.streams == 0)


def test_a_stream_that_drips_is_an_open_stream(hub, client):
    hub.fail("drip", seconds=30)
    with client.stream("POST", CHAT, json=STREAM) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert hub.streams == 1
    wait_for(lambda: hub.streams == 0)


def test_a_stream_can_be_kept_alive_with_comments_alone(hub, client):
    hub.fail("keep-alive", after=1)
    with client.stream("POST", CHAT, json=STREAM) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines)[:6] for _ in range(3)] == ["data: ", ": keep", ": keep"]


def test_a_frame_can_be_broken(hub, client):
    hub.fail("bad-sse", after=1)
    events = client.post(CHAT, json=STREAM).text.split("\n\n")
    assert events[1] == 'data: {"choices": [{"index": 0, "delta'


def test_a_submit_can_be_refused_inside_200(hub, client):
    hub.fail("refuse", code="InvalidParameter.InvalidParameter")
    assert client.post(CHAT, json=BODY).status_code == 200
    answer = client.post(SUBMIT, json=VIDEO)
    assert (answer.status_code, answer.json()["id"]) == (200, "")
    assert not hub.jobs


def test_a_job_can_fail(hub, client):
    hub.fail("job", code="FailedOperation.ModerationFailed", message="blocked")
    job = client.post(SUBMIT, json=VIDEO).json()["id"]
    answer = client.post("/v1/api/video/query", json={**VIDEO, "id": job}).json()
    assert answer["status"] == "failed"
    assert answer["error"] == {"code": "FailedOperation.ModerationFailed", "message": "blocked"}
    assert hub.cost == 0


def test_an_answer_can_be_lost_after_the_job_was_made(hub, client):
    hub.fail("lost-answer")
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(SUBMIT, json=VIDEO)
    assert len(hub.jobs) == 1


def test_the_answer_of_a_refused_submit_is_not_lost(hub, client):
    hub.fail("lost-answer")
    refusal = client.post(SUBMIT, json={**VIDEO, "prompt": ""})
    assert (refusal.status_code, hub.jobs) == (200, {})
    assert refusal.json()["error"]


def test_a_download_can_be_cut(hub, client):
    job = client.post(SUBMIT, json=VIDEO).json()["id"]
    link = client.post("/v1/api/video/query", json={**VIDEO, "id": job}).json()["data"]["url"]
    hub.fail("cut", path="/files", after=1000)
    got = []
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", link) as answer:
        got.extend(answer.iter_raw())
    assert len(b"".join(got)) == 1000


async def test_stopping_does_not_wait_for_what_hangs():
    hub = Emulator(speed=1e6).start()
    hub.fail("hang")
    async with httpx.AsyncClient(base_url=hub.url, headers=HEAD, trust_env=False) as client:
        asked = asyncio.create_task(client.post(CHAT, json=BODY))
        while not hub.requests:  # noqa: ASYNC110  # the hub runs on a thread of its own
            await asyncio.sleep(0)
        await asyncio.to_thread(hub.stop)
        with pytest.raises(httpx.TransportError):
            await asked


def test_it_can_be_started_again():
    hub = Emulator()
    for _ in range(2):
        with hub:
            assert httpx.get(f"{hub.url}/v1/models", headers=HEAD).status_code == 200
    with pytest.raises(RuntimeError, match="not running"):
        assert hub.url
