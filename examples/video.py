"""Make a video of a text and one of an image, with progress.

python examples/video.py ["what to show"]
"""

from __future__ import annotations

import sys

from langchain_tokenhub import TokenHubImageTool, TokenHubVideoTool
from langchain_tokenhub.testing.offline import emulator_unless_key


def main(prompt: str) -> None:
    tool = TokenHubVideoTool(save_to="studio-out")
    job = tool.submit(prompt=prompt)  # paid for from here on: its id is all you need to keep
    for state in tool.watch(job):
        print(f"{state.id}: {state.status} {state.progress or ''}")
    print(tool.result(job))

    image = TokenHubImageTool(save_to="studio-out").generate(prompt="一只橘猫坐在窗台上")
    effects = TokenHubVideoTool(model="yt-video-fx", save_to="studio-out", progress=True)
    print(effects.generate(template="fuzzy", images=[image]))


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["小河流水"]))
