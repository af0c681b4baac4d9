"""How a stream ends: what counts as the end of it, and what is left of one that has none."""

from __future__ import annotations

import asyncio
import json

import pytest

from langchain_tokenhub import ContentBlockedError, IncompleteStreamError, RateLimitError

HEAD = {"id": "c-1", "model": "m"}
HELLO = HEAD | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "你好"}}]}
END = HEAD | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = HEAD | {
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def _sse(*values):
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(f"data: {line}\n\n" for line in lines)


def _text(chunks):
    return "".join(chunk.text for chunk in chunks)


ENDINGS = {
    "finish reason and farewell": _sse(HELLO, END, "[DONE]"),
    "row 19 without the farewell": _sse(HELLO, END),
    "without the farewell, with usage": _sse(HELLO, END, USAGE),
    "the farewell alone": _sse(HELLO, "[DONE]"),
    "row 19 empty choices": _sse(HEAD | {"choices": []}, HELLO, END, USAGE, "[DONE]"),
    "comments in between": ": hello\n\n" + _sse(HELLO) + ": still here\n\n" + _sse(END, "[DONE]"),
    "carriage returns": _sse(HELLO, END, "[DONE]").replace("\n", "\r\n"),
    "an event's name": "event: message\n" + _sse(HELLO, END, "[DONE]"),
}


@pytest.mark.parametrize("raw", ENDINGS.values(), ids=ENDINGS)
def test_a_stream_that_said_how_it_ended_is_whole(service, call, raw):
    assert _text(call(service(raw).model(), "stream", "hi")) == "你好"


def test_usage_after_the_end_is_counted_without_the_farewell(service, call):
    chunks = call(service(_sse(HELLO, END, USAGE)).model(), "stream", "hi")

    assert chunks[-1].usage_metadata["total_tokens"] == 5


def test_row_22_a_stream_that_just_stops_is_an_error_that_holds_what_was_said(service, call):
    with pytest.raises(IncompleteStreamError) as cut:
        call(service(_sse(HELLO)).model(), "stream", "hi")

    assert cut.value.partial.text == "你好"
    assert cut.value.is_retryable
    with pytest.raises(IncompleteStreamError):
        list(service.model().stream_events("hi", version="v3"))


def test_a_cut_call_is_in_the_partial_answer(service, call):
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}
    cut_short = _sse(HEAD | {"choices": [{"delta": delta}]})

    with pytest.raises(IncompleteStreamError) as cut:
        call(service(cut_short).model(), "stream", "hi")

    partial = cut.value.partial
    assert len(partial.tool_calls) + len(partial.invalid_tool_calls) == 1


@pytest.mark.parametrize(
    ("code", "error"), [("429001", RateLimitError), ("451001", ContentBlockedError)]
)
def test_row_20_an_error_frame_is_its_own_class_at_the_beginning_and_later(
    service, services, call, code, error
):
    frame = {"error": {"code": code, "message": "x", "message_zh": "中文"}}

    for raw in (_sse(frame), _sse(HELLO, frame)):
        with pytest.raises(error, match="中文"):
            call(services()(raw).model(), "stream", "hi")


BUSY = {"code": "429006", "message": "busy"}
ERRORS = {
    "beside empty choices": {"error": BUSY, "choices": []},
    "beside content": HEAD | {"error": BUSY, "choices": [{"delta": {"content": "!"}}]},
    "in a choice": {"choices": [{"delta": {}, "error": BUSY, "finish_reason": "stop"}]},
    "in a delta": {"choices": [{"delta": {"error": BUSY}}]},
    "in a message": {"choices": [{"message": {"error": BUSY}}]},
    "a list": {"error": [BUSY]},
    "several": {"errors": [BUSY]},
    "in a list": [{"error": BUSY}],
    "a code and a message": BUSY,
    "a number and a msg": {"code": 429006, "msg": "busy"},
}


@pytest.mark.parametrize("frame", ERRORS.values(), ids=ERRORS)
def test_an_error_in_any_form_is_raised_with_what_came_before_it(services, call, frame):
    raw = _sse(HELLO, frame, END, "[DONE]")

    for ask in (
        lambda: call(services()(raw).model(), "stream", "hi"),
        lambda: call(services()(raw).model(), "invoke", "hi"),
        lambda: services()(raw).model().stream_events("hi", version="v3").output,
    ):
        with pytest.raises(RateLimitError, match="busy") as failed:
            ask()
        assert failed.value.partial.text.startswith("你好")


def test_the_name_of_an_error_event_is_read_in_any_case(service, call):
    with pytest.raises(RateLimitError, match="busy"):
        call(service(f"event: Error\n{_sse(BUSY)}").model(), "stream", "hi")


def test_a_code_beside_content_or_of_success_is_no_error(services, call):
    for beside in ({"code": 1, "message": "note"}, {"code": 0, "message": "success"}):
        raw = _sse(HELLO | beside, {"code": 200, "message": "ok"}, END, "[DONE]")
        assert _text(call(services()(raw).model(), "stream", "hi")) == "你好"


def test_an_error_inside_a_whole_answer_holds_what_was_said(services, call):
    choice = {"message": {"content": "半句"}, "finish_reason": "error", "error": BUSY}

    for verb in ("invoke", "stream"):
        with pytest.raises(RateLimitError, match="busy") as failed:
            call(services()({"choices": [choice]}).model(), verb, "hi")
        assert failed.value.partial.text == "半句"


def test_section_4_complaint_5_the_sum_of_a_stream_says_everything_once(service, call):
    first, *rest = call(service(_sse(HELLO, END, END, USAGE, "[DONE]")).model(), "stream", "hi")

    whole = sum(rest, first)

    assert (
        whole.response_metadata.items()
        >= {
            "id": "c-1",
            "model_name": "m",
            "model_provider": "tokenhub",
            "finish_reason": "stop",
            "host": "hub.test",
            "attempts": 1,
        }.items()
    )


def test_an_abandoned_async_stream_leaves_nothing_behind(service):
    async def leave():
        stream = service(_sse(HELLO, HELLO, END, "[DONE]")).model().astream("hi")
        first = await anext(stream)
        await stream.aclose()
        return first

    assert asyncio.run(leave()).text == "你好"
