"""Any history that LangChain can hold is answered, or refused before it is sent.

The emulator judges: it is stricter than most backends, and shares no code with the package.
"""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokenhub import ChatTokenHub, InvalidRequestError
from langchain_tokenhub.testing import Emulator

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PNG = {"mime_type": "image/png"}
LINK = "https://a.test/x.png"
BLOCKS = [
    "文本",
    {"type": "text", "text": ""},
    {"type": "text", "text": None},
    {"type": "image_url", "image_url": {"url": LINK}},
    {"type": "image_url", "image_url": LINK},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": {"url": 1}},
    {"type": "image", "url": LINK},
    {"type": "image", "base64": PIXEL, **PNG},
    {"type": "image", "source_type": "base64", "data": PIXEL, **PNG},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "image"},
    {"type": "input_image", "image_url": LINK},
    {"type": "video", "url": "https://a.test/v.mp4"},
    {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"},
    {"type": "file", "url": "https://a.test/x.pdf"},
    {"type": "file", "base64": "aGk=", "mime_type": "text/plain"},
    {"type": "file", "base64": "aGk=", "mime_type": "application/pdf"},
    {"type": "file", "file": {"file_id": "f-1"}},
    {"type": "document", "source": {"type": "text", "data": "doc", "media_type": "text/plain"}},
    {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "reasoning", "reasoning": "hm"},
    {"type": "tool_use", "id": "c-1", "name": "f", "input": {"a": 1}},
    {"type": "tool_result", "tool_use_id": "c-1", "content": "ok"},
    {"type": "tool_result", "tool_use_id": "c-1", "content": [{"type": "image", "url": LINK}]},
    {"type": "refusal", "refusal": "no"},
    {"type": "non_standard", "value": {"type": "strange"}},
    {"type": "strange"},
]
_ID = st.sampled_from(["c-1", "c-2", "c-3"])
_CONTENT = st.one_of(
    st.sampled_from(["你好", "", " "]), st.lists(st.sampled_from(BLOCKS), max_size=2)
)
_CALL = st.builds(
    lambda i: {"name": "f", "args": {"城市": "北京"}, "id": i, "type": "tool_call"}, _ID
)
_BROKEN = st.builds(
    lambda i, args: {"name": None, "args": args, "id": i, "error": None},
    _ID,
    st.sampled_from(['{"a"', "", None]),
)
_MESSAGE = st.one_of(
    st.builds(HumanMessage, _CONTENT, name=st.sampled_from([None, "小明"])),
    st.builds(
        AIMessage,
        _CONTENT,
        tool_calls=st.lists(_CALL, max_size=2),
        invalid_tool_calls=st.lists(_BROKEN, max_size=1),
        additional_kwargs=st.sampled_from([{}, {"reasoning_content": "想"}]),
    ),
    st.builds(
        ToolMessage, _CONTENT, tool_call_id=_ID, status=st.sampled_from(["success", "error"])
    ),
    st.builds(SystemMessage, st.sampled_from(["s", ""])),
    st.builds(
        ChatMessage,
        content=st.just("x"),
        role=st.sampled_from(["user", "assistant", "developer", "critic"]),
    ),
    st.just(FunctionMessage("1", name="f")),
)
MODELS = ["hy3", "kimi-k2.6", "deepseek-v4-flash", "glm-5v-turbo", "minimax-m3", "ep-1234"]
SAID = re.compile(r"message \d+ \(\w+\): .+|the history has no user message")


@pytest.fixture(scope="module")
def service():
    with Emulator(speed=1e6) as hub:
        yield hub


def _ask(model, history, *, alone):
    """Return the answer, or the refusal."""
    try:
        return asyncio.run(model.ainvoke(history)) if alone else model.invoke(history)
    except InvalidRequestError as refusal:
        return refusal


@settings(
    max_examples=250,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    history=st.lists(_MESSAGE, min_size=1, max_size=6),
    name=st.sampled_from(MODELS),
    thinking=st.booleans(),
    alone=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:.*cannot see the images or files")
def test_a_history_is_answered_or_refused_with_the_messages_position(
    service, history, *, name, thinking, alone
):
    model = ChatTokenHub(
        model=name, thinking=thinking, base_url=service.url, api_key="sk-any", max_retries=0
    )
    before = len(service.requests)

    found = _ask(model, [*history, HumanMessage("end")], alone=alone)

    sent = len(service.requests) - before
    if isinstance(found, InvalidRequestError):
        assert (bool(SAID.match(found.message)), sent) == (True, 0)
    else:
        assert (bool(found.text), sent) == (True, 1)
