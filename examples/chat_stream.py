"""Stream an answer token by token, and see what it cost.

python examples/chat_stream.py ["your question"]
"""

from __future__ import annotations

import sys

from langchain_tokenhub import ChatTokenHub
from langchain_tokenhub.testing.offline import emulator_unless_key


def main(question: str) -> None:
    model = ChatTokenHub(model="deepseek-v4-flash", temperature=0.7)
    answer = None
    for chunk in model.stream([("system", "你是一个有帮助的助手。"), ("user", question)]):
        print(chunk.content, end="", flush=True)
        answer = chunk if answer is None else answer + chunk
    print(f"\n\n{answer.usage_metadata}")


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["请用一句话解释什么是大语言模型"]))
