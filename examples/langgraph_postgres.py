"""An agent on PostgreSQL: its checkpoints and its ledger are in one database.

python examples/langgraph_postgres.py "postgresql://user@host/name"

Any process that reaches the database can go on with a thread. The first one dies in the middle of a
paid job, as if its machine had failed; the second one collects that job, with nothing on its disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from langchain.agents import create_agent
from langgraph.checkpoint.postgres import PostgresSaver

from langchain_tokenhub import ChatTokenHub, Job, TokenHubVideoTool
from langchain_tokenhub.testing.offline import emulator_unless_key

Watch = Callable[[Job], None] | None


def die(job: Job) -> None:
    print(f"  {job.id}: {job.status}", flush=True)
    os._exit(9)  # as `kill -9` would


def work(database: str, thread: str, text: str = "", watch: Watch = None) -> str:
    folder = f"studio-out/{os.getpid()}"  # as if on another machine
    tool = TokenHubVideoTool(save_to=folder, ledger=database, progress=watch)
    with PostgresSaver.from_conn_string(database) as saver:
        saver.setup()
        agent = create_agent(ChatTokenHub(model="hy3"), [tool], checkpointer=saver)
        asked = {"messages": [("user", text)]} if text else None  # None goes on
        config = {"configurable": {"thread_id": thread}}
        answer = agent.invoke(asked, config, durability="sync")
    return answer["messages"][-1].content


if __name__ == "__main__":
    database, *dies = sys.argv[1:]
    if dies:
        work(database, dies[0], "拍一段小河流水的视频", die)
    with emulator_unless_key(speed=5) as hub:
        thread = f"video-{os.getpid()}"
        command = [sys.executable, __file__, database, thread]
        first = subprocess.run(command, check=False)
        print(f"the first process died with code {first.returncode}; the second goes on:")
        print(work(database, thread))
        if hub:
            print(f"submitted {len(hub.jobs)} job(s) in all")
