"""Let the model call a function of yours, and answer with what it returned.

python examples/tool_call.py ["your question"]
"""

from __future__ import annotations

import sys

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_tokenhub import ChatTokenHub
from langchain_tokenhub.testing.offline import emulator_unless_key


@tool
def get_weather(city: str) -> dict[str, object]:
    """获取指定城市的天气信息。

    Args:
        city: 城市名称，如：北京
    """
    return {"city": city, "temperature": 22, "weather": "晴", "humidity": 45}


def main(question: str) -> None:
    model = ChatTokenHub(model="deepseek-v4-flash").bind_tools([get_weather])
    history = [HumanMessage(question)]
    answer = model.invoke(history)
    while answer.tool_calls:
        print("calls:", [(call["name"], call["args"]) for call in answer.tool_calls])
        history += [answer, *(get_weather.invoke(call) for call in answer.tool_calls)]
        answer = model.invoke(history)
    print(answer.content)


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["北京今天天气怎么样？"]))
