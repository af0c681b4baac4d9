"""What no client should send: the answers are errors of the service, and the emulator lives on."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import socket
import threading
import time

import httpx
import pytest

from langchain_tokenhub.testing import Emulator

CHAT = "/v1/chat/completions"
HEAD = {"authorization": "Bearer any"}
USER = {"role": "user", "content": "hi"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
BODY = {"model": "ep-1", "messages": [USER]}
ODD_SCHEMA = {
    "type": "object",
    "properties": {
        "not a schema": 5,
        "reference": {"$ref": "#/none"},
        "type": {"type": 7},
        "bound": {"type": "integer", "minimum": "x"},
        "items": {"type": "array", "items": []},
        "either": {"anyOf": []},
        "huge": {"type": "string", "minLength": 10**12},
        "bad reference": {"$ref": "#/$defs/bad"},
    },
    "$defs": {"bad": {"anyOf": 5}},
}
ODD = [
    None, 0, -1, 1.5, "", "x", [], [1], {}, {"a": 1}, True, [[]], [{}], [None], {"type": []},
    {"type": {}}, {"url": 1}, {"url": "http://["}, [{"type": "text"}], [{"type": ["a"]}], [CALL],
    [{"type": "image_url", "image_url": {"url": "http://[", "detail": []}}],
    [{"id": "a", "function": {"name": "f", "arguments": 5}}],
    {"type": "json_schema", "json_schema": {"name": "n", "schema": {"items": 5, "type": "array"}}},
    {"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#"}}},
    *[
        [{"type": "function", "function": {"name": "a", "parameters": ODD_SCHEMA | {
            "properties": {name: inner}, "required": [name, 5]}}}]
        for name, inner in ODD_SCHEMA["properties"].items()
    ],
    "0:0", "99999:99999", {"base64": 5}, [{"view_type": []}], {"logo_rect": {"x": "1"}},
]  # fmt: skip
CHAT_FIELDS = [
    "model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "n",
    "seed", "stop", "tools", "tool_choice", "parallel_tool_calls", "thinking", "reasoning_effort",
    "response_format", "user", "logit_bias",
]  # fmt: skip
MESSAGE_FIELDS = ["role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"]
MEDIA_FIELDS = [
    "model", "prompt", "resolution", "images", "image", "image_url", "image_base64", "seed",
    "revise", "logo_add", "logo_param", "template", "result_format", "generate_type",
    "multi_view_images", "face_count", "audio_url", "rsp_img_type", "extra_param",
    "negative_prompt", "enable_geometry", "polygon_type",
]  # fmt: skip
MEDIA_MODELS = {
    "image/submit": ["hy-image-v3.0", "ep-1"],
    "image/lite": ["hy-image-lite"],
    "video/submit": ["hy-video-1.5", "yt-video-fx", "yt-video-humanactor"],
    "3d/submit": ["hy-3d-3.1", "hy-3d-express"],
}


@pytest.fixture(scope="module")
def hub():
    with Emulator(speed=1e6, quotas=False) as running:
        yield running


@pytest.fixture(scope="module")
def client(hub):
    with httpx.Client(base_url=hub.url, headers=HEAD, trust_env=False) as made:
        yield made


def codes(client, path, bodies):
    """Ask everything, and return what was answered with a failure of the emulator itself."""
    asked = [(body, client.post(path, json=body)) for body in bodies]
    return [(body, answer.text) for body, answer in asked if answer.status_code >= 500]


@pytest.mark.parametrize("field", CHAT_FIELDS)
def test_no_value_of_a_chat_field_breaks_it(client, field):
    more = [{}, {"tool_choice": "required"}, {"response_format": {"type": "json_object"}}]
    bodies = [{**BODY, **extra, field: odd} for odd in ODD for extra in more]
    assert codes(client, CHAT, bodies) == []


@pytest.mark.parametrize("field", MESSAGE_FIELDS)
def test_no_value_in_a_message_breaks_it(client, field):
    roles = ["system", "user", "assistant", "tool"]
    odd = [
        {"role": role, "content": "x", field: odd} for role, odd in itertools.product(roles, ODD)
    ]
    before = [[], [USER], [USER, {"role": "assistant", "tool_calls": [CALL]}]]
    bodies = [{**BODY, "messages": [*start, one]} for start in before for one in odd]
    assert codes(client, CHAT, bodies) == []


@pytest.mark.parametrize("field", MEDIA_FIELDS)
@pytest.mark.parametrize("path", MEDIA_MODELS)
def test_no_value_of_a_media_field_breaks_it(client, path, field):
    asked = itertools.product(MEDIA_MODELS[path], ODD)
    bodies = [{"model": model, "prompt": "x", field: odd} for model, odd in asked]
    assert codes(client, f"/v1/api/{path}", bodies) == []


@pytest.mark.parametrize("kind", ["image", "video", "3d"])
def test_no_query_breaks_it(client, kind):
    bodies = [body for odd in ODD for body in ({"id": odd, "model": "x"}, {"model": odd}, odd)]
    assert codes(client, f"/v1/api/{kind}/query", bodies) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"model": "\xff"}',
        b'{"model": "ep-1", "temperature": NaN}', b'{"seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
    ids=lambda raw: f"{raw[:12]!r}",
)  # fmt: skip
def test_a_body_that_is_no_object_is_400001(client, raw):
    answer = client.post(CHAT, content=raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "400001")


@pytest.mark.parametrize("depth", [60, 120, 250, 400])
def test_no_depth_of_a_schema_breaks_it(client, depth):
    schema = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    function = {"name": "f", "parameters": schema}
    body = {**BODY, "tools": [{"type": "function", "function": function}]}
    assert codes(client, CHAT, [{**body, "tool_choice": "required"}]) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x"])
def test_the_content_type_does_not_matter(client, kind):
    raw = json.dumps(BODY)
    assert client.post(CHAT, content=raw, headers={"content-type": kind}).status_code == 200


def test_a_form_is_no_json(client):
    answers = client.post(CHAT, data={"model": "hy3"}), client.post(CHAT, files={"f": b"x"})
    assert [answer.json()["error"]["code"] for answer in answers] == ["400001"] * 2


def test_a_body_too_large_is_413001_and_the_client_hears_it(client):
    answer = client.post(CHAT, content=b"x" * ((100 << 20) + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "413001")


@pytest.mark.parametrize("key", ["", "Bearer", "Basic abc", "any"])
def test_a_request_without_a_key_is_401001(hub, key):
    answer = httpx.post(f"{hub.url}{CHAT}", json=BODY, headers={"authorization": key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "401001")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("PUT", "/v1/api/image/submit", 405),
        ("DELETE", "/files/x", 405),
        ("POST", "/v1/api/audio/submit", 404),
        ("POST", f"{CHAT}/", 404),
        ("GET", "/%ff%fe", 404),
    ],
)
def test_a_wrong_path_or_method_is_an_error_in_json(client, method, path, status):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, f"{status}001")


@pytest.mark.parametrize("query", ["", "?q-signature=é", "?q-sign-time=a;b;c&q-signature=x"])
def test_no_query_of_a_link_breaks_it(hub, query):
    assert httpx.get(f"{hub.url}/files/x{query}").status_code == 403


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=lambda raw: f"{raw[:12]!r}",
)
def test_what_is_no_http_gets_400_and_hurts_nobody(hub, client, raw):
    with socket.create_connection(httpx.URL(hub.url).netloc.decode().split(":")) as line:
        line.sendall(raw)
        assert line.recv(12) == b"HTTP/1.1 400"
    assert client.get("/v1/models").status_code == 200


def test_a_client_that_leaves_amid_its_body_hurts_nobody(hub, client):
    with socket.create_connection(httpx.URL(hub.url).netloc.decode().split(":")) as line:
        line.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{{".encode())
    assert client.get("/v1/models").status_code == 200


def test_its_thread_is_still_the_one_it_began_with(hub, client):
    client.get("/v1/models")
    assert [t.name for t in threading.enumerate()].count("tokenhub-emulator") == 1


async def test_stopping_ends_open_streams_hanging_requests_and_black_holes_at_once():
    async with httpx.AsyncClient(headers=HEAD, trust_env=False) as client:
        hub, waiting = Emulator(speed=1e6).start(), []
        for kind, body in [("hang", BODY), ("stall", {**BODY, "stream": True}), ("drip", BODY)]:
            hub.fail(kind, seconds=600, times=10)
            asked = [client.post(f"{hub.url}{CHAT}", json=body) for _ in range(10)]
            waiting.append(asyncio.gather(*asked, return_exceptions=True))
            seen = len(hub.requests) + 10
            while len(hub.requests) < seen:  # noqa: ASYNC110  # the hub is on another thread
                await asyncio.sleep(0)
        hub.fail("black-hole")
        begun = time.monotonic()
        await asyncio.to_thread(hub.stop)
        assert time.monotonic() - begun < 5
        ends = [end for together in waiting for end in await together]
        assert all(isinstance(end, httpx.TransportError) for end in ends)


def test_stopping_closes_a_connection_that_is_just_being_accepted():
    with Emulator() as hub:
        hub._server._loop.call_soon_threadsafe(time.sleep, 0.2)
        host, port = hub.url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
    client.close()
    gc.collect()  # an open socket would warn, and warnings are errors here
