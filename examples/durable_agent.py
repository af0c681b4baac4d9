"""An agent that is killed in the middle of a paid job, and finishes it in another process.

pip install langgraph-checkpoint-sqlite && python examples/durable_agent.py

The first process is killed while its video is made. The second one resumes the thread from
the SQLite checkpoint; the ledger knows the tool call, so nothing is submitted or paid twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from langchain.agents import create_agent
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph.state import CompiledStateGraph

from langchain_tokenhub import ChatTokenHub, Job, TokenHubVideoTool
from langchain_tokenhub.testing.offline import emulator_unless_key

FOLDER = Path("studio-out")
THREAD = {"configurable": {"thread_id": "video-1"}}


def agent(saver: SqliteSaver, *, dies: bool) -> CompiledStateGraph:
    def watch(job: Job) -> None:
        print(f"  {job.id}: {job.status}", flush=True)
        if dies:
            os._exit(9)  # as `kill -9` would

    tool = TokenHubVideoTool(save_to=FOLDER, ledger=FOLDER / "ledger", progress=watch)
    return create_agent(ChatTokenHub(model="hy3"), [tool], checkpointer=saver)


def work(*, dies: bool) -> None:
    FOLDER.mkdir(exist_ok=True)
    with SqliteSaver.from_conn_string(str(FOLDER / "agent.sqlite")) as saver:
        asked = {"messages": [("user", "拍一段小河流水的视频")]} if dies else None
        answer = agent(saver, dies=dies).invoke(asked, THREAD, durability="sync")
    print(answer["messages"][-1].content)


if __name__ == "__main__":
    if sys.argv[1:] == ["--die"]:
        work(dies=True)
    with emulator_unless_key(speed=5) as hub:
        (FOLDER / "agent.sqlite").unlink(missing_ok=True)
        first = subprocess.run([sys.executable, __file__, "--die"], check=False)
        print(f"the first process died with code {first.returncode}; the second goes on:")
        work(dies=False)
        if hub:
            print(f"submitted {len(hub.jobs)} job(s) in all")
