"""Ask many questions at once, on one thread.

python examples/async_batch.py [how many]
"""

from __future__ import annotations

import asyncio
import sys

from langchain_tokenhub import ChatTokenHub
from langchain_tokenhub.testing.offline import emulator_unless_key


async def main(count: int) -> None:
    model = ChatTokenHub(model="deepseek-v4-flash", thinking=False, max_tokens=200)
    questions = [f"计算 {number}+{number}" for number in range(1, count + 1)]
    tokens = 0
    async for place, answer in model.abatch_as_completed(
        questions, {"max_concurrency": 16}, return_exceptions=True
    ):
        if isinstance(answer, Exception):
            print(f"{questions[place]}: {answer}")
            continue
        tokens += answer.usage_metadata["total_tokens"]
        print(f"{questions[place]}: {answer.content}")
    print(f"\n{count} answers, {tokens} tokens")


if __name__ == "__main__":
    with emulator_unless_key():
        asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else 20))
