from __future__ import annotations

import pytest

from langchain_tokenhub.testing.chat_validation import check_chat, check_embeddings
from langchain_tokenhub.testing.errors import RefusedError

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
U = {"role": "user", "content": "hi"}
A = {"role": "assistant", "content": "hello"}
S = {"role": "system", "content": "be kind"}
C = {"role": "assistant", "content": None, "tool_calls": [CALL]}
T = {"role": "tool", "tool_call_id": "c1", "content": "done"}
LINK = {"url": "https://example.com/x"}
LOOK = {"role": "user", "content": [{"type": "image_url", "image_url": LINK}]}
FORCED = {"tools": [TOOL], "tool_choice": "required"}
ON, OFF = {"type": "enabled"}, {"type": "disabled"}


def check(messages=None, model="ep-1", era="today", **body):
    return check_chat({"model": model, "messages": messages or [U], **body}, era)


def refusal(*args, **kwargs) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        check(*args, **kwargs)
    return caught.value


@pytest.mark.parametrize(
    "messages",
    [[U], [S, U], [U, A, U], [U, C, T], [U, C, T, A, U], [S, U, C, T, U]],
    ids=lambda value: "-".join(m["role"] for m in value),
)
def test_an_orderly_conversation_is_accepted(messages):
    check(messages)


@pytest.mark.parametrize(
    ("messages", "position"),
    [
        ([A, U], 0),
        ([U, U], 1),
        ([S, S, U], 1),
        ([U, S, U], 1),
        ([U, A, A, U], 2),
        ([U, A], 1),
        ([S], 0),
        ([U, T], 1),
        ([U, C, {**T, "tool_call_id": "other"}], 2),
        ([U, C, U], 2),
        ([U, C], 1),
        ([U, C, T, T], 3),
        ([{"role": "developer", "content": "x"}, U], 0),
    ],
)
def test_disorder_is_refused_naming_the_position(messages, position):
    error = refusal(messages)
    assert error.code == "400002"
    assert f"messages[{position}]" in error.message


@pytest.mark.parametrize(
    "message",
    [
        {**T, "status": "error"},
        {**T, "content": [{"type": "image_url", "image_url": LINK}]},
        {**C, "content": [{"type": "tool_use", "id": "c1"}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]},
        {"role": "user", "content": [{"type": "image", "base64": "x"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.com"}]},
        {"role": "user", "content": [{"type": "file_url", "file_url": {"url": "data:x"}}]},
        {"role": "user", "content": None},
        {"role": "user"},
    ],
)
def test_what_the_service_does_not_know_is_refused(message):
    before = {"tool": [U, C], "assistant": [U], "user": []}[message["role"]]
    assert refusal([*before, message]).code == "400002"


@pytest.mark.parametrize("kind", ["image_url", "video_url", "file_url"])
def test_links_to_media_are_accepted(kind):
    check(
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind, kind: LINK}]}]
    )


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 2.1},
        {"temperature": "1"},
        {"top_p": -0.1},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"stop": []},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"n": 2},
        {"seed": "1"},
        {"stream": "true"},
        {"stream_options": {"include_usage": True}},
        {"tools": []},
        {"tools": [{"name": "f", "input_schema": {}}]},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": "any"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "xml"}},
        {"thinking": True},
        {"thinking": {"type": "on"}},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(body):
    assert refusal(**body).code == "400002"


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"stop": "x"},
        {"stop": ["a", "b", "c", "d"]},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"response_format": {"type": "json_object"}},
        {"prompt_cache_key": "later fields pass"},
    ],
    ids=str,
)
def test_a_value_within_limits_is_accepted(body):
    check(**body)


JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("model", "messages", "body", "code"),
    [
        ("deepseek-v4-pro", [U], {"tools": [TOOL], "tool_choice": "required"}, "400002"),
        ("deepseek-v3.2", [U], {**FORCED, "thinking": ON}, "400002"),
        ("deepseek-v4-flash", [U, C, T], {"tools": [TOOL]}, "400002"),
        ("kimi-k2.6", [U, C, T], {"tools": [TOOL]}, "400002"),
        ("kimi-k2.6", [U, {**C, "reasoning_content": ""}, T], {"tools": [TOOL]}, "400002"),
        ("kimi-k3", [U], {"thinking": ON}, "400002"),
        ("kimi-k2.8-preview", [U], {"thinking": ON}, "400002"),
        ("minimax-m3", [U], {"thinking": ON}, "400002"),
        ("glm-5.3", [U], {"thinking": OFF}, "400002"),
        ("minimax-m2.7", [U], {"thinking": OFF}, "400002"),
        ("kimi-k2.6", [U], {"temperature": 0.2}, "400002"),
        ("deepseek-v4-pro", [U], {"response_format": JSON_SCHEMA}, "400006"),
        ("deepseek-v4-pro", [U], {"response_format": {"type": "json_object"}}, "400002"),
        ("hy-image-v3.0", [U], {}, "400005"),
        ("hy-role", [U], {"tools": [TOOL]}, "400005"),
        ("hy-mt2-pro", [U], {"tools": [TOOL]}, "400005"),
        ("hy-mt2-pro", [{"role": "user", "content": "字" * 9000}], {}, "400003"),
        ("glm-5", [LOOK], {}, "400005"),
    ],
)  # fmt: skip
def test_a_family_refuses_what_it_cannot_do(model, messages, body, code):
    assert refusal(messages, model=model, **body).code == code


@pytest.mark.parametrize(
    ("model", "messages", "body"),
    [
        ("deepseek-v4-pro", [U], {**FORCED, "thinking": OFF}),
        ("deepseek-v3.2", [U], {"tools": [TOOL], "tool_choice": "required"}),
        ("kimi-k2.6", [U, {**C, "reasoning_content": " "}, T], {"tools": [TOOL]}),
        ("kimi-k2.6", [U, C, T], {"tools": [TOOL], "thinking": {"type": "disabled"}}),
        ("minimax-m3", [U], {"thinking": {"type": "adaptive"}}),
        ("kimi-k2.6", [U], {"temperature": 0.6}),
        ("hunyuan-2.0-instruct-20251111", [U], {}),
    ],
)  # fmt: skip
def test_a_family_accepts_what_it_can_do(model, messages, body):
    check(messages, model=model, **body)


def test_the_guide_knows_no_family_rules():
    check([U, C, T], model="kimi-k2.6", era="guide", tools=[TOOL])


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ("", "input[0]"),
        ([], "at least 1 item"),
        (["a"] * 129, "at most 128 items"),
        (["a", "a" * 2001], "input[1]"),
        (3, "valid list"),
    ],
    ids=["empty", "none", "many", "long", "number"],
)
def test_the_refusal_of_texts_to_embed_names_the_fault(texts, reason):
    with pytest.raises(RefusedError) as caught:
        check_embeddings({"model": "ep-1", "input": texts})
    assert reason in caught.value.message
