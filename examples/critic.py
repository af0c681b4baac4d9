"""An agent that looks at its own image, says what is wrong, and draws again: three times at most.

python examples/critic.py ["what to draw"]    # may cost 4 CNY at most
"""

from __future__ import annotations

import sys

from langchain.agents import create_agent
from langchain.agents.middleware import ToolCallLimitMiddleware
from langchain_core.messages import AIMessage

from langchain_tokenhub import ChatTokenHub, TokenHubToolkit
from langchain_tokenhub.testing import Emulator
from langchain_tokenhub.testing.offline import emulator_unless_key

PROMPT = (
    "你是严格的美术指导。先用 tokenhub_image 画图；看图后用一句话指出最大的问题，"
    "再改进提示词重画。满意，或已画三次，就停下并说明理由。"
)


def script(hub: Emulator) -> None:
    """Let the emulator's model criticise twice: it cannot see."""

    def draw(text: str, prompt: str, number: str) -> AIMessage:
        call = {"name": "tokenhub_image", "args": {"prompt": prompt}, "id": number}
        return AIMessage(text, tool_calls=[call])

    hub.reply(
        [
            draw("", "一只橘猫", "1"),
            draw("背景太空，重画。", "一只橘猫坐在窗台上", "2"),
            draw("光线太平，重画。", "一只橘猫坐在窗台上，清晨的侧光", "3"),
            "第三张有主体、环境和光线，可以交稿。",
        ]
    )


with emulator_unless_key() as hub:
    if hub is not None:
        script(hub)
    toolkit = TokenHubToolkit(
        models=["hy-image-v3.0"],
        save_to="studio-out",
        budget_cny=4,
        options={"image": {"show_result": True}},
    )
    agent = create_agent(
        ChatTokenHub(model="glm-5v-turbo"),
        toolkit.get_tools(),
        system_prompt=PROMPT,
        middleware=[ToolCallLimitMiddleware(tool_name="tokenhub_image", run_limit=3)],
    )
    question = sys.argv[1] if sys.argv[1:] else "画一只橘猫"
    state = agent.invoke({"messages": [{"role": "user", "content": question}]})
    for message in state["messages"][1:]:
        print(f"{message.type}: {message.text[:100]}")
