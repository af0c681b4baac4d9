"""A model that makes the calls of a script, and the answers that an agent's state has."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

THREAD = {"configurable": {"thread_id": "film"}}


class CallingModel(GenericFakeChatModel):
    """A model of another provider."""

    def bind_tools(self, tools, **_):
        return self


def tool_call(name="tokenhub_video", number=1, **args):
    return {"type": "tool_call", "id": f"c{number}", "name": name, "args": args}


def calling_model(*turns):
    """Return a model that answers with each turn: a text, or calls."""
    messages = [AIMessage(t) if isinstance(t, str) else AIMessage("", tool_calls=t) for t in turns]
    return CallingModel(messages=iter(messages))


def agent_of(tools, *turns, middleware=()):
    model, saver = calling_model(*turns), InMemorySaver()
    return create_agent(model, tools, middleware=middleware, checkpointer=saver)


def answers(state):
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]
