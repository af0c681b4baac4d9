"""One truth in three shapes: v0 chunks, v1 content blocks and v3 events say the same.

Streams are made up of text, reasoning and tool calls in every mixture, cut anywhere, and sent with
the quirks that servers behind the gateway have. The real chat model reads them through every face.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
COUNTED = {
    "input_tokens": 10,
    "output_tokens": 7,
    "total_tokens": 17,
    "input_token_details": {"cache_read": 4},
    "output_token_details": {"reasoning": 3},
}


@dataclass(frozen=True)
class Quirks:
    """How a server sends what it says."""

    index: str = "given"  # given, missing, zero, null
    repeats: str = "nothing"  # nothing, id, name, both: in every delta of a call
    blank: str = "absent"  # absent, empty, null: id and name where they are not repeated
    args: str = "cut"  # cut, whole, object
    usage: str = "trailing"  # trailing, finish, both, running, none
    finishes: int = 1
    nulls: bool = False
    together: bool = False  # neighbouring pieces share a delta


@dataclass(frozen=True)
class Said:
    """What an answer holds."""

    reasoning: str = ""
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()  # name, arguments as JSON

    def tool_calls(self):
        return [
            {"name": name, "args": json.loads(args or "{}"), "id": f"c{n}", "type": "tool_call"}
            for n, (name, args) in enumerate(self.calls)
        ]


def _pieces(text, cuts):
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def _call_deltas(number, name, args, cuts, quirks):
    """Yield the deltas of one call."""
    pieces = [args] if quirks.args != "cut" else ["", *_pieces(args, cuts)]
    for place, piece in enumerate(pieces):
        whole = json.loads(args or "{}") if quirks.args == "object" else piece
        function, delta = {"arguments": whole}, {}
        blank = {"empty": "", "null": None}
        if place == 0 or quirks.repeats in {"id", "both"}:
            delta["id"] = f"c{number}"
        elif quirks.blank != "absent":
            delta["id"] = blank[quirks.blank]
        if place == 0 or quirks.repeats in {"name", "both"}:
            function["name"] = name
        elif quirks.blank != "absent":
            function["name"] = blank[quirks.blank]
        if quirks.index != "missing":
            delta["index"] = {"given": number, "zero": 0, "null": None}[quirks.index]
        yield {"tool_calls": [{**delta, "type": "function", "function": function}]}


def _mixed(order, queues):
    """Take deltas from the queues in some order, until all are empty."""
    queues = [list(queue) for queue in queues]
    for pick in order:
        alive = [queue for queue in queues if queue]
        if not alive:
            return
        yield alive[pick % len(alive)].pop(0)
    for queue in queues:
        yield from queue


def _joined(deltas):
    """Put neighbours into one delta: text, reasoning and calls at once."""
    deltas = list(deltas)
    for pair in (deltas[n : n + 2] for n in range(0, len(deltas), 2)):
        joined = {}
        for delta in pair:
            for key, value in delta.items():
                joined[key] = joined[key] + value if key in joined else value
        yield joined


def _chunk(delta, **more):
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": delta, **more}]}


def _stream(said, quirks, order, cuts):
    """Return the chunks in which a server with these quirks says it."""
    talk = [
        [{"reasoning_content": piece} for piece in _pieces(said.reasoning, cuts) if piece],
        [{"content": piece} for piece in _pieces(said.text, cuts) if piece],
    ]
    calls = [
        list(_call_deltas(n, name, args, cuts, quirks)) for n, (name, args) in enumerate(said.calls)
    ]
    # calls can only be told apart in a mixture where their deltas say whose they are
    if quirks.index != "given" and quirks.repeats not in {"id", "both"}:
        calls = [list(itertools.chain.from_iterable(calls))]
    deltas = _mixed(order, [*talk, *calls])
    deltas = _joined(deltas) if quirks.together else deltas
    chunks = [_chunk({"role": "assistant"}), *map(_chunk, deltas)]
    finish = "tool_calls" if said.calls else "stop"
    chunks += [_chunk({}, finish_reason=finish) for _ in range(quirks.finishes)]
    if quirks.nulls:
        gaps = [{"choices": None}, {"choices": [{"delta": None}]}, _chunk({"content": None})]
        chunks = [each for chunk in chunks for each in (chunk, *gaps)]
    return _with_usage(chunks, quirks.usage)


def _with_usage(chunks, place):
    trailing = [{"id": "c-1", "model": "m", "choices": [], "usage": USAGE}]
    match place:
        case "none":
            return chunks
        case "trailing":
            return chunks + trailing
        case "finish":
            return [*chunks[:-1], chunks[-1] | {"usage": USAGE}]
        case "both":
            return [*chunks[:-1], chunks[-1] | {"usage": USAGE}, *trailing]
    less = USAGE | {"completion_tokens": 1, "total_tokens": 11}
    return [chunk | {"usage": less} for chunk in chunks] + trailing


# -- the faces ---------------------------------------------------------------------------------


def _said(message):
    """Return what a message says, in whichever shape."""
    blocks = message.content_blocks
    metadata = message.response_metadata
    return {
        "text": message.text,
        "reasoning": "".join(b["reasoning"] for b in blocks if b["type"] == "reasoning"),
        "kept": message.additional_kwargs.get("reasoning_content", ""),
        "calls": [{**call, "type": "tool_call"} for call in message.tool_calls],
        "call blocks": [
            {key: block[key] for key in ("name", "args", "id", "type")}
            for block in blocks
            if block["type"] == "tool_call"
        ],
        "broken": len(message.invalid_tool_calls),
        "usage": message.usage_metadata,
        "finish": metadata.get("finish_reason"),
        "model": metadata.get("model_name"),
        "provider": metadata.get("model_provider"),
    }


def _expected(said, quirks):
    return {
        "text": said.text,
        "reasoning": said.reasoning,
        "kept": said.reasoning,
        "calls": said.tool_calls(),
        "call blocks": said.tool_calls(),
        "broken": 0,
        "usage": None if quirks.usage == "none" else COUNTED,
        "finish": "tool_calls" if said.calls else "stop",
        "model": "m",
        "provider": "tokenhub",
    }


def _check(services, said, quirks, order=(), cuts=(1, 3)):
    service = services()(_stream(said, quirks, order, cuts))

    for face, message in service.faces().items():
        found, expected = _said(message), _expected(said, quirks)
        by_id = {call["id"]: call for call in found["calls"]}
        assert len(by_id) == len(found["calls"]), face
        # which call is announced first is the order of the mixture, not of the answer
        for key in ("calls", "call blocks"):
            found[key] = sorted(found[key], key=lambda call: call["id"])
        assert found == expected, face


# -- examples ----------------------------------------------------------------------------------

MIXTURES = {
    "text": Said(text="你好，世界"),
    "reasoning, then text": Said(reasoning="想一想", text="好"),
    "row 28 text and a call": Said(text="look", calls=(("f", '{"a": 1}'),)),
    "row 29 reasoning and a call": Said(reasoning="hm", calls=(("f", '{"a": 1}'),)),
    "row 30 parallel calls": Said(calls=(("f", '{"a": 1}'), ("g", '{"b": 2}'))),
    "row 27 everything": Said("hm", "look", (("f", '{"a": "北京"}'), ("g", '{"b": 2}'))),
    "a call without arguments": Said(calls=(("f", ""),)),
    "nothing": Said(),
}


@pytest.mark.parametrize("together", [False, True], ids=["apart", "in one delta"])
@pytest.mark.parametrize("said", MIXTURES.values(), ids=MIXTURES)
def test_every_mixture_is_the_same_in_all_shapes(services, said, together):
    _check(services, said, Quirks(together=together), order=range(40))


# -- every mixture and quirk -------------------------------------------------------------------

_TEXT = st.text(st.sampled_from("ab 你好😀<\n"), max_size=8)
_ARGS = st.one_of(
    st.just(""),
    st.just("{}"),
    st.dictionaries(st.sampled_from("abc"), st.one_of(_TEXT, st.integers(0, 9)), min_size=1).map(
        lambda value: json.dumps(value, ensure_ascii=False)
    ),
)
_SAID = st.builds(
    Said,
    reasoning=_TEXT,
    text=_TEXT.filter(lambda text: not text.lstrip().startswith("<")),
    calls=st.lists(_ARGS, max_size=3).map(
        lambda many: tuple((f"tool_{n}", args) for n, args in enumerate(many))
    ),
)
_QUIRKS = st.builds(
    Quirks,
    index=st.sampled_from(["given", "missing", "zero", "null"]),
    repeats=st.sampled_from(["nothing", "id", "name", "both"]),
    blank=st.sampled_from(["absent", "empty", "null"]),
    args=st.sampled_from(["cut", "whole", "object"]),
    usage=st.sampled_from(["trailing", "finish", "both", "running", "none"]),
    finishes=st.integers(1, 2),
    nulls=st.booleans(),
    together=st.booleans(),
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(
    said=_SAID,
    quirks=_QUIRKS,
    order=st.lists(st.integers(0, 4), max_size=30),
    cuts=st.lists(st.integers(1, 12), max_size=4),
)
@example(
    said=Said("hm", "ok", (("tool_0", '{"a": 1}'), ("tool_1", '{"b": 2}'))),
    quirks=Quirks(index="zero", repeats="both", usage="running", finishes=2, nulls=True),
    order=[0, 1, 2, 3] * 5,
    cuts=[2, 4],
)
def test_every_stream_is_the_same_in_all_shapes(services, said, quirks, order, cuts):
    _check(services, said, quirks, order, cuts)


# -- what only some shapes show ------------------------------------------------------------------


def _two_calls():
    return _stream(
        Said(calls=(("f", '{"a": 1}'), ("g", '{"b": 2}'))), Quirks(), order=range(9), cuts=(2, 4)
    )


def _one_call(args, cuts, name="f"):
    """Return one call's arguments as a stream, and the same as a whole answer."""
    first, *rest = _pieces(args, cuts) or [""]
    deltas = [{"index": 0, "id": "c0", "function": {"name": name, "arguments": first}}]
    deltas += [{"index": 0, "function": {"arguments": piece}} for piece in rest]
    chunks = [_chunk({"tool_calls": [delta]}) for delta in deltas]
    call = {"id": "c0", "type": "function", "function": {"name": name, "arguments": args}}
    choice = {"message": {"content": "", "tool_calls": [call]}, "finish_reason": "length"}
    return [*chunks, _chunk({}, finish_reason="length")], {"model": "m", "choices": [choice]}


def _faces(services, args, cuts, name="f"):
    """Return one call's message, streamed as each face gives it, and whole."""
    streamed, whole = _one_call(args, cuts, name)
    return services()(streamed).faces() | {"invoke": services()(whole).model().invoke("hi")}


def _calls(message):
    """Return a message's calls, and those that are none."""
    broken = [(call["name"], call["args"], call["id"]) for call in message.invalid_tool_calls]
    return [(call["name"], call["args"], call["id"]) for call in message.tool_calls], broken


CUT = [
    '{"path": "/home/me',
    '{"a": 1, "b',
    '{"a": 1',
    '{"a": [1, 2',
    '{"a": ["x',
    '{"a": "x\\',
    '{"a": 1} x',
    '{"a": 1}}',
    "[1, 2",
    "a: 1",
    "nu",
]


@pytest.mark.parametrize("args", CUT)
def test_arguments_that_were_cut_are_an_invalid_call_in_every_shape(services, args):
    for face, message in _faces(services, args, (3, 7)).items():
        calls, ((name, said, call_id),) = _calls(message)
        assert (calls, name, call_id) == ([], "f", "c0"), face
        assert said.startswith(args), face


@pytest.mark.parametrize("mode", ["messages", "values"])
def test_section_4_complaint_24_an_agent_does_not_act_on_a_call_that_was_cut_off(services, mode):
    @tool
    def delete(path: str) -> str:
        """Delete what is at a path."""
        acted.append(path)
        return "gone"

    acted = []
    streamed, whole = _one_call('{"path": "/home/me', (3, 9), name="delete")
    service = services()(streamed if mode == "messages" else whole)

    agent = create_agent(service.model(), [delete])
    list(agent.stream({"messages": [HumanMessage("tidy up")]}, stream_mode=mode))

    assert (acted, len(service.bodies)) == ([], 1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    # a second `{` may begin the same arguments again
    args=st.text(st.sampled_from('{}[]",:\\\n a1'), max_size=12).filter(
        lambda text: text.count("{") < 2
    ),
    cuts=st.lists(st.integers(1, 9)),
)
@example(args='{"a": "\\\\', cuts=[])
@example(args='{"a": 1} ', cuts=[8])
@example(args=" \n", cuts=[1])
def test_any_arguments_are_the_same_call_in_every_shape(services, args, cuts):
    first, *others = [_calls(message) for message in _faces(services, args, cuts).values()]
    assert all(other == first for other in others)


@pytest.mark.parametrize("args", ["", "null", "{}", " "])
def test_a_call_without_arguments_is_one_in_every_shape(services, args):
    for face, message in _faces(services, args, ()).items():
        assert _calls(message) == ([("f", {}, "c0")], []), face


@pytest.mark.parametrize("args", ['{"a": 1}', ""])
def test_a_call_without_a_name_is_an_invalid_call_in_every_shape(services, args):
    for face, message in _faces(services, args, (), name=None).items():
        calls, broken = _calls(message)
        assert (calls, len(broken)) == ([], 1), face


def test_v3_sends_text_as_it_comes(services):
    stream = services()(_stream(Said(text="abcd"), Quirks(), (), (1, 2))).model()

    assert list(stream.stream_events("hi", version="v3").text) == ["a", "b", "cd"]


def test_v3_shows_reasoning_and_calls_by_themselves(services):
    said = Said("hm", "ok", (("f", '{"a": 1}'),))
    model = services()(_stream(said, Quirks(), (), (1,))).model()

    stream = model.stream_events("hi", version="v3")

    assert "".join(stream.reasoning) == "hm"
    assert stream.output.tool_calls[0]["args"] == {"a": 1}


def test_v3_names_the_model_that_was_asked_for(services):
    stream = (
        services()(_stream(Said(text="a"), Quirks(), (), ()))
        .model()
        .stream_events("hi", version="v3", model="kimi-k2.6")
    )

    assert next(iter(stream))["metadata"]["model"] == "kimi-k2.6"


@pytest.mark.parametrize("shape", ["v0", "v1", "v3"])
def test_row_57_every_shape_sends_its_reasoning_back_in_a_tool_loop(services, shape):
    service = services()(_stream(Said("hm", "", (("f", "{}"),)), Quirks(), (), ()))
    first = {
        "v0": lambda: service.model("hy3").invoke("hi"),
        "v1": lambda: service.model("hy3", output_version="v1").invoke("hi"),
        "v3": lambda: service.model("hy3").stream_events("hi", version="v3").output,
    }[shape]
    if shape != "v3":
        service = services()(_whole("hm", "f"), _stream(Said(text="x"), Quirks(), (), ()))
    said = first()

    history = [HumanMessage("hi"), said, {"role": "tool", "content": "1", "tool_call_id": "c0"}]
    list(service.model("hy3").stream(history))

    assert service.bodies[-1]["messages"][1]["reasoning_content"] == "hm"
    assert service.bodies[-1]["messages"][1]["tool_calls"][0]["function"]["name"] == "f"


def _whole(reasoning, name):
    call = {"id": "c0", "type": "function", "function": {"name": name, "arguments": "{}"}}
    message = {"content": "", "reasoning_content": reasoning, "tool_calls": [call]}
    choice = {"message": message, "finish_reason": "tool_calls"}
    return {"id": "x", "model": "m", "choices": [choice]}


def test_row_56_reasoning_is_the_first_block_of_a_whole_message(services):
    message = services()(_whole("hm", "f")).model().invoke("hi")

    assert [block["type"] for block in message.content_blocks] == ["reasoning", "tool_call"]


def test_v1_content_survives_json(services):
    message = services()(_whole("hm", "f")).model(output_version="v1").invoke("hi")

    again = AIMessage.model_validate_json(message.model_dump_json())

    assert again.content == message.content
    assert again.content_blocks == message.content_blocks


def test_a_single_chunk_shows_its_pieces_as_chunk_blocks(services):
    chunks = list(services()(_two_calls()).model().stream("hi"))

    kinds = {block["type"] for chunk in chunks[:-1] for block in chunk.content_blocks}
    assert kinds == {"tool_call_chunk"}
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
