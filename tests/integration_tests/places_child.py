"""A process that makes jobs in places that it shares with others; or dies while it holds one.

python places_child.py FACE STORE MOST JOBS [die]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from langchain_tokenhub import TokenHubVideoTool


def die_after(jobs):
    seen = set()

    def die(job):
        seen.add(job.id)
        if len(seen) == jobs:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def main(face, store, most, jobs, *, dies):
    tool = TokenHubVideoTool(
        in_flight_store=store,
        max_in_flight=int(most),
        progress=die_after(int(jobs)) if dies else None,
    )
    prompts = [f"{os.getpid()}-{number}" for number in range(int(jobs))]
    if face == "async":

        async def together():
            await asyncio.gather(*(tool.agenerate(prompt=prompt) for prompt in prompts))

        asyncio.run(together())
        return
    threads = [
        threading.Thread(target=tool.generate, kwargs={"prompt": prompt}) for prompt in prompts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:5], dies=sys.argv[5:] == ["die"])
