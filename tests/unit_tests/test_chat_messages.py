"""Any history that LangChain can hold becomes one that the service accepts, or a clear error."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokenhub import InvalidRequestError
from langchain_tokenhub.catalogue import chat_model
from langchain_tokenhub.chat.content import Rules
from langchain_tokenhub.chat.messages import CONTINUE, encode_messages

LINK = "https://pictures.test/cat.png"
IMAGE = {"type": "image", "url": LINK}
SHOWN = {"type": "image_url", "image_url": {"url": LINK}}


def _rules(model="glm-5", *, thinking=False):
    return Rules(model=model, row=chat_model(model), is_reasoning=thinking)


def _wire(*messages, model="glm-5", thinking=False):
    return encode_messages(messages, _rules(model, thinking=thinking))


def _call(name="f", call_id="c1", **args):
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


def _roles(wire):
    return [message["role"] for message in wire]


# -- roles -----------------------------------------------------------------------------------


ROLES = [
    (ChatMessage(role="developer", content="x"), "system"),
    (SystemMessage("x", additional_kwargs={"__openai_role__": "developer"}), "system"),
    (ChatMessage(role="system", content="x"), "system"),
    (ChatMessage(role="user", content="x"), "user"),
]


@pytest.mark.parametrize(("message", "role"), ROLES)
def test_a_message_of_a_known_role_is_sent_under_the_guides_name(message, role):
    assert _wire(message, HumanMessage("y"))[0]["role"] == role


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(role="critic", content="x"),
        FunctionMessage(name="f", content="x"),
        RemoveMessage(id="1"),
    ],
    ids=lambda message: message.type,
)
def test_a_role_that_is_not_spoken_is_refused_with_its_position(message):
    with pytest.raises(InvalidRequestError, match=r"^message 1 \("):
        _wire(HumanMessage("a"), message)


def test_row_7_a_users_name_is_forwarded():
    assert _wire(HumanMessage("a", name="小明"))[0]["name"] == "小明"


def test_a_status_of_a_tool_result_stays_home():
    history = [
        HumanMessage("a"),
        AIMessage("", tool_calls=[_call()]),
        ToolMessage("no", tool_call_id="c1", status="error"),
    ]

    assert _wire(*history)[-1] == {"role": "tool", "tool_call_id": "c1", "content": "no"}


# -- order -----------------------------------------------------------------------------------


def test_row_8_adjacent_turns_of_one_role_are_merged():
    wire = _wire(
        SystemMessage("s1"),
        SystemMessage("s2"),
        HumanMessage("a"),
        HumanMessage("b"),
        AIMessage("c"),
        AIMessage("d"),
        HumanMessage("e"),
    )

    assert [(m["role"], m["content"]) for m in wire] == [
        ("system", "s1\n\ns2"),
        ("user", "a\n\nb"),
        ("assistant", "c\n\nd"),
        ("user", "e"),
    ]


def test_a_merged_turn_keeps_text_and_pictures_in_order():
    wire = _wire(HumanMessage("a"), HumanMessage([IMAGE]), HumanMessage("b"), model="kimi-k2.6")

    assert wire[0]["content"] == [
        {"type": "text", "text": "a"},
        SHOWN,
        {"type": "text", "text": "b"},
    ]


def test_a_merged_turn_of_two_people_bears_no_name():
    assert "name" not in _wire(HumanMessage("a", name="x"), HumanMessage("b", name="y"))[0]


def test_what_the_system_says_later_goes_to_the_front():
    wire = _wire(HumanMessage("a"), AIMessage("b"), SystemMessage("s"), HumanMessage("c"))

    assert _roles(wire) == ["system", "user", "assistant", "user"]


def test_an_assistants_turn_that_says_nothing_is_left_out():
    wire = _wire(HumanMessage("a"), AIMessage(""), HumanMessage("b"))

    assert wire == [{"role": "user", "content": "a\n\nb"}]


def test_a_streamed_message_is_sent_like_a_whole_one():
    assert _wire(HumanMessage("a"), AIMessageChunk("b"), HumanMessage("c"))[1]["content"] == "b"


def test_a_history_that_begins_with_the_assistant_is_refused_with_its_position():
    with pytest.raises(InvalidRequestError, match=r"message 1 \(ai\).*begins.*HumanMessage first"):
        _wire(SystemMessage("s"), AIMessage("hello"), HumanMessage("a"))


def test_a_history_that_ends_with_the_assistant_goes_on_with_a_users_turn():
    sent = _wire(HumanMessage("a"), AIMessage("hello"))

    assert sent[1:] == [
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": CONTINUE},
    ]


def test_a_history_of_the_system_alone_is_refused():
    with pytest.raises(InvalidRequestError, match="no user message"):
        _wire(SystemMessage("s"))


# -- tools -----------------------------------------------------------------------------------


def test_row_11_arguments_are_sent_unescaped():
    wire = _wire(
        HumanMessage("a"),
        AIMessage("", tool_calls=[_call(city="北京")]),
        ToolMessage("晴", tool_call_id="c1"),
    )

    assert wire[1]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city": "北京"}'}}
    ]
    assert wire[1]["content"] is None


@pytest.mark.parametrize("args", ['{"a":', "[1]", "a: 1"])
def test_broken_arguments_go_back_quoted_in_a_json_object(args):
    broken = {"name": "f", "args": args, "id": "c1", "error": "x", "type": "invalid_tool_call"}
    wire = _wire(
        HumanMessage("a"),
        AIMessage("", invalid_tool_calls=[broken]),
        ToolMessage("bad JSON", tool_call_id="c1"),
    )

    sent = wire[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"invalid_json": args}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        {"type": "tool_call", "id": "c1", "name": "f", "args": {"a": 1}},
    ],
    ids=["Anthropic", "LangChain v1"],
)
def test_a_call_that_stands_in_a_block_alone_is_sent_as_a_call(block):
    said = AIMessage([{"type": "text", "text": "ok"}, block])
    wire = _wire(HumanMessage("a"), said, ToolMessage("1", tool_call_id="c1"))

    assert wire[1]["content"] == "ok"
    assert wire[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}


def test_row_44_anthropic_blocks_beside_tool_calls_are_not_sent_twice():
    said = AIMessage(
        [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "text", "text": "ok"},
            {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
        ],
        tool_calls=[_call()],
    )
    wire = _wire(HumanMessage("a"), said, ToolMessage("1", tool_call_id="c1"))

    assert wire[1]["content"] == "ok"
    assert len(wire[1]["tool_calls"]) == 1


def test_anthropics_tool_results_in_a_users_turn_become_tool_messages():
    results = HumanMessage(
        [
            {"type": "tool_result", "tool_use_id": "c1", "content": "晴"},
            {"type": "text", "text": "and?"},
        ]
    )
    wire = _wire(HumanMessage("a"), AIMessage("", tool_calls=[_call()]), results)

    assert wire[2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "晴"},
        {"role": "user", "content": "and?"},
    ]


def test_a_history_cut_before_a_tools_result_keeps_it_as_a_users_words():
    wire = _wire(ToolMessage("晴, 22", tool_call_id="gone"), AIMessage("sunny"), HumanMessage("b"))

    assert _roles(wire) == ["user", "assistant", "user"]
    assert "晴, 22" in wire[0]["content"]


def test_a_call_without_a_result_gets_one_that_says_so():
    wire = _wire(HumanMessage("a"), AIMessage("", tool_calls=[_call()]), HumanMessage("b"))

    assert wire[2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "(no result)"},
        {"role": "user", "content": "b"},
    ]


def test_a_doubled_result_does_not_close_the_calls_that_are_open():
    calls = [_call(call_id="c1"), _call(call_id="c2")]
    wire = _wire(
        HumanMessage("a"),
        AIMessage("", tool_calls=calls),
        ToolMessage("1", tool_call_id="c1"),
        ToolMessage("again", tool_call_id="c1"),
        ToolMessage("2", tool_call_id="c2"),
    )

    assert [m.get("tool_call_id") for m in wire[2:]] == ["c1", "c2", None]
    assert "again" in wire[-1]["content"]


def test_calls_under_one_id_get_an_id_each_and_their_results_in_order():
    calls = [_call("f", "c1", a=1), _call("f", "c1", a=2), _call("g", "c1_")]
    said = AIMessage(content="", tool_calls=calls)
    results = [ToolMessage("1", tool_call_id="c1"), ToolMessage("2", tool_call_id="c1")]

    _, assistant, *tools = _wire(HumanMessage("hi"), said, *results)

    ids = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(ids)) == 3
    assert [(tool["tool_call_id"], tool["content"]) for tool in tools] == [
        (ids[0], "1"),
        (ids[1], "2"),
        (ids[2], "(no result)"),
    ]
    assert [call["id"] for call in said.tool_calls] == ["c1", "c1", "c1_"]


def test_results_in_another_order_are_kept_together():
    calls = [_call(call_id="c1"), _call(call_id="c2")]
    wire = _wire(
        HumanMessage("a"),
        AIMessage("", tool_calls=calls),
        ToolMessage("2", tool_call_id="c2"),
        ToolMessage("1", tool_call_id="c1"),
        HumanMessage("b"),
    )

    assert _roles(wire) == ["user", "assistant", "tool", "tool", "user"]


def test_row_45_a_picture_in_a_tools_result_moves_to_the_next_user_turn():
    calls = [_call(call_id="c1"), _call(call_id="c2")]
    wire = _wire(
        HumanMessage("a"),
        AIMessage("", tool_calls=calls),
        ToolMessage([{"type": "text", "text": "one"}, IMAGE], tool_call_id="c1"),
        ToolMessage([IMAGE], tool_call_id="c2"),
        HumanMessage("what is it?"),
        model="kimi-k2.6",
    )

    assert _roles(wire) == ["user", "assistant", "tool", "tool", "user"]
    assert [m["content"] for m in wire[2:4]] == ["one", "see the next message"]
    assert wire[-1]["content"] == [SHOWN, SHOWN, {"type": "text", "text": "what is it?"}]


def test_a_model_that_cannot_see_gets_a_tools_text_and_a_warning():
    with pytest.warns(UserWarning, match="'glm-5' cannot see"):
        wire = _wire(
            HumanMessage("a"),
            AIMessage("", tool_calls=[_call()]),
            ToolMessage([{"type": "text", "text": "drawn"}, IMAGE], tool_call_id="c1"),
        )

    assert wire[-1] == {"role": "tool", "tool_call_id": "c1", "content": "drawn"}


# -- what a model takes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "models"),
    [
        ("image", ["glm-5"]),
        ("video", ["glm-5", "kimi-k2.5"]),
        ("file", ["glm-5", "kimi-k2.6"]),
    ],
)
def test_row_65_a_part_that_a_model_cannot_take_is_refused_with_its_name(kind, models):
    for model in models:
        with pytest.raises(InvalidRequestError, match=f"message 0 .*'{model}' accepts no {kind}"):
            _wire(HumanMessage([{"type": kind, "url": "https://f.test/a"}]), model=model)


def _picture(kind="image/png", size=9):
    return {"type": "image", "base64": "A" * (size * 4 // 3), "mime_type": kind}


def _video(size=9):
    return {"type": "video", "base64": "A" * (size * 4 // 3), "mime_type": "video/mp4"}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (_picture("image/tiff"), "image/tiff; send jpeg, png or webp"),
        (_picture(size=12_000_000), r"12\.0 MB, at most 10 MB"),
        (_video(81_000_000), "108 MB as base64, a request at most 100 MB"),
    ],
    ids=["kind", "size", "video"],
)
def test_row_65_a_picture_that_the_service_refuses_is_refused_before_a_request(block, said):
    with pytest.raises(InvalidRequestError, match=f"message 0 .*{said}"):
        _wire(HumanMessage([block]), model="kimi-k2.6")


def test_row_65_more_pictures_than_a_request_may_hold_are_refused():
    with pytest.raises(InvalidRequestError, match="21 images, at most 20"):
        _wire(HumanMessage([IMAGE] * 21), model="kimi-k2.6")


LINK_ONLY = ["glm-5v-turbo", "youtu-vita", "hunyuan-turbos-vision-video-20250728"]


@pytest.mark.parametrize("model", LINK_ONLY)
def test_row_65_a_video_as_bytes_is_refused_where_the_model_wants_a_link(model):
    with pytest.raises(InvalidRequestError, match=f"message 0 .*'{model}' accepts videos by http"):
        _wire(HumanMessage([_video()]), model=model)


VIDEO = {"type": "video", "url": "https://v.test/a.mp4"}
SEEING = [*((model, VIDEO) for model in LINK_ONLY), ("kimi-k2.6", VIDEO), ("kimi-k2.6", _video())]


@pytest.mark.parametrize(("model", "block"), SEEING)
def test_row_62_a_video_is_sent_to_every_model_that_sees_videos(model, block):
    assert _wire(HumanMessage([block]), model=model)[0]["content"][0]["type"] == "video_url"


def test_row_65_a_tools_picture_is_checked_as_a_users():
    shown = ToolMessage([_picture("image/tiff")], tool_call_id="c1")
    with pytest.raises(InvalidRequestError, match=r"message 2 \(tool\).*image/tiff"):
        _wire(HumanMessage("a"), AIMessage("", tool_calls=[_call()]), shown, model="kimi-k2.6")


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/webp"])
def test_row_61_pictures_of_the_services_kinds_are_sent(kind):
    wire = _wire(HumanMessage([_picture(kind)] * 20), model="kimi-k2.6")

    assert len(wire[0]["content"]) == 20


def test_nothing_is_guessed_of_a_model_that_is_not_listed():
    assert _wire(HumanMessage([IMAGE]), model="ep-1234")[0]["content"] == [SHOWN]


def test_the_system_shows_no_pictures():
    with pytest.raises(InvalidRequestError, match=r"message 0 \(system\).*HumanMessage"):
        _wire(SystemMessage(["look", IMAGE]), HumanMessage("a"), model="kimi-k2.6")


def test_an_error_names_the_position_of_the_message():
    with pytest.raises(InvalidRequestError, match=r"^message 2 \(human\): .*audio"):
        _wire(
            HumanMessage("a"), AIMessage("b"), HumanMessage([{"type": "audio", "base64": "aGk="}])
        )


# -- reasoning ---------------------------------------------------------------------------------

THOUGHT = {"reasoning_content": "hm"}
LOOP = [
    HumanMessage("a"),
    AIMessage("", tool_calls=[_call()], additional_kwargs=THOUGHT),
    ToolMessage("1", tool_call_id="c1"),
]
TALK = [HumanMessage("a"), AIMessage("b", additional_kwargs=THOUGHT), HumanMessage("c")]

ECHO = [
    ("deepseek-v4-flash", True, True, False),
    ("deepseek-v4-flash", False, False, False),
    ("kimi-k2.6", True, True, True),
    ("kimi-k2.6", False, False, False),
    ("hy3", True, True, False),
    ("glm-5", True, True, False),
    ("minimax-m2.7", True, True, False),
    ("ep-1234", True, True, False),
    ("hunyuan-role-latest", True, False, False),
]


@pytest.mark.parametrize(("model", "thinking", "in_loop", "in_talk"), ECHO)
def test_row_58_reasoning_goes_back_by_the_familys_rule(model, thinking, in_loop, in_talk):
    loop = _wire(*LOOP, model=model, thinking=thinking)[1]
    talk = _wire(*TALK, model=model, thinking=thinking)[1]

    assert ("reasoning_content" in loop, "reasoning_content" in talk) == (in_loop, in_talk)


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", tool_calls=[_call()], additional_kwargs=THOUGHT),
        AIMessage([{"type": "reasoning", "reasoning": "hm"}], tool_calls=[_call()]),
        AIMessage([{"type": "thinking", "thinking": "hm"}], tool_calls=[_call()]),
        AIMessage(content_blocks=[{"type": "reasoning", "reasoning": "hm"}, _call()]),
    ],
    ids=["kept", "v1 block", "Anthropic block", "v1 content_blocks"],
)
def test_row_57_reasoning_goes_back_from_wherever_langchain_keeps_it(message):
    wire = _wire(HumanMessage("a"), message, LOOP[2], model="hy3", thinking=True)

    assert wire[1]["reasoning_content"] == "hm"
    assert "hm" not in (wire[1]["content"] or "")


@pytest.mark.parametrize("model", ["kimi-k2.6", "deepseek-v4-flash"])
def test_another_models_call_gets_a_space_for_reasoning_where_some_is_wanted(model):
    history = [HumanMessage("a"), AIMessage("", tool_calls=[_call()]), LOOP[2]]

    assert _wire(*history, model=model, thinking=True)[1]["reasoning_content"] == " "


def test_no_reasoning_is_invented_for_plain_turns():
    history = [HumanMessage("a"), AIMessage("b"), HumanMessage("c")]

    assert "reasoning_content" not in _wire(*history, model="kimi-k2.6", thinking=True)[1]
