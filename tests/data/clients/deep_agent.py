"""Run a deep agent of `deepagents` over the emulator at a URL; print what the service received."""

import json
import sys

from deepagents import create_deep_agent

from langchain_tokenhub import ChatTokenHub, TokenHubToolkit
from langchain_tokenhub.testing import Emulator


def main(folder):
    with Emulator(speed=1000) as hub:
        at = {"base_url": hub.url, "api_key": "any"}
        hub.reply(["你好"])
        tools = TokenHubToolkit(save_to=folder, **at).get_tools()
        agent = create_deep_agent(model=ChatTokenHub(model="glm-5", **at), tools=tools)
        state = agent.invoke({"messages": [("user", "你好")]})
        print(json.dumps({"sent": hub.requests[-1].body, "answer": state["messages"][-1].text}))


main(*sys.argv[1:])
