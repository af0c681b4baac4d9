from __future__ import annotations

import json

from langchain_tokenhub.testing.chat_routes import Envelope, completion, frames
from langchain_tokenhub.testing.chat_script import Answer, ToolCall

TALK = Answer("你好")
CALLS = Answer(
    calls=(ToolCall("f", "{ }", "call_0"), ToolCall("g", '{"a": 1}', "call_1")),
    finish="tool_calls",
)


def envelope(era="today", **more):
    return Envelope("id1", "hy3", 1, era, **more)


def chunks(answer, wrap, usage=None):
    *events, last = frames(answer, wrap, usage)
    assert last == b"data: [DONE]\n\n"
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


def choices(answer, wrap):
    return [chunk["choices"][0] for chunk in chunks(answer, wrap)]


def test_the_first_delta_has_the_role_and_no_text():
    assert choices(TALK, envelope())[0]["delta"] == {"role": "assistant"}


def test_today_the_finish_reason_is_absent_until_the_end():
    *before, last = choices(TALK, envelope())
    assert not any("finish_reason" in choice for choice in before)
    assert last == {"index": 0, "delta": {}, "finish_reason": "stop"}


def test_in_the_guide_the_finish_reason_is_null_until_the_end():
    *before, last = choices(TALK, envelope("guide"))
    assert [choice["finish_reason"] for choice in before] == [None] * len(before)
    assert last["finish_reason"] == "stop"


def test_the_usage_chunk_has_no_choices():
    last = chunks(TALK, envelope(), {"total_tokens": 3})[-1]
    assert (last["choices"], last["usage"]) == ([], {"total_tokens": 3})


def test_parallel_calls_come_interleaved():
    deltas = [c["delta"]["tool_calls"][0] for c in choices(CALLS, envelope())[1:-1]]
    assert [delta["index"] for delta in deltas] == [0, 1, 0, 1, 0, 1, 1, 1, 1]
    assert [delta.get("id") for delta in deltas[:3]] == ["call_0", "call_1", None]


def test_old_hunyuan_repeats_the_id_with_an_empty_name():
    deltas = [
        c["delta"]["tool_calls"][0] for c in choices(CALLS, envelope(repeats_calls=True))[1:-1]
    ]
    assert all(delta["id"] for delta in deltas)
    assert [delta["function"]["name"] for delta in deltas] == ["f", "g", *[""] * 7]


def test_a_whole_answer_has_empty_content_beside_calls_today_and_null_in_the_guide():
    message = {
        era: completion(CALLS, envelope(era), {})["choices"][0]["message"]
        for era in ("today", "guide")
    }
    assert (message["today"]["content"], message["guide"]["content"]) == ("", None)
