"""A web page that shows an agent's words, its jobs' progress and their images as they come.

pip install fastapi uvicorn && python examples/service.py    # then open http://127.0.0.1:8000
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from langchain.agents import create_agent

from langchain_tokenhub import ChatTokenHub, TokenHubError, TokenHubToolkit
from langchain_tokenhub.testing.offline import emulator_unless_key

FOLDER = Path("studio-out").absolute()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    toolkit = TokenHubToolkit(save_to=FOLDER)
    app.state.agent = create_agent(ChatTokenHub(model="hy3"), toolkit.get_tools())
    yield


app = FastAPI(lifespan=lifespan)
FOLDER.mkdir(exist_ok=True)
app.mount("/files", StaticFiles(directory=FOLDER))


def event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def job_event(data: dict[str, Any]) -> str:
    files = [Path(file["preview"] or file["path"]).name for file in data.get("files", [])]
    return event("job", data | {"files": files})


async def events(text: str) -> AsyncIterator[str]:
    question = {"messages": [("user", text)]}
    try:
        stream = app.state.agent.astream(question, stream_mode=["messages", "custom"])
        async for mode, data in stream:
            if mode == "custom":
                yield job_event(data)
            elif data[0].type == "AIMessageChunk" and data[0].text:
                yield event("token", data[0].text)
        yield event("done", {})
    except TokenHubError as problem:
        yield event("failed", {"message": str(problem)})


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("service.html"))


@app.get("/ask")
async def ask(text: str) -> StreamingResponse:
    return StreamingResponse(events(text), media_type="text/event-stream")


if __name__ == "__main__":
    with emulator_unless_key():
        uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8000)
