"""What the service says becomes LangChain's messages, whatever the server's quirks."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessageChunk

from langchain_tokenhub import ServerError
from langchain_tokenhub.chat.response import DeltaReader, chunk_of, decode_answer


def _chunk(finish=None, **delta):
    choice = {"index": 0, "delta": delta} | ({"finish_reason": finish} if finish else {})
    return {"id": "c-1", "model": "m", "choices": [choice]}


def _whole(*values):
    """Return the message that a stream adds up to."""
    reader = DeltaReader("asked-for")
    items = [delta for value in values if (delta := reader.read(value))]
    rest, ending = reader.finish()
    items += rest
    chunks = [chunk_of(item).message for item in [*items, ending]]
    return sum(chunks[1:], chunks[0])


def _answer(**message):
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    result = decode_answer({"id": "x", "model": "m", "choices": [choice]}, model="asked-for")
    return result.generations[0].message


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


def test_think_tags_letter_by_letter_give_the_same_as_a_whole_answer():
    streamed = _whole(*[_chunk(content=letter) for letter in TAGGED], _chunk("stop"))
    whole = _answer(content=TAGGED)

    assert (_thought(streamed), streamed.content) == (_thought(whole), whole.content)


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
def test_an_emoji_split_over_two_deltas_is_one_emoji(field):
    message = _whole(_chunk(**{field: "a\ud83d"}), _chunk("stop", **{field: "\ude00b"}))

    text = message.content if field == "content" else _thought(message)
    assert text == "a😀b"


@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_half_an_emoji_never_leaves_the_package(field):
    message = _whole(_chunk(**{field: "a\ud83d"}), _chunk("stop"))

    text = message.content if field == "content" else _thought(message)
    assert text == "a\N{REPLACEMENT CHARACTER}"
    text.encode()


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


@pytest.mark.parametrize("odd", [None, 3, "text", []])
def test_what_is_no_chunk_at_all_is_the_servers_error(odd):
    with pytest.raises(ServerError):
        DeltaReader("m").read(odd)


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


def test_a_server_that_ignores_stream_is_read_whole():
    said = {"message": {"content": "hi", "reasoning_content": "hm"}, "finish_reason": "stop"}

    message = _whole({"id": "x", "choices": [said]})

    assert (message.content, _thought(message)) == ("hi", "hm")


USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
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
    assert _whole(*values).usage_metadata == {
        "input_tokens": 10,
        "output_tokens": 3,
        "total_tokens": 13,
    }


# -- whole answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [{}, {"choices": []}, {"choices": None}, {"choices": [{}]}, [], "text", None],
    ids=str,
)
def test_row_9_an_answer_without_a_message_is_the_servers_error(odd):
    with pytest.raises(ServerError, match="no message"):
        decode_answer(odd, model="m")


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


def test_whole_calls_without_ids_or_indices_stay_apart():
    calls = [{"function": {"name": "f", "arguments": "{}"}} for _ in range(2)]

    first, second = _answer(content="", tool_calls=calls).tool_calls

    assert first["id"] != second["id"]


def test_the_last_chunk_alone_says_that_it_is_the_last():
    reader = DeltaReader("m")
    first = chunk_of(reader.read(_chunk(content="a"))).message
    last = chunk_of(reader.finish()[1]).message

    assert isinstance(first, AIMessageChunk)
    assert (first.chunk_position, last.chunk_position) == (None, "last")
    assert first.response_metadata == {"model_provider": "tokenhub"}
