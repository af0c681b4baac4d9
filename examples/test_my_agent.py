"""Test an agent of your own offline: no key, no mock, and failures on request.

pip install pytest && pytest examples/test_my_agent.py    # the fixture comes with the package
"""

from __future__ import annotations

import pytest
from langchain.agents import create_agent

from langchain_tokenhub import ChatTokenHub, QuotaExhaustedError, TokenHubToolkit


def painter(folder):
    toolkit = TokenHubToolkit(save_to=folder)
    return create_agent(ChatTokenHub(model="hy3"), toolkit.get_tools())


def ask(agent, text):
    return agent.invoke({"messages": [("user", text)]})["messages"]


def test_the_agent_saves_a_picture(tokenhub_emulator, tmp_path):
    messages = ask(painter(tmp_path), "画一只橘猫")
    assert list(tmp_path.glob("*.png"))
    assert messages[-1].content


def test_a_blocked_picture_is_told_and_not_tried_again(tokenhub_emulator, tmp_path):
    tokenhub_emulator.fail("job", code="FailedOperation.ModerationFailed", message="图片违规")
    messages = ask(painter(tmp_path), "画一只橘猫")
    assert any(getattr(message, "status", "") == "error" for message in messages)


def test_a_busy_service_is_waited_for(tokenhub_emulator):
    tokenhub_emulator.fail(status=429, code="429001", retry_after=0)
    assert ChatTokenHub(model="glm-5").invoke("Hello").content


def test_an_empty_package_is_an_error_that_says_so(tokenhub_emulator):
    tokenhub_emulator.fail(status=402, code="401008")
    with pytest.raises(QuotaExhaustedError):
        ChatTokenHub(model="glm-5").invoke("Hello")
