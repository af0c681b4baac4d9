"""Streamed tool calls, whatever the server's way of sending them, become one chunk stream each."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langchain_tokenhub.chat.deltas import ToolCallAssembler


def _delta(name=None, args=None, **more):
    return {"function": {"name": name, "arguments": args}, **more}


def _calls(*deltas):
    """Return name, arguments and id of each call after all deltas; each delta is a chunk."""
    assembler, chunks = ToolCallAssembler(), []
    for delta in deltas:
        assembler.feed([delta])
        chunks += assembler.take_chunks()
    chunks += assembler.finish(ended=True)
    calls = {}
    for chunk in chunks:
        name, args, call_id = calls.get(chunk["index"], ("", "", ""))
        calls[chunk["index"]] = (
            name + (chunk["name"] or ""),
            args + (chunk["args"] or ""),
            call_id + (chunk["id"] or ""),
        )
    return [calls[index] for index in sorted(calls)]


A = ("f", '{"a":1}', "c1")
B = ("g", '{"b":2}', "c2")

ONE_CALL = {
    "as OpenAI sends it": [
        _delta("f", "", index=0, id="c1"),
        _delta(args='{"a"', index=0),
        _delta(args=":1}", index=0),
    ],
    "row 23 without an index": [_delta("f", "", id="c1"), _delta(args='{"a"'), _delta(args=":1}")],
    "index null": [_delta("f", "", index=None, id="c1"), _delta(args='{"a":1}', index=None)],
    "index as a string": [_delta("f", "", index="0", id="c1"), _delta(args='{"a":1}', index="0")],
    "row 24 id and name in every delta": [
        _delta("f", "", index=0, id="c1"),
        _delta("f", '{"a"', index=0, id="c1"),
        _delta("f", ":1}", index=0, id="c1"),
        _delta("f", "", index=0, id="c1"),
    ],
    "row 24 the same without an index": [
        _delta("f", '{"a"', id="c1"),
        _delta("f", ":1}", id="c1"),
        _delta("f", "", id="c1"),
    ],
    "the name alone in every delta": [
        _delta("f", '{"a"', index=0, id="c1"),
        _delta("f", ":1}", index=0),
        _delta("f", "", index=0),
    ],
    "row 25 empty id and name later": [
        _delta("f", "", index=0, id="c1"),
        _delta("", '{"a":1}', index=0, id=""),
    ],
    "row 25 null id and name later": [
        _delta("f", "", index=0, id="c1"),
        _delta(None, '{"a":1}', index=0, id=None),
    ],
    "another id in every delta": [
        _delta("f", "", index=0, id="c1"),
        _delta(None, '{"a":1}', index=0, id="c9"),
    ],
    "id and arguments before the name": [
        _delta(None, '{"a"', index=0, id="c1"),
        _delta("f", ":1}", index=0),
    ],
    "arguments whole": [_delta("f", '{"a":1}', index=0, id="c1")],
    "row 12 arguments as an object": [
        {"index": 0, "id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}
    ],
    "an index that begins at one": [
        _delta("f", "", index=1, id="c1"),
        _delta(args='{"a":1}', index=1),
    ],
}


@pytest.mark.parametrize("deltas", ONE_CALL.values(), ids=ONE_CALL)
def test_one_call_is_one_call_with_its_name_and_id_once(deltas):
    ((name, args, call_id),) = _calls(*deltas)

    assert (name, json.loads(args), call_id) == ("f", {"a": 1}, "c1")


TWO_CALLS = {
    "row 26 interleaved by index": [
        _delta("f", "", index=0, id="c1"),
        _delta("g", "", index=1, id="c2"),
        _delta(args='{"a"', index=0),
        _delta(args='{"b"', index=1),
        _delta(args=":1}", index=0),
        _delta(args=":2}", index=1),
    ],
    "interleaved by id, no index": [
        _delta("f", '{"a"', id="c1"),
        _delta("g", '{"b"', id="c2"),
        _delta("f", ":1}", id="c1"),
        _delta("g", ":2}", id="c2"),
    ],
    "index always zero": [
        _delta("f", '{"a"', index=0, id="c1"),
        _delta(args=":1}", index=0),
        _delta("g", '{"b"', index=0, id="c2"),
        _delta(args=":2}", index=0),
    ],
    "index always zero, interleaved by id": [
        _delta("f", '{"a"', index=0, id="c1"),
        _delta("g", '{"b"', index=0, id="c2"),
        _delta("f", ":1}", index=0, id="c1"),
        _delta("g", ":2}", index=0, id="c2"),
    ],
    "no index, the second begins with its id": [
        _delta("f", '{"a":1}', id="c1"),
        _delta("g", '{"b":2}', id="c2"),
    ],
}


@pytest.mark.parametrize("deltas", TWO_CALLS.values(), ids=TWO_CALLS)
def test_two_calls_stay_apart(deltas):
    assert _calls(*deltas) == [A, B]


NO_IDS = {
    "by index": [_delta("f", '{"a":1}', index=0), _delta("g", '{"b":2}', index=1)],
    "by new arguments": [_delta("f", '{"a":1}'), _delta("f", '{"b":2}')],
    "by name": [_delta("f", '{"a":1}'), _delta("g", '{"b":2}')],
    "by name, index always zero": [
        _delta("f", '{"a":1}', index=0),
        _delta("g", '{"b":2}', index=0),
    ],
}


@pytest.mark.parametrize("deltas", NO_IDS.values(), ids=NO_IDS)
def test_calls_without_an_id_get_one_each(deltas):
    first, second = _calls(*deltas)

    assert (first[1], second[1]) == ('{"a":1}', '{"b":2}')
    assert first[2] != second[2]


@pytest.mark.parametrize("empty", ["", None, {}, "{}"])
def test_empty_arguments_are_a_call_without_arguments(empty):
    ((name, args, _),) = _calls({"index": 0, "function": {"name": "f", "arguments": empty}})

    assert (name, args.replace("{}", "")) == ("f", "")


def test_what_is_no_list_of_calls_is_no_call():
    assembler = ToolCallAssembler()
    for calls in (None, {}, [None, 3]):
        assembler.feed(calls)

    assert assembler.finish(ended=True) == []


def test_half_an_emoji_in_the_arguments_waits_for_the_other_half():
    ((_, args, _),) = _calls(
        _delta("f", '{"a":"\ud83d', index=0, id="c1"), _delta(args='\ude00"}', index=0)
    )

    assert args == '{"a":"😀"}'


# -- every face ------------------------------------------------------------------------------------


def _stream(*calls, finish="tool_calls"):
    deltas = [{"tool_calls": list(each) if isinstance(each, tuple) else [each]} for each in calls]
    chunks = [{"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": d}]} for d in deltas]
    return [*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]


FULL = '{"path": "笔记.txt", "n": 3}'
READ = [("read", {"path": "笔记.txt", "n": 3})]
PARTS = [_delta(args=FULL[:12], index=0), _delta(args=FULL[12:], index=0)]
EMPTY = _delta("read", "{}", index=0, id="c1")
KINDS = {
    "one id, two names": (
        [_delta("f", '{"a": 1}', index=0, id="c1"), _delta("g", '{"b": 2}', index=1, id="c1")],
        [("f", {"a": 1}), ("g", {"b": 2})],
    ),
    "one id, one name twice": (
        [_delta("f", '{"a": 1}', index=0, id="c1"), _delta("f", '{"a": 2}', index=1, id="c1")],
        [("f", {"a": 1}), ("f", {"a": 2})],
    ),
    "one id, the same call twice": (
        [_delta("f", '{"a": 1}', index=0, id="c1"), _delta("f", '{"a": 1}', index=1, id="c1")],
        [("f", {"a": 1}), ("f", {"a": 1})],
    ),
    "one id, interleaved by index": (
        [
            _delta("f", "", index=0, id="c1"),
            _delta("f", "", index=1, id="c1"),
            _delta(args='{"a"', index=0, id="c1"),
            _delta(args='{"a"', index=1, id="c1"),
            _delta(args=": 1}", index=0, id="c1"),
            _delta(args=": 2}", index=1, id="c1"),
        ],
        [("f", {"a": 1}), ("f", {"a": 2})],
    ),
    "one id, no index": (
        [_delta("f", '{"a": 1}', id="c1"), _delta("g", '{"b": 2}', id="c1")],
        [("f", {"a": 1}), ("g", {"b": 2})],
    ),
    "one id, no index, one name": (
        [_delta("f", '{"a": 1}', id="c1"), _delta("f", '{"a": 2}', id="c1")],
        [("f", {"a": 1}), ("f", {"a": 2})],
    ),
    "one id, one index, two names": (
        [_delta("f", '{"a": 1}', index=0, id="c1"), _delta("g", '{"b": 2}', index=0, id="c1")],
        [("f", {"a": 1}), ("g", {"b": 2})],
    ),
    "one id in one delta": (
        [(_delta("f", '{"a": 1}', index=0, id="c1"), _delta("g", '{"b": 2}', index=1, id="c1"))],
        [("f", {"a": 1}), ("g", {"b": 2})],
    ),
    "whole again at the end": (
        [_delta("read", "", index=0, id="c1"), *PARTS, _delta("read", FULL, index=0, id="c1")],
        READ,
    ),
    "whole again without id and name": (
        [_delta("read", "", index=0, id="c1"), *PARTS, _delta(args=FULL, index=0)],
        READ,
    ),
    "whole again in other spacing": (
        [
            _delta("read", FULL, index=0, id="c1"),
            _delta("read", FULL.replace(" ", ""), index=0, id="c1"),
        ],
        READ,
    ),
    "whole again in pieces": ([_delta("read", "", index=0, id="c1"), *PARTS, *PARTS], READ),
    "whole three times": ([_delta("read", FULL, index=0, id="c1")] * 3, READ),
    "whole again as an object": (
        [_delta("read", FULL, index=0, id="c1"), _delta("read", json.loads(FULL), index=0)],
        READ,
    ),
    "growing": (
        [_delta("read", FULL[:size], index=0, id="c1") for size in (9, 18, len(FULL))],
        READ,
    ),
    "growing without name and id": (
        [
            _delta("read", "", index=0, id="c1"),
            *[_delta(args=FULL[:size], index=0) for size in (1, 9, 9, 18, len(FULL))],
        ],
        READ,
    ),
    "growing from a key on": (
        [_delta("f", '{"a":', index=0, id="c1"), _delta("f", '{"a":1}', index=0, id="c1")],
        [("f", {"a": 1})],
    ),
    "a fragment that begins like a copy": (
        [
            _delta("f", '{"a":', index=0, id="c1"),
            _delta(args='{"a":1}', index=0),
            _delta(args="}", index=0),
        ],
        [("f", {"a": {"a": 1}})],
    ),
    "equal fragments": (
        [
            _delta("f", '{"a": "1', index=0, id="c1"),
            *([_delta(args="1", index=0)] * 2),
            _delta(args='"}', index=0),
        ],
        [("f", {"a": "111"})],
    ),
    "the text {} first": ([EMPTY, *PARTS], READ),
    "the text {} in every delta": ([EMPTY, EMPTY, *PARTS], READ),
    "the text {} in pieces": (
        [_delta("read", "{", index=0, id="c1"), _delta(args="}", index=0), *PARTS],
        READ,
    ),
    "an object first": ([_delta("read", {}, index=0, id="c1"), *PARTS], READ),
    "null first": ([_delta("read", "null", index=0, id="c1"), *PARTS], READ),
    "the text {} alone": ([EMPTY], [("read", {})]),
    "a name in pieces": (
        [_delta("re", "", index=0, id="c1"), _delta("ad", "", index=0), *PARTS],
        READ,
    ),
    "a name in pieces with the id": (
        [_delta("re", None, index=0, id="c1"), _delta("ad", FULL, index=0, id="c1")],
        READ,
    ),
    "a name that grows": (
        [_delta("re", "", index=0, id="c1"), _delta("read", FULL, index=0, id="c1")],
        READ,
    ),
    "the name before the id": (
        [_delta("read", "", index=0), _delta(index=0, id="c1"), *PARTS],
        READ,
    ),
    "the name before the id, no index": (
        [_delta("read", ""), _delta(id="c1"), _delta(args=FULL)],
        READ,
    ),
    "the id last": ([_delta("read", "", index=0), *PARTS, _delta(index=0, id="c1")], READ),
    "arguments first, then the name, then the id": (
        [*PARTS, _delta("read", index=0), _delta(index=0, id="c1")],
        READ,
    ),
    "arguments first, index zero, two ids": (
        [
            _delta(args='{"a": 1}', index=0, id="c1"),
            _delta("f", index=0, id="c1"),
            _delta(args='{"a": 1}', index=0, id="c2"),
            _delta("f", index=0, id="c2"),
        ],
        [("f", {"a": 1}), ("f", {"a": 1})],
    ),
    "another call after a copy": (
        [
            _delta("f", '{"a": 1}', index=0, id="c1"),
            _delta(args='{"a": 1}', index=0),
            _delta("g", '{"b": 2}', index=0),
        ],
        [("f", {"a": 1}), ("g", {"b": 2})],
    ),
    "an index from the second delta on": ([_delta("read", "", id="c1"), *PARTS], READ),
    "an index in the first delta alone": (
        [_delta("read", "", index=0, id="c1"), _delta(args=FULL[:9]), _delta(args=FULL[9:])],
        READ,
    ),
    "an index of text": (
        [_delta("f", '{"a": 1}', index="0", id="c1"), _delta("f", '{"a": 2}', index="1", id="c2")],
        [("f", {"a": 1}), ("f", {"a": 2})],
    ),
    "index zero, two ids, one name": (
        [_delta("f", '{"a": 1}', index=0, id="c1"), _delta("f", '{"a": 1}', index=0, id="c2")],
        [("f", {"a": 1}), ("f", {"a": 1})],
    ),
    "no arguments before a call with some": (
        [_delta("f", "", index=0, id="c1"), _delta("read", FULL, index=1, id="c2")],
        [("f", {}), *READ],
    ),
}


@pytest.mark.parametrize(("deltas", "calls"), KINDS.values(), ids=KINDS)
def test_every_face_shows_the_calls_that_were_meant(services, deltas, calls):
    for face, message in services()(_stream(*deltas)).faces().items():
        assert [(call["name"], call["args"]) for call in message.tool_calls] == calls, face
        assert message.invalid_tool_calls == [], face
        ids = [call["id"] for call in message.tool_calls]
        assert ids[0] == "c1", face
        assert len(set(ids)) == len(ids), face


CONTRADICTIONS = [
    ('{"a": 1}', '{"a": 2}', "tool_calls"),
    ('{"a": 1}', '{"a": 1, "b": 2}', "tool_calls"),
    ('{"a": 1}', "x", "tool_calls"),
    ('{"a":', '{"a":1}', "length"),  # a truncated copy
]


@pytest.mark.parametrize(("first", "second", "finish"), CONTRADICTIONS)
def test_arguments_that_contradict_themselves_are_an_invalid_call(services, first, second, finish):
    deltas = [_delta("f", first, index=0, id="c1"), _delta(args=second, index=0)]

    for face, message in services()(_stream(*deltas, finish=finish)).faces().items():
        assert (message.tool_calls, len(message.invalid_tool_calls)) == ([], 1), face


CALLS = [
    ([{"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}] * 2, 2),
    ([{"id": "c1", "function": {"name": n, "arguments": '{"a": 1}'}} for n in "fg"], 2),
    ([{"id": "c1", "function": {"name": "f", "arguments": {}}}], 1),
    ([{"function": {"name": "f", "arguments": None}}] * 3, 3),
]


@pytest.mark.parametrize(("calls", "count"), CALLS)
def test_calls_of_a_whole_answer_have_an_id_each(service, call, calls, count):
    choice = {"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}

    found = call(service({"choices": [choice]}).model(), "invoke", "hi").tool_calls

    assert len({each["id"] for each in found}) == len(found) == count


def test_a_function_call_of_the_old_kind_is_a_tool_call(services, call):
    function = {"name": "read", "arguments": FULL}
    parts = [{"name": "read", "arguments": ""}, *[{"arguments": p} for p in (FULL[:9], FULL[9:])]]
    deltas = [{"choices": [{"delta": {"function_call": part}}]} for part in parts]
    end = {"choices": [{"delta": {}, "finish_reason": "function_call"}]}
    choice = {"message": {"function_call": function}, "finish_reason": "function_call"}

    faces = services()([*deltas, end]).faces()
    faces["whole"] = call(services()({"choices": [choice]}).model(), "invoke", "hi")

    for face, message in faces.items():
        (found,) = message.tool_calls
        assert (found["name"], found["args"]) == READ[0], face
        assert found["id"], face


# -- arguments -------------------------------------------------------------------------------------

_STRINGS = st.text(st.sampled_from(':,}{[]"\\a 1'), max_size=3)
_VALUES = st.recursive(
    st.one_of(_STRINGS, st.integers(0, 11), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(_STRINGS, inner, max_size=2)
    ),
    max_leaves=4,
)
_OBJECTS = st.dictionaries(_STRINGS, _VALUES, max_size=2)
_SEPARATORS = st.sampled_from([(",", ":"), (", ", ": ")])


def _sent(pieces):
    deltas = [_delta("f", piece, index=0, id="c1") for piece in pieces]
    ((_, args, _),) = _calls(*deltas)
    return args


@settings(max_examples=400, derandomize=True)
@given(value=_OBJECTS, separators=_SEPARATORS, cuts=st.lists(st.integers(1, 30), max_size=6))
@example(value={"a": {"a": 1}}, separators=(",", ":"), cuts=[5, 11])
@example(value={"{": 1}, separators=(",", ":"), cuts=[2])
def test_arguments_in_fragments_growing_or_repeated_are_the_same(value, separators, cuts):
    text = json.dumps(value, separators=separators)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    fragments = [text[a:b] for a, b in itertools.pairwise(places)]

    assert _sent(fragments) == text
    assert _sent(itertools.accumulate(fragments)) == text
    assert _sent([*fragments, text]) == text
    assert _sent([*fragments, *fragments]) == text
    assert _sent(["{}", *fragments]) == text
