"""Each knob of the emulator, seen by a raw client and by this package."""

from __future__ import annotations

import re
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import langchain_tokenhub
from langchain_tokenhub import (
    AuthenticationError,
    ChatTokenHub,
    JobNotFoundError,
    TokenHubError,
    TokenHubImageTool,
    TokenHubVideoTool,
)
from langchain_tokenhub.testing import Emulator

CHAT = "/v1/chat/completions"
HEAD = {"authorization": "Bearer any"}
BODY = {"model": "hy3", "messages": [{"role": "user", "content": "你好"}]}
STREAM = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
VIDEO = {"model": "hy-video-1.5", "prompt": "小河流水"}
GUIDE = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "model_not_available",
    429: "rate_limit_exceeded",
    500: "engine_server_error",
    503: "service_unavailable",
}
STATUS = {"401006": 400, "401007": 402, "401008": 402, "403004": 402, "20097": 429}
ROWS = tomllib.loads(
    (Path(langchain_tokenhub.__file__).parent / "catalogue" / "error_codes.toml").read_text("utf-8")
)["row"]
CODES = sorted({code.partition("@")[0] for row in ROWS for code in row.get("codes", [])})
DIGITS = [code for code in CODES if re.fullmatch(r"\d{5,6}", code)]  # shorter ones have no status
BUSINESS = [code for code in CODES if code[0].isupper()]


def client_of(hub):
    return httpx.Client(base_url=hub.url, headers=HEAD, trust_env=False, verify=False)


def ask(hub, path=CHAT, body=BODY, **more):
    with client_of(hub) as client:
        return client.post(path, json=body, **more)


def model_on(hub, **fields):
    given = {"model": "hy3", "base_url": hub.url, "api_key": "any", "max_retries": 0}
    return ChatTokenHub(**given | fields)


def raised(work, *args):
    with pytest.raises(TokenHubError) as caught:
        work(*args)
    return caught.value


# -- error codes, in both eras -------------------------------------------------------------------


@pytest.fixture(scope="module")
def today():
    with Emulator(speed=1e6, quotas=False) as hub:
        yield hub


@pytest.fixture(scope="module")
def guide():
    with Emulator(speed=1e6, era="guide") as hub:
        yield hub


@pytest.mark.parametrize("code", DIGITS)
def test_every_code_of_the_gateway_comes_with_its_status_and_todays_body(today, code):
    today.fail(code=code, message="why")
    answer = ask(today)
    error = answer.json()["error"]
    assert answer.status_code == STATUS.get(code, int(code[:3]))
    assert (error["code"], error["message"]) == (code, "why")
    assert re.search(r"[\u4e00-\u9fff]", error["message_zh"])
    assert error.keys() >= {"type", "request_id"}
    assert ("upstream_status" in error) == (error.get("source") == "upstream")


@pytest.mark.parametrize("code", DIGITS)
def test_in_the_guide_every_code_is_one_of_its_six_words(guide, code):
    guide.fail(code=code, message="why")
    answer = ask(guide)
    word = GUIDE[answer.status_code]
    assert answer.json() == {"error": {"message": "why", "type": word, "code": word}}


@pytest.mark.parametrize("status", GUIDE)
def test_a_word_of_the_guide_is_a_code_as_well(guide, status):
    guide.fail(code=GUIDE[status])
    answer = ask(guide)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, GUIDE[status])


@pytest.mark.parametrize("status", [402, 404, 413, 418, 451, 502, 504, 599])
def test_a_status_that_is_asked_for_is_the_status_in_both_eras(today, guide, status):
    for hub in (today, guide):
        hub.fail(status=status)
        assert ask(hub).status_code == status


@pytest.mark.parametrize("code", DIGITS)
def test_the_package_sees_each_code(today, code):
    today.fail(code=code)
    error = raised(model_on(today).invoke, "你好")
    assert (error.code, error.status) == (code, STATUS.get(code, int(code[:3])))


@pytest.mark.parametrize("code", BUSINESS)
def test_every_business_code_refuses_a_submit_and_ends_a_job(today, code):
    today.fail("refuse", code=code)
    assert ask(today, "/v1/api/video/submit", VIDEO).json()["error"]["code"] == code
    today.fail("job", code=code)
    job = ask(today, "/v1/api/video/submit", VIDEO).json()["id"]
    answer = ask(today, "/v1/api/video/query", {"model": VIDEO["model"], "id": job}).json()
    assert (answer["status"], answer["error"]["code"]) == ("failed", code)


def test_a_fault_that_does_not_exist_is_refused_with_those_that_do(today):
    with pytest.raises(ValueError, match=r"'slow-drip'; there are status, reset, .*black-hole"):
        today.fail("slow-drip")


# -- quotas --------------------------------------------------------------------------------------


def test_one_request_too_many_in_a_minute_is_429002_until_the_minute_is_over():
    with Emulator(speed=1e6, rpm=2) as hub:
        answers = [ask(hub) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["error"]["code"] == "429002"
        assert 0 < int(answers[2].headers["retry-after"]) <= 60
        hub.advance(60)
        assert ask(hub).status_code == 200


def test_tokens_beyond_the_limit_are_429003_until_the_minute_is_over():
    with Emulator(speed=1e6, tpm=40) as hub:
        spent = ask(hub).json()["usage"]["total_tokens"]
        long = {**BODY, "messages": [{"role": "user", "content": "啊" * 2 * (41 - spent)}]}
        refused = ask(hub, body=long)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "429003")
        hub.advance(60)
        assert ask(hub, body=long).status_code == 200


def test_a_prompt_that_no_minute_has_room_for_waits_a_whole_one():
    with Emulator(speed=1e6, tpm=1) as hub:
        assert ask(hub).headers["retry-after"] == "60"


def test_rate_limits_are_per_key_and_model():
    with Emulator(speed=1e6, rpm=1) as hub:
        other_key = {"authorization": "Bearer other"}
        answers = [ask(hub), ask(hub, body={**BODY, "model": "glm-5"}), ask(hub, headers=other_key)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert ask(hub).status_code == 429


def test_rate_limits_let_media_pass():
    with Emulator(speed=1e6, rpm=0) as hub:
        assert ask(hub, "/v1/api/video/submit", VIDEO).json()["id"]


# -- latency -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, "/v1/api/video/submit", "/v1/nowhere"])
def test_latency_comes_before_every_answer(path):
    with Emulator(speed=1e6, latency=0.1) as hub:
        begun = time.monotonic()
        ask(hub, path)
        assert time.monotonic() - begun >= 0.1


def test_latency_can_change_and_be_a_range():
    with Emulator(speed=1e6) as hub:
        hub.latency = (0.05, 0.06)
        begun = time.monotonic()
        ask(hub)
        assert time.monotonic() - begun >= 0.05


# -- slow and double -----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, STREAM])
def test_a_drip_takes_its_time_and_cuts_characters(today, body):
    today.fail("drip", seconds=0.2)
    begun = time.monotonic()
    with client_of(today) as client, client.stream("POST", CHAT, json=body) as answer:
        pieces = list(answer.iter_raw())
    assert time.monotonic() - begun >= 0.2
    assert len(pieces) > 20
    whole = b"".join(pieces)
    assert "你好".encode() in whole
    assert max(map(len, pieces)) < len(whole) / 10


def test_a_dripping_answer_and_stream_are_read_whole(today, call):
    model = model_on(today)
    text = model.invoke("你好").text
    today.fail("drip", seconds=0.2, times=2)
    assert call(model, "invoke", "你好").text == text
    assert "".join(chunk.text for chunk in call(model, "stream", "你好")) == text


def test_a_dripping_file_is_saved_whole(today, tmp_path):
    tool = TokenHubImageTool(base_url=today.url, api_key="any", save_to=str(tmp_path))
    today.fail("drip", path="/files", seconds=0.2)
    (file,) = tool.generate(prompt="雨").files
    assert file.read() == Path(file.path).read_bytes()
    assert file.read()[:4] == b"\x89PNG"


def test_an_error_can_drip(today):
    today.fail("drip", path="/v1/nowhere", seconds=0.05)
    assert ask(today, "/v1/nowhere").status_code == 404


def frames_of(hub, body=STREAM):
    return ask(hub, body=body).text.split("\n\n")[:-1]


@pytest.mark.parametrize("at", [0, 3, -1, -2])
def test_a_frame_can_come_twice(today, at):
    plain = len(frames_of(today))
    today.fail("duplicate", after=at)
    frames = frames_of(today)
    place = at if at >= 0 else plain + at
    assert len(frames) == plain + 1
    assert frames[place] == frames[place + 1]


@pytest.mark.parametrize("at", [0, -1, -2, -3])
def test_a_frame_that_comes_twice_is_not_counted_twice(today, call, at):
    model = model_on(today)
    whole = model.invoke("你好")
    today.fail("duplicate", after=at)
    chunks = call(model, "stream", "你好")
    message = sum(chunks[1:], chunks[0])
    assert message.text == whole.text
    assert message.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]
    assert message.response_metadata["finish_reason"] == "stop"


# -- black hole ----------------------------------------------------------------------------------


@pytest.fixture
def unreachable():
    with Emulator(speed=1e6) as hub:
        hub.fail("black-hole")
        yield hub


def test_nobody_can_connect_to_a_black_hole_until_it_recovers(unreachable):
    with client_of(unreachable) as client:
        with pytest.raises(httpx.ConnectTimeout):
            client.get("/v1/models", timeout=0.1)
        unreachable.recover()
        assert client.get("/v1/models").status_code == 200
    assert [request.path for request in unreachable.requests] == ["/v1/models"]


def test_a_black_hole_swallows_what_is_sent_on_an_open_connection():
    with Emulator(speed=1e6) as hub, client_of(hub) as client:
        client.get("/v1/models")
        hub.fail("black-hole")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/v1/models", timeout=0.1)
        assert len(hub.requests) == 1


def test_a_black_hole_can_be_there_from_the_start_and_again(unreachable):
    unreachable.stop()
    with unreachable:
        for _ in range(2):
            with pytest.raises(httpx.ConnectTimeout):
                httpx.get(unreachable.url, timeout=0.1)
            unreachable.recover()
            assert httpx.get(unreachable.url).status_code == 404
            unreachable.fail("black-hole")


def test_a_submit_into_a_black_hole_is_made_elsewhere_and_paid_once(unreachable, today):
    tool = TokenHubVideoTool(base_url=[unreachable.url, today.url], api_key="any", timeout=1)
    made = len(today.jobs)
    assert tool.generate(prompt="小河流水").files
    assert (len(unreachable.jobs), len(today.jobs)) == (0, made + 1)


def test_recovering_forgets_all_orders(today):
    today.fail(times=100)
    today.recover()
    assert ask(today).status_code == 200


# -- two hubs ------------------------------------------------------------------------------------


def test_the_key_of_another_site_is_refused_and_its_jobs_are_unknown():
    with Emulator(api_key="sk-cn", speed=1e6) as china, Emulator(api_key="sk-intl") as abroad:
        assert china.url != abroad.url
        error = raised(model_on(abroad, api_key="sk-cn").invoke, "你好")
        assert (type(error), error.code) == (AuthenticationError, "401002")
        job = TokenHubVideoTool(base_url=china.url, api_key="sk-cn").submit(prompt="小河流水")
        with pytest.raises(JobNotFoundError):
            TokenHubVideoTool(base_url=abroad.url, api_key="sk-intl").result(job.id)


@pytest.mark.parametrize(
    ("setting", "word"), [({"era": "tomorrow"}, "today and guide"), ({"speed": -1}, "negative")]
)
def test_a_setting_that_makes_no_sense_is_refused(setting, word):
    with pytest.raises(ValueError, match=word):
        Emulator(**setting)


# -- chance --------------------------------------------------------------------------------------

SCRIPT = [
    (CHAT, BODY),
    (CHAT, STREAM),
    (CHAT, {**BODY, "model": "gpt-4o"}),
    ("/v1/api/video/submit", VIDEO),
    ("/v1/api/video/submit", {**VIDEO, "prompt": "雨"}),
    ("/v1/api/image/submit", {"model": "hy-image-v3.0", "prompt": "雨"}),
    ("/v1/api/3d/submit", {"model": "hy-3d-express", "prompt": "塔"}),
    ("/v1/nowhere", {}),
]


def played(script, seed=0, era="today", threads=1):
    """Play requests to a new hub; the times, and what is signed with them, are taken out."""
    with Emulator(speed=0, seed=seed, era=era) as hub, ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(lambda step: ask(hub, *step), script))
        hub.advance(60)
        works = {job.id: job.kind for job in hub.jobs.values()}
        bodies = [{"model": hub.jobs[job].model, "id": job} for job in works]
        later = [ask(hub, f"/v1/api/{works[body['id']]}/query", body) for body in bodies]
        home = hub.url.encode()
    raw = [answer.content.replace(home, b"") for answer in [*answers, *later]]
    return sorted(re.sub(rb"1[78]\d{8}|(?<=q-signature=)\w+", b"", one) for one in raw)


@pytest.mark.parametrize("era", ["today", "guide"])
def test_the_same_seed_and_requests_have_the_same_answers_to_the_byte(era):
    assert played(SCRIPT, era=era) == played(SCRIPT, era=era)


def test_another_seed_has_other_ids():
    assert not set(played(SCRIPT[3:5])) & set(played(SCRIPT[3:5], seed=1))


def test_the_order_in_which_requests_arrive_does_not_matter():
    script = [s for s in SCRIPT if s[1] != STREAM]  # its cached tokens tell who was first
    assert played(script) == played(script[::-1]) == played(script, threads=4)


def test_a_repeated_request_has_an_id_of_its_own(today):
    ids = [ask(today).json()["id"] for _ in range(3)]
    assert len(set(ids)) == 3


def test_many_threads_may_order_and_look_while_it_runs(today):
    def meddle(stop):
        while not stop.is_set():
            today.fail("drip", path="/v1/models", seconds=0)
            ask(today, "/v1/models")
            assert today.cost >= 0
            assert today.jobs is not None

    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        work = pool.submit(meddle, stop)
        codes = [ask(today).status_code for _ in range(50)]
        stop.set()
        work.result()
    today.recover()
    assert set(codes) == {200}
