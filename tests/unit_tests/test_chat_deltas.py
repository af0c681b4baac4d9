"""Streamed tool calls, whatever the server's way of sending them, become one chunk stream each."""

from __future__ import annotations

import json

import pytest

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
    "row 23 without an index": [
        _delta("f", "", id="c1"),
        _delta(args='{"a"'),
        _delta(args=":1}"),
    ],
    "index null": [
        _delta("f", "", index=None, id="c1"),
        _delta(args='{"a":1}', index=None),
    ],
    "index as a string": [
        _delta("f", "", index="0", id="c1"),
        _delta(args='{"a":1}', index="0"),
    ],
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
    "an empty object before the text": [
        {"index": 0, "id": "c1", "function": {"name": "f", "arguments": {}}},
        _delta(args='{"a":1}', index=0),
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
    "by index": [
        _delta("f", '{"a":1}', index=0),
        _delta("g", '{"b":2}', index=1),
    ],
    "by name": [_delta("f", '{"a":1}'), _delta("g", '{"b":2}')],
    "by name, index always zero": [
        _delta("f", '{"a":1}', index=0),
        _delta("g", '{"b":2}', index=0),
    ],
}


@pytest.mark.parametrize("deltas", NO_IDS.values(), ids=NO_IDS)
def test_calls_without_an_id_get_one_each(deltas):
    first, second = _calls(*deltas)

    assert (first[:2], second[:2]) == (A[:2], B[:2])
    assert first[2] != second[2]


def test_the_same_function_called_twice_without_ids_is_two_calls():
    calls = _calls(_delta("f", '{"a":1}'), _delta("f", '{"a":2}'))

    assert [args for _, args, _ in calls] == ['{"a":1}', '{"a":2}']


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
