"""What the service says becomes LangChain's messages, whatever the server's quirks."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import AIMessageChunk

from langchain_tokenhub import ServerError
from langchain_tokenhub.chat.response import DeltaReader, check_answer, chunks_of


def _chunk(finish=None, **delta):
    choice = {"index": 0, "delta": delta} | ({"finish_reason": finish} if finish else {})
    return {"id": "c-1", "model": "m", "choices": [choice]}


def _whole(*values):
    """Return the message that a stream adds up to."""
    reader = DeltaReader("asked-for")
    items = [delta for value in values if (delta := reader.read(value))]
    rest, ending = reader.finish()
    items += rest
    chunks = [chunk.message for chunk in chunks_of([*items, ending])]
    return sum(chunks[1:], chunks[0])


def _answer(**message):
    return _whole(
        {"id": "x", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    )


def _thought(message):
    return message.additional_kwargs.get("reasoning_content", "")


# -- reasoning -------------------------------------------------------------------------------

FIELDS = {
    "reasoning_content": "hm",
    "reasoning": "hm",
    "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
}


@pytest.mark.parametrize(("name", "value"), FIELDS.items())
def test_row_54_reasoning_is_kept_under_every_name_that_servers_give_it(name, value):
    assert _thought(_answer(content="x", **{name: value})) == "hm"
    assert _thought(_whole(_chunk(**{name: value}), _chunk("stop", content="x"))) == "hm"


TAGGED = "<think>\nhm, 天气\n</think>\n\n晴"


@pytest.mark.parametrize("cut", range(1, len(TAGGED)))
def test_think_tags_split_anywhere_give_the_same_reasoning_and_text(cut):
    message = _whole(_chunk(content=TAGGED[:cut]), _chunk("stop", content=TAGGED[cut:]))

    assert (_thought(message), message.content) == ("hm, 天气\n", "晴")


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>cut off", "cut off", ""),
        ("<thin", "", "<thin"),
        ("<b>bold</b>", "", "<b>bold</b>"),
        ("a <think>b</think>", "", "a <think>b</think>"),
        ("<think></think>hi", "", "hi"),
        ("", "", ""),
        ("  hi", "", "  hi"),
    ],
)
def test_what_only_looks_like_a_think_tag_is_text(text, thought, said):
    for message in (_answer(content=text), _whole(_chunk(content=text), _chunk("stop"))):
        assert (_thought(message), message.content) == (thought, said)


# -- characters ------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["content", "reasoning_content"])
@pytest.mark.parametrize(
    ("rest", "whole"),
    [("\ude00b", "a😀b"), ("", "a\N{REPLACEMENT CHARACTER}")],
    ids=["rest", "none"],
)
def test_an_emoji_split_over_two_deltas_is_one_emoji_and_half_of_one_never_leaves(
    field, rest, whole
):
    message = _whole(_chunk(**{field: "a\ud83d"}), _chunk("stop", **{field: rest}))

    assert (message.content if field == "content" else _thought(message)) == whole


# -- odd chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None}}]},
        {},
    ],
    ids=str,
)
def test_row_18_a_chunk_that_holds_nothing_adds_nothing(odd):
    assert _whole(_chunk(content="a"), odd, _chunk("stop", content="b")).content == "ab"


@pytest.mark.parametrize("odd", [3, "text", [3]])
def test_what_is_no_chunk_at_all_is_the_servers_error_and_loses_nothing(services, call, odd):
    with pytest.raises(ServerError, match="JSON object") as failed:
        call(services()([_chunk(content="a"), json.dumps(odd)]).model(), "stream", "hi")
    assert failed.value.partial.text == "a"


def test_row_17_two_finish_chunks_give_one_finish_reason_and_one_name():
    metadata = _whole(_chunk(content="a"), _chunk("stop"), _chunk("stop")).response_metadata

    assert metadata == {
        "id": "c-1",
        "model_name": "m",
        "model_provider": "tokenhub",
        "finish_reason": "stop",
    }


def test_names_that_come_with_a_later_chunk_are_kept():
    metadata = _whole({"choices": []}, _chunk(content="a"), _chunk("stop")).response_metadata

    assert (metadata["id"], metadata["model_name"]) == ("c-1", "m")


def test_a_stream_that_names_no_model_is_the_one_that_was_asked_for():
    metadata = _whole({"choices": [{"delta": {"content": "a"}}]}).response_metadata

    assert metadata["model_name"] == "asked-for"


def test_section_4_complaint_20_a_finish_reason_that_is_no_string_becomes_one():
    assert _whole(_chunk(7, content="a")).response_metadata["finish_reason"] == "7"


USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
COUNTED = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
USAGES = {
    "trailing": [_chunk(content="a"), _chunk("stop"), {"choices": [], "usage": USAGE}],
    "on the finish": [_chunk(content="a"), _chunk("stop") | {"usage": USAGE}],
    "row 16 on both": [
        _chunk(content="a"),
        _chunk("stop") | {"usage": USAGE},
        {"choices": [], "usage": USAGE},
    ],
    "row 15 running": [
        _chunk(content="a")
        | {"usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}},
        _chunk(content="b")
        | {"usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}},
        _chunk("stop") | {"usage": USAGE},
    ],
    "null in between": [
        _chunk(content="a") | {"usage": None},
        _chunk("stop") | {"usage": USAGE},
        {"choices": [], "usage": None},
    ],
}


@pytest.mark.parametrize("values", USAGES.values(), ids=USAGES)
def test_usage_is_counted_once_wherever_the_server_puts_it(values):
    assert _whole(*values).usage_metadata == COUNTED


# -- whole answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd", [{}, {"choices": []}, {"choices": None}, {"choices": [{}]}, [], "text", None], ids=str
)
def test_row_9_an_answer_without_a_message_is_the_servers_error(odd):
    with pytest.raises(ServerError, match="no message"):
        check_answer(odd)


@pytest.mark.parametrize(
    ("content", "text"), [(None, ""), ("a", "a"), ([{"type": "text", "text": "a"}], "a")]
)
def test_content_in_every_form_is_text(content, text):
    assert _answer(content=content).content == text


@pytest.mark.parametrize("args", ['{"city": "北京"}', {"city": "北京"}], ids=["text", "object"])
def test_row_12_arguments_may_be_text_or_an_object(args):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": args}}

    assert _answer(content=None, tool_calls=[call]).tool_calls == [
        {"name": "f", "args": {"city": "北京"}, "id": "c1", "type": "tool_call"}
    ]


@pytest.mark.parametrize("args", ['{"a":', "[1]", '"text"', "f(1)"])
def test_row_13_arguments_that_are_no_json_object_are_an_invalid_call(args):
    call = {"id": "c1", "function": {"name": "f", "arguments": args}}

    message = _answer(content=None, tool_calls=[call])

    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["name"] == "f"
    assert message.invalid_tool_calls[0]["args"].startswith(args)


def test_the_last_chunk_alone_says_that_it_is_the_last():
    reader = DeltaReader("m")
    items = reader.read(_chunk(content="a")), reader.finish()[1]
    first, last = (chunk.message for chunk in chunks_of(items))

    assert isinstance(first, AIMessageChunk)
    assert (first.chunk_position, last.chunk_position) == (None, "last")
    assert first.response_metadata == {"model_provider": "tokenhub"}


# -- every face ------------------------------------------------------------------------------------

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WHOLE = {"content": "你好", "reasoning_content": "hm", "tool_calls": [CALL]}


def _framed(message, *, finish="stop", **delta):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c-1", "model": "m", "choices": [{**choice, "delta": delta} if delta else choice]}


PARTS = [
    _chunk(role="assistant", content=""),
    _chunk(reasoning_content="h"),
    _chunk(reasoning_content="m"),
    _chunk(content="你"),
    _chunk(content="好"),
    _chunk(tool_calls=[CALL]),
]
MESSAGES = {
    "repeated at the end": [*PARTS, _framed(WHOLE)],
    "repeated without deltas of its calls": [*PARTS[:-1], _framed(WHOLE)],
    "repeated beside an empty delta": [*PARTS, _framed(WHOLE, content="")],
    "repeated beside the last delta": [*PARTS[:4], PARTS[5], _framed(WHOLE, content="好")],
    "repeated with other ids": [*PARTS, _framed(WHOLE | {"tool_calls": [CALL | {"id": "c9"}]})],
    "repeated in other words": [*PARTS, _framed(WHOLE | {"content": "你 好"})],
    "repeated twice": [*PARTS, _framed(WHOLE, finish=None), _framed(WHOLE)],
    "the end of one that was cut": [*PARTS[:4], _framed(WHOLE)],
    "alone": [_framed(WHOLE)],
    "alone beside a role": [_framed(WHOLE, role="assistant")],
    "alone beside empty text": [_framed(WHOLE, role="assistant", content="")],
    "growing": [
        _framed({"reasoning_content": "h"}, finish=None),
        _framed({"reasoning_content": "hm", "content": "你"}, finish=None),
        _framed(WHOLE),
    ],
    "in pieces": [
        _framed({"reasoning_content": "hm"}, finish=None),
        _framed({"content": "你"}, finish=None),
        _framed({"content": "好"}, finish=None),
        _framed({"tool_calls": [CALL]}),
    ],
    "its call's arguments": [
        *PARTS[:5],
        _chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "f"}}]),
        _framed(WHOLE),
    ],
}


@pytest.mark.parametrize("values", MESSAGES.values(), ids=MESSAGES)
def test_a_whole_message_in_a_stream_adds_only_what_was_not_said(services, values):
    for face, message in services()(values).faces().items():
        assert (message.text, _thought(message)) == ("你好", "hm"), face
        assert [(call["name"], call["id"]) for call in message.tool_calls] == [("f", "c1")], face
        assert message.invalid_tool_calls == [], face


@pytest.mark.parametrize("streamed", ["", "{}", '{"a"', '{"a": 1}'])
def test_a_message_completes_the_arguments_of_a_call(services, streamed):
    calls = [[CALL | {"function": {"name": "f", "arguments": a}}] for a in (streamed, '{"a": 1}')]
    values = [_chunk(tool_calls=calls[0]), _framed({"tool_calls": calls[1]}, finish="tool_calls")]

    for face, message in services()(values).faces().items():
        assert [call["args"] for call in message.tool_calls] == [{"a": 1}], face


def test_a_message_repeats_think_tags_that_were_streamed(services):
    text = "<think>hm</think>好"
    values = [_chunk(content=text[:9]), _chunk(content=text[9:]), _framed({"content": text})]

    for face, message in services()(values).faces().items():
        assert (message.text, _thought(message)) == ("好", "hm"), face


@pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"role": "assistant", "content": ""}])
def test_a_message_beside_a_delta_or_in_one_is_read(services, call, delta):
    choice = _framed({"content": "答案"})["choices"][0] | {"delta": delta}

    for answer in ({"choices": [choice]}, _chunk("stop", **delta | {"content": "答案"})):
        assert call(services()(answer).model(), "invoke", "hi").text == "答案"


PLACES = {
    "in the chunk": lambda chunk, usage: chunk | {"usage": usage},
    "in the choice": lambda chunk, usage: (
        chunk | {"choices": [chunk["choices"][0] | {"usage": usage}]}
    ),
    "in the delta": lambda chunk, usage: (
        chunk | {"choices": [chunk["choices"][0] | {"delta": {"content": "b", "usage": usage}}]}
    ),
    "in the message": lambda chunk, usage: (
        chunk | {"choices": [chunk["choices"][0] | {"message": {"content": "ab", "usage": usage}}]}
    ),
}
NO_COUNTS = [None, {}, dict.fromkeys(USAGE, 0), dict.fromkeys(USAGE), {"prompt_tokens": "0"}]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_usage_is_found_wherever_it_is_and_zeros_replace_nothing(services, place):
    running = USAGE | {"completion_tokens": 1, "total_tokens": 11}
    values = [place(_chunk(content="a"), running), place(_chunk(content="b"), USAGE)]

    for nothing in NO_COUNTS:
        service = services()([*values, place(_chunk("stop"), nothing)])
        for face, message in service.faces().items():
            assert message.usage_metadata == COUNTED, face


def test_counts_that_come_one_by_one_are_put_together():
    values = [
        {"usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}},
        {"usage": {"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}},
    ]

    usage = _whole(_chunk("stop", content="a"), *values).usage_metadata

    assert usage["total_tokens"] == 13
    assert usage["input_token_details"] == {"cache_read": 4}


# -- think tags that are not a pair ---------------------------------------------------------------

TAGS = {
    "two blocks": ("glm-5", "<think>a</think>\n<think>b</think>\n好", "ab", "好"),
    "a block in the middle": (
        "glm-5",
        "<think>a</think>好<think>b</think>",
        "a",
        "好<think>b</think>",
    ),
    "a tag in a text": ("glm-5", "写 </think> 结束", "", "写 </think> 结束"),
    "a tag in a text of an unknown model": ("ep-x", "写\n</think>\n好", "", "写\n</think>\n好"),
    "a closing tag first": ("glm-5", "\n</think>\n\n好", "", "好"),
    "a closing tag first of an unknown model": ("ep-x", "</think>好", "", "</think>好"),
    "reasoning in the text": ("minimax-m2.7", "\na\n</think>\n\n好", "a\n", "好"),
    "a pair, where one may be missing": ("minimax-m2.7", "<think>a</think>好", "a", "好"),
    "no tag at all": ("minimax-m2.7", "\n好", "", "\n好"),
    "a tag in the text after reasoning": ("minimax-m2.7", "a</think>b</think>c", "a", "b</think>c"),
}


@pytest.mark.parametrize(("model", "text", "thought", "said"), TAGS.values(), ids=TAGS)
def test_a_think_tag_alone_is_read_only_where_it_is_known_to_end_reasoning(
    services, model, text, thought, said
):
    whole = services()(_framed({"content": text})).model(model).invoke("hi")
    letters = [_chunk(content=letter) for letter in text]
    streamed = services()([*letters, _chunk("stop")]).faces(model)

    for face, message in {"invoke": whole, **streamed}.items():
        assert (_thought(message), message.text) == (thought, said), face


def test_a_closing_tag_after_reasoning_in_its_own_field_is_no_text(services):
    values = [_chunk(reasoning_content="hm"), _chunk(content="</th"), _chunk(content="ink>\n好")]

    for face, message in services()([*values, _chunk("stop")]).faces("ep-x").items():
        assert (_thought(message), message.text) == ("hm", "好"), face


def test_text_after_reasoning_in_its_own_field_is_not_held_back(services):
    values = [_chunk(reasoning_content="hm"), _chunk(content="a"), _chunk(content="b</think>")]

    model = services()([*values, _chunk("stop")]).model("minimax-m2.7")

    assert [chunk.text for chunk in model.stream("hi") if chunk.text] == ["a", "b</think>"]


# -- how an answer ends ------------------------------------------------------------------------

FAILED = ["error", "network_error", "insufficient_system_resource", "abort", "ERROR"]


def _both(services, call, reason):
    whole = _framed({"content": "半句"}, finish=reason)
    yield lambda: call(services()(whole).model(), "invoke", "hi")
    yield lambda: call(services()([_chunk(content="半句"), _chunk(reason)]).model(), "stream", "hi")
    yield lambda: list(
        services()([_chunk(content="半句"), _chunk(reason)])
        .model()
        .stream_events("hi", version="v3")
    )


@pytest.mark.parametrize("reason", FAILED)
def test_a_model_that_failed_is_an_error_that_holds_what_was_said(services, call, reason):
    for ask in _both(services, call, reason):
        with pytest.raises(ServerError, match=reason) as failed:
            ask()
        assert failed.value.partial.text == "半句"
        assert failed.value.partial.response_metadata["finish_reason"] == reason


@pytest.mark.parametrize(
    "reason", ["content_filter", "sensitive", "repetition_truncation", "some_new_word"]
)
def test_an_end_that_is_not_normal_is_a_warning_and_in_the_metadata(services, call, reason):
    for ask in _both(services, call, reason):
        with pytest.warns(UserWarning, match=reason) as warned:
            ask()
        assert len(warned) == 1

    with pytest.warns(UserWarning, match=reason):
        message = services()(_framed({"content": "半句"}, finish=reason)).model().invoke("hi")
    assert message.response_metadata["finish_reason"] == reason


@pytest.mark.parametrize(
    "reason",
    [*("stop", "length", "tool_calls", "function_call", "null", None), "end_turn", "max_tokens"],
)
def test_a_normal_end_is_reported_by_the_metadata_alone(services, call, reason):
    for ask in _both(services, call, reason):
        ask()


def test_a_finish_reason_that_no_one_gave_is_not_invented_in_any_face(services, call):
    parts = [_chunk(content="hi")]
    whole = services()(_framed({"content": "hi"}, finish=None)).model()

    ends = [call(services()(parts).model(), "invoke", "hi"), call(whole, "invoke", "hi")]
    ends += services()(parts).faces().values()
    assert {message.response_metadata.get("finish_reason") for message in ends} == {None}


# -- answers of other kinds -----------------------------------------------------------------------


def test_events_that_were_not_asked_for_are_an_answer(services, call):
    values = [*PARTS, _chunk("tool_calls"), {"choices": [], "usage": USAGE}]

    message = call(services()(values).model(), "invoke", "hi")

    assert (message.text, _thought(message), len(message.tool_calls)) == ("你好", "hm", 1)
    assert message.usage_metadata["total_tokens"] == 13
    assert message.response_metadata["host"] == "hub.test"


@pytest.mark.parametrize("code", [0, "0", None])
def test_a_base_resp_without_a_problem_is_no_error(service, call, code):
    answer = _framed({"content": "hi"}) | {"base_resp": {"status_code": code, "status_msg": ""}}

    assert call(service(answer).model("minimax-m2.7"), "invoke", "hi").text == "hi"
