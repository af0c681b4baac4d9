"""A small studio: one sentence in; an image, a video made of it, and a 3D model out.

python examples/studio.py ["what you want"]

An agent on ChatTokenHub streams its answer, calls the image, video and 3D tools, and leaves the
files in ./studio-out/. Without a key everything runs against the emulator on this machine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from langchain_tokenhub import ChatTokenHub, TokenHubError, TokenHubToolkit
from langchain_tokenhub.testing.offline import emulator_unless_key

FOLDER = Path("studio-out")
MODEL = os.environ.get("TOKENHUB_MODEL", "hy3")
WISH = (
    "请为一家名叫“云上茶馆”的店做一套素材：一张水墨风格的招牌图，把这张图变成一段短视频，"
    "再做一个茶壶的3D模型。"
)
PROMPT = (
    "你是一个设计工作室。先用一句话说明打算，再调用工具完成用户要的图像、视频和 3D 模型。"
    "视频要用刚生成的图像：把图像任务的 job id 填进视频工具的 image 参数。"
    "每个任务都要付费：同样的内容不要做两次，失败时如实告诉用户。最后用一两句话总结成果。"
)


class Show:
    """Prints what the agent says, and keeps what it made."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.failed: list[str] = []
        self.usage: UsageMetadata | None = None
        self._speaking = False

    def token(self, chunk: Any) -> None:
        """Print a piece of the answer as it comes."""
        if isinstance(chunk, AIMessageChunk) and chunk.text:
            print(chunk.text, end="", flush=True)
            self._speaking = True

    def step(self, update: Mapping[str, Any]) -> None:
        """Keep what a finished step of the agent brought."""
        if self._speaking:
            print("\n")
            self._speaking = False
        for node in update.values():
            for message in (node or {}).get("messages", ()):
                self._keep(message)

    def _keep(self, message: Any) -> None:
        if isinstance(message, AIMessage):
            self.usage = add_usage(self.usage, message.usage_metadata)
        elif isinstance(message, ToolMessage) and message.artifact:
            self.made.append(message.artifact)
        elif isinstance(message, ToolMessage):
            self.failed.append(str(message.content))


def columns(text: str) -> int:
    """Return how wide a text is in a terminal: a Chinese character takes two columns."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as an aligned table."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    padded = [
        [cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)]
        for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def report(show: Show, seconds: float) -> None:
    """Print the table of what was made, what failed, and what it cost."""
    rows: list[tuple[str, ...]] = [("kind", "model", "kB", "file")]
    for result in show.made:
        job = result["job"]
        for file in result["files"]:
            path = Path(file["path"]) if file["path"] else None
            name = path.name if path else "(not saved)"
            size = f"{path.stat().st_size / 1000:.0f}" if path else "-"
            rows.append((job["kind"], job["model"], size, name))
    print(table(rows))
    for failure in show.failed:
        print(f"failed: {failure}")
    if show.usage:
        used, cached = show.usage, show.usage.get("input_token_details", {}).get("cache_read", 0)
        print(
            f"\n{used['input_tokens']} tokens in ({cached} cached), {used['output_tokens']} out;"
            f" {len(show.made)} jobs; {seconds:.0f} s\nfiles in {FOLDER.resolve()}"
        )


def main(wish: str) -> int:
    """Let the studio do what is wished for."""
    toolkit = TokenHubToolkit(save_to=FOLDER, progress=True)
    agent = create_agent(ChatTokenHub(model=MODEL), toolkit.get_tools(), system_prompt=PROMPT)
    show, begun = Show(), time.monotonic()
    print(f"> {wish}\n")
    stream = agent.stream({"messages": [("user", wish)]}, stream_mode=["messages", "updates"])
    for mode, data in stream:
        if mode == "messages":
            show.token(data[0])
        else:
            show.step(data)
    report(show, time.monotonic() - begun)
    return 0 if show.made and not show.failed else 1


if __name__ == "__main__":
    try:
        with emulator_unless_key(speed=5):
            sys.exit(main(" ".join(sys.argv[1:]) or WISH))
    except TokenHubError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
