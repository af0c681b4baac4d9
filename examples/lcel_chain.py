"""A chain: a prompt, a model that writes an image's description, the image tool that draws it.

python examples/lcel_chain.py ["a theme"]
"""

from __future__ import annotations

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_tokenhub import ChatTokenHub, TokenHubImageTool
from langchain_tokenhub.testing.offline import emulator_unless_key

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "你为画师写画面描述。只写描述，不超过一百字。"),
        ("user", "主题：{theme}"),
    ]
)


def main(theme: str) -> None:
    draw = TokenHubImageTool(save_to="studio-out", progress=True)
    chain = PROMPT | ChatTokenHub(model="hy3") | StrOutputParser() | draw
    print(chain.invoke({"theme": theme}))


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["雨中的江南古镇"]))
