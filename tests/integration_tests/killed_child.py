"""Processes that are killed in the middle of six paid calls, and those that go on after them.

python killed_child.py FOLDER LEDGER [die]

Each way to make the calls has a process, a fork of this one, with a folder and a ledger; `{}` in
LEDGER stands for the folder. Each call has a tool of its own, named after the point at which it
stands still. When the last of them has got there, the process kills itself with SIGKILL. Without
`die` nothing stands still, and the results of the calls are printed, a line of JSON for each way.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import httpx
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from langchain_tokenhub import TokenHubError, TokenHubVideoTool
from langchain_tokenhub.jobs import service

POINTS = ("before", "claimed", "sent", "answered", "polled", "returned")
CONFIG = {"configurable": {"thread_id": "film"}, "max_concurrency": 8}
_arrived = threading.Semaphore(0)


def arrive():
    """Say that a call has come to its point."""
    _arrived.release()


def stand_still():
    arrive()
    time.sleep(600)


async def astand_still():
    arrive()
    await asyncio.sleep(600)


def kill_when_all_stand_still():
    for _ in POINTS:
        _arrived.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


HOOKS = {
    "claimed": ("request", "/submit"),  # the ledger is written, no byte is sent
    "sent": ("response", "/submit"),  # the service has the job, its id is not read
    "answered": ("request", "/query"),  # the id is known, no poll is sent
    "polled": ("response", "/query"),
}


def clients(point):
    """Return clients of which one request stands still at `point`."""
    if point not in HOOKS:
        return {}
    when, where = HOOKS[point]

    def url(thing):
        return str((thing if when == "request" else thing.request).url)

    def hook(thing):
        if url(thing).endswith(where):
            stand_still()

    async def ahook(thing):
        if url(thing).endswith(where):
            await astand_still()

    return {
        "http_client": httpx.Client(event_hooks={when: [hook]}),
        "http_async_client": httpx.AsyncClient(event_hooks={when: [ahook]}),
    }


def tools(folder, *, die):
    return [
        TokenHubVideoTool(
            name=point,
            save_to=folder / "out",
            ledger=LEDGER,
            max_in_flight=6,
            **(clients(point) if die else {}),
        )
        for point in POINTS
    ]


class StandStill(BaseCallbackHandler):
    """Stops a call before it begins, and one that has its result and not yet returned it."""

    def on_tool_start(self, serialized, input_str, **kwargs):
        if serialized["name"] == "before":
            stand_still()

    def on_tool_end(self, output, **kwargs):
        if output.name == "returned":
            stand_still()


class AStandStill(AsyncCallbackHandler):
    async def on_tool_start(self, serialized, input_str, **kwargs):
        if serialized["name"] == "before":
            await astand_still()

    async def on_tool_end(self, output, **kwargs):
        if output.name == "returned":
            await astand_still()


# --- plain code ---------------------------------------------------------------------------------


def good(result):
    return {"job": result.job.id, "saved": result.files[0].path is not None}


def bad(error):
    return {"error": type(error).__name__, "text": str(error)}


def plain(folder, *, die):
    found = {}

    def work(tool):
        if die and tool.name == "before":
            stand_still()
        try:
            found[tool.name] = good(tool.generate(prompt=tool.name))
        except TokenHubError as error:
            found[tool.name] = bad(error)
        if die and tool.name == "returned":
            stand_still()

    threads = [threading.Thread(target=work, args=(tool,)) for tool in tools(folder, die=die)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


async def aplain(folder, *, die):
    async def work(tool):
        if die and tool.name == "before":
            await astand_still()
        try:
            result = await tool.agenerate(prompt=tool.name)
        except TokenHubError as error:
            return bad(error)
        if die and tool.name == "returned":
            await astand_still()
        return good(result)

    done = await asyncio.gather(*(work(tool) for tool in tools(folder, die=die)))
    return dict(zip(POINTS, done, strict=True))


# --- graphs -------------------------------------------------------------------------------------


class Calling(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


def asking():
    calls = [{"id": f"c-{p}", "name": p, "args": {"prompt": p}} for p in POINTS]
    return AIMessage("", tool_calls=calls)


def node(tools, saver, **_):
    made = StateGraph(MessagesState)
    made.add_node("tools", ToolNode(tools))
    made.add_edge(START, "tools")
    return made.compile(checkpointer=saver), [HumanMessage("拍"), asking()]


def agent(tools, saver, *, die):
    said = [asking()] if die else []
    model = Calling(messages=iter([*said, AIMessage("好了")]))
    return create_agent(model, tools, checkpointer=saver), [HumanMessage("拍")]


def told(state):
    found = {}
    for message in state["messages"]:
        if isinstance(message, ToolMessage) and message.status == "error":
            found[message.name] = {"error": message.content.split(":")[0], "text": message.content}
        elif isinstance(message, ToolMessage):
            job, (file,) = message.artifact["job"], message.artifact["files"]
            found[message.name] = {"job": job["id"], "saved": file["path"] is not None}
    return found


def graph(build, folder, *, die):
    with SqliteSaver.from_conn_string(str(folder / "graph.sqlite")) as saver:
        made, messages = build(tools(folder, die=die), saver, die=die)
        config = {**CONFIG, "callbacks": [StandStill()] if die else []}
        asked = {"messages": messages} if die else None
        return told(made.invoke(asked, config, durability="sync"))


async def agraph(build, folder, *, die):
    async with AsyncSqliteSaver.from_conn_string(str(folder / "graph.sqlite")) as saver:
        made, messages = build(tools(folder, die=die), saver, die=die)
        config = {**CONFIG, "callbacks": [AStandStill()] if die else []}
        asked = {"messages": messages} if die else None
        return told(await made.ainvoke(asked, config, durability="sync"))


HOW = {
    "plain-sync": plain,
    "plain-async": aplain,
    "node-sync": functools.partial(graph, node),
    "node-async": functools.partial(agraph, node),
    "agent-sync": functools.partial(graph, agent),
    "agent-async": functools.partial(agraph, agent),
}


def make_calls(how, folder, *, die):
    folder.mkdir(exist_ok=True)
    if die:
        threading.Thread(target=kill_when_all_stand_still, daemon=True).start()
    found = HOW[how](folder, die=die)
    if asyncio.iscoroutine(found):
        found = asyncio.run(found)
    print(json.dumps([how, found]), flush=True)


def exit_code(work):
    """Run `work` in a fork of this process."""
    if (child := os.fork()) == 0:
        work()
        sys.exit()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    service.add_jitter = lambda seconds: min(seconds, 0.02)
    die, LEDGER = sys.argv[3:] == ["die"], sys.argv[2].format(sys.argv[1])
    tools(Path(sys.argv[1]), die=die)  # imports what the forks need
    for how in HOW:
        folder = Path(sys.argv[1]) / how
        LEDGER = sys.argv[2].format(folder)
        code = exit_code(functools.partial(make_calls, how, folder, die=die))
        if code != (-signal.SIGKILL if die else 0):
            sys.exit(f"{how} ended with {code}")
