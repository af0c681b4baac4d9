"""Content blocks of every provider become the wire's parts, or are refused by name."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from langchain_core.messages import HumanMessage

from langchain_tokenhub import InvalidRequestError
from langchain_tokenhub.chat.content import content_of, read_result, text_of

LINK = "https://pictures.test/cat.png"
DATA = "data:image/png;base64,aGk="


def _image(url):
    return [{"type": "image_url", "image_url": {"url": url}}]


IMAGES = {
    "LangChain v1, by link": ({"type": "image", "url": LINK}, LINK),
    "LangChain v1, by bytes": ({"type": "image", "base64": "aGk=", "mime_type": "image/png"}, DATA),
    "LangChain v0, by link": ({"type": "image", "source_type": "url", "url": LINK}, LINK),
    "LangChain v0, by bytes": (
        {"type": "image", "source_type": "base64", "data": "aGk=", "mime_type": "image/png"},
        DATA,
    ),
    "OpenAI chat": ({"type": "image_url", "image_url": {"url": LINK}}, LINK),
    "OpenAI chat, short": ({"type": "image_url", "image_url": LINK}, LINK),
    "OpenAI responses": ({"type": "input_image", "image_url": LINK}, LINK),
    "Anthropic, by link": ({"type": "image", "source": {"type": "url", "url": LINK}}, LINK),
    "Anthropic, by bytes": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        DATA,
    ),
    "Google": ({"type": "media", "mime_type": "image/png", "data": "aGk="}, DATA),
    "already a data URL": ({"type": "image", "base64": DATA}, DATA),
    "wrapped as non-standard": (
        {"type": "non_standard", "value": {"type": "image", "url": LINK}},
        LINK,
    ),
}


@pytest.mark.parametrize(("block", "url"), IMAGES.values(), ids=IMAGES)
def test_an_image_of_any_provider_becomes_an_image_url(block, url):
    assert content_of([block]) == _image(url)


VIDEOS = {
    "LangChain v1, by link": (
        {"type": "video", "url": "https://v.test/a.mp4"},
        "https://v.test/a.mp4",
    ),
    "LangChain v1, by bytes": (
        {"type": "video", "base64": "aGk=", "mime_type": "video/webm"},
        "data:video/webm;base64,aGk=",
    ),
    "the wire's own": (
        {"type": "video_url", "video_url": {"url": "https://v.test/a.mp4"}},
        "https://v.test/a.mp4",
    ),
    "the wire's own, short": (
        {"type": "video_url", "video_url": "https://v.test/a.mp4"},
        "https://v.test/a.mp4",
    ),
}


@pytest.mark.parametrize(("block", "url"), VIDEOS.values(), ids=VIDEOS)
def test_row_62_a_video_of_any_provider_becomes_a_video_url(block, url):
    assert content_of([block]) == [{"type": "video_url", "video_url": {"url": url}}]


FILES = {
    "LangChain v1": {"type": "file", "url": "https://f.test/a.pdf"},
    "LangChain v0": {"type": "file", "source_type": "url", "url": "https://f.test/a.pdf"},
    "Anthropic": {"type": "document", "source": {"type": "url", "url": "https://f.test/a.pdf"}},
    "OpenAI responses": {"type": "input_file", "file_url": "https://f.test/a.pdf"},
    "the wire's own": {"type": "file_url", "file_url": {"url": "https://f.test/a.pdf"}},
    "Google": {"type": "media", "mime_type": "application/pdf", "file_uri": "https://f.test/a.pdf"},
}


@pytest.mark.parametrize("block", FILES.values(), ids=FILES)
def test_row_63_a_file_by_link_becomes_a_file_url(block):
    assert content_of([block]) == [
        {"type": "file_url", "file_url": {"url": "https://f.test/a.pdf"}}
    ]


TEXTS = {
    "plain": {"type": "text", "text": "雨中竹林"},
    "LangChain v1 plain text": {"type": "text-plain", "text": "雨中竹林"},
    "LangChain v1 plain text, by bytes": {
        "type": "text-plain",
        "base64": base64.b64encode("雨中竹林".encode()).decode(),
        "mime_type": "text/plain",
    },
    "a text file, by bytes": {
        "type": "file",
        "base64": base64.b64encode("雨中竹林".encode()).decode(),
        "mime_type": "text/markdown",
    },
    "LangChain v0": {"type": "file", "source_type": "text", "text": "雨中竹林"},
    "Anthropic's document": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "雨中竹林"},
    },
    "Anthropic's cached text": {
        "type": "text",
        "text": "雨中竹林",
        "cache_control": {"type": "ephemeral"},
    },
    "OpenAI responses": {"type": "input_text", "text": "雨中竹林"},
    "Bedrock, without a type": {"text": "雨中竹林"},
    "a bare string": "雨中竹林",
}


@pytest.mark.parametrize("block", TEXTS.values(), ids=TEXTS)
def test_text_of_any_provider_is_sent_as_a_string(block):
    assert content_of([block]) == "雨中竹林"


SILENT = [
    {"type": "reasoning", "reasoning": "…"},
    {"type": "thinking", "thinking": "…", "signature": "x"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "tool_use", "id": "1", "name": "f", "input": {}},
    {"type": "tool_call", "id": "1", "name": "f", "args": {}},
    {"type": "input_json_delta", "partial_json": "{"},
    {"type": "text", "text": ""},
]


@pytest.mark.parametrize("block", SILENT, ids=lambda block: block["type"])
def test_row_44_blocks_that_say_nothing_to_a_model_are_left_out(block):
    assert content_of([block, {"type": "text", "text": "hi"}]) == "hi"


UNTAKEN = {
    "row 64 audio, LangChain": ({"type": "audio", "base64": "aGk="}, "no audio input; send a tr"),
    "row 64 audio, OpenAI": ({"type": "input_audio", "input_audio": {}}, "no audio input"),
    "row 64 audio, Google": ({"type": "media", "mime_type": "audio/wav", "data": "aGk="}, "audio"),
    "row 64 a PDF's bytes": (
        {"type": "file", "base64": "aGk=", "mime_type": "application/pdf"},
        r"files by http\(s\) link only",
    ),
    "an OpenAI file's bytes": (
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk="}},
        r"files by http\(s\) link only",
    ),
}


@pytest.mark.parametrize(("block", "said"), UNTAKEN.values(), ids=UNTAKEN)
def test_what_no_model_takes_is_refused_with_the_models_name(service, call, block, said):
    with pytest.raises(InvalidRequestError, match=f"^message 0 .*'ep-1' accepts .*{said}"):
        call(service({}).model("ep-1"), "invoke", [HumanMessage([block])])
    assert service.bodies == []


LOCAL = ["file:///etc/passwd", "FILE:///x", "/etc/passwd", "cat.png", "C:\\cat.png", "s3://b/c.png"]


@pytest.mark.parametrize("url", LOCAL)
def test_a_local_file_is_never_read_for_a_message_and_the_error_says_what_to_do(url):
    for block in (
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "image", "url": url},
        {"type": "video", "url": url},
        {"type": "file", "url": url},
    ):
        with pytest.raises(InvalidRequestError, match=r"reads http.*links and data URLs") as found:
            content_of([block])
        assert "base64" in found.value.hint
        assert "passwd" not in str(found.value)


ARRAYS = {
    "as a block": np.zeros(3),
    "as base64": {"type": "image", "base64": np.zeros(3), "mime_type": "image/png"},
    "as data": {"type": "media", "mime_type": "image/png", "data": np.zeros(3)},
    "as bytes": {"type": "image", "base64": b"png", "mime_type": "image/png"},
    "as a url": {"type": "image_url", "image_url": np.zeros(3)},
    "as text": {"type": "text", "text": np.zeros(3)},
}


@pytest.mark.parametrize("block", ARRAYS.values(), ids=ARRAYS)
def test_an_array_is_refused_before_anything_is_sent(service, call, block):
    with pytest.raises(InvalidRequestError, match=r"message 0 .*(ndarray|bytes|has no url)"):
        call(
            service({}).model("kimi-k2.6"),
            "invoke",
            [HumanMessage.model_construct(content=[block])],
        )
    assert service.bodies == []


def test_an_array_in_a_tools_record_is_refused_and_not_cut_short():
    with pytest.raises(InvalidRequestError, match="content holds a ndarray"):
        read_result([{"frame": np.zeros(3)}])


REFUSED = {
    "another service's file": ({"type": "file", "file": {"file_id": "f-1"}}, "file IDs"),
    "an image without anything": ({"type": "image"}, "has no url or base64"),
    "a kind that nobody knows": ({"type": "hologram"}, "'hologram'"),
    "no block at all": (7, "content holds a int"),
}


@pytest.mark.parametrize(("block", "said"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_cannot_take_is_refused_by_name(block, said):
    with pytest.raises(InvalidRequestError, match=said):
        content_of([block])


def test_text_and_an_image_stay_in_their_order():
    blocks = ["看", {"type": "image", "url": LINK}, "是什么?"]

    kinds = [part["type"] for part in content_of(blocks)]

    assert kinds == ["text", "image_url", "text"]


def test_an_images_detail_reaches_the_wire():
    block = {"type": "image_url", "image_url": {"url": LINK, "detail": "low"}}

    assert content_of([block]) == [block]


TWO = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]


def test_text_blocks_are_separated_whoever_sent_them_but_the_assistant():
    assert content_of(TWO) == read_result(TWO)[0] == text_of(TWO) == "a\nb"
    assert text_of(TWO, "") == "ab"
    assert read_result([*TWO, {"n": 1}]) == ('a\nb\n{"n": 1}', [])


def test_a_tools_record_with_a_text_among_its_fields_loses_none_of_them():
    record = {"text": "腾讯云", "url": "https://a.test"}
    text = json.dumps(record, ensure_ascii=False)

    assert read_result([record, {"text": "alone"}]) == (f"{text}\nalone", [])
    assert read_result(record) == (text, [])
    assert read_result({"type": "circle"}) == ('{"type": "circle"}', [])
    assert read_result([{"text": 5}]) == ('{"text": 5}', [])


def test_a_tools_records_go_as_json_one_a_line():
    records = [{"city": "北京", "t": 22}, {"city": "上海", "t": 25}]

    text = '{"city": "北京", "t": 22}\n{"city": "上海", "t": 25}'
    assert read_result(records) == (text, [])


def test_a_tools_picture_is_no_text_and_is_shown():
    content = [{"type": "text", "text": "here"}, {"type": "image", "url": LINK}]

    assert read_result(content) == ("here", _image(LINK))


@pytest.mark.parametrize(
    ("content", "text"), [(None, ""), ("a", "a"), ([], ""), ({"a": "北"}, '{"a": "北"}')]
)
def test_the_text_of_any_content_is_a_string(content, text):
    assert text_of(content) == text


BARE = [None, "", {}, {"url": None}, {"url": 1}, {"url": ""}, 3]


@pytest.mark.parametrize("value", BARE)
@pytest.mark.parametrize("kind", ["image_url", "video_url", "file_url"])
def test_a_part_of_the_wires_own_without_a_url_is_refused(kind, value):
    with pytest.raises(InvalidRequestError, match=f"'{kind}' has no url"):
        content_of([{"type": kind, kind: value}])


@pytest.mark.parametrize("data", ["abc", "中文"])
def test_a_plain_text_that_is_no_base64_is_refused(data):
    with pytest.raises(InvalidRequestError, match="base64"):
        content_of([{"type": "text-plain", "base64": data, "mime_type": "text/plain"}])
