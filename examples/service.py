"""A web service that streams tokens and the progress of jobs to a browser (server-sent events).

pip install fastapi uvicorn && python examples/service.py
curl -N "http://127.0.0.1:8000/ask?text=画一只橘猫"
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain.agents import create_agent

from langchain_tokenhub import ChatTokenHub, TokenHubError, TokenHubToolkit
from langchain_tokenhub.testing.offline import emulator_unless_key


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    toolkit = TokenHubToolkit(save_to="studio-out")
    app.state.agent = create_agent(ChatTokenHub(model="hy3"), toolkit.get_tools())
    yield


app = FastAPI(lifespan=lifespan)


def event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


async def told(text: str) -> AsyncIterator[str]:
    question = {"messages": [("user", text)]}
    try:
        stream = app.state.agent.astream(question, stream_mode=["messages", "custom"])
        async for mode, data in stream:
            if mode == "custom":
                yield event("job", data)
            elif data[0].type == "AIMessageChunk" and data[0].text:
                yield event("token", data[0].text)
        yield event("done", {})
    except TokenHubError as problem:
        yield event("error", {"message": str(problem)})


@app.get("/ask")
async def ask(text: str) -> StreamingResponse:
    return StreamingResponse(told(text), media_type="text/event-stream")


if __name__ == "__main__":
    with emulator_unless_key():
        uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8000)
