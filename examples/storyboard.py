"""A storyboard: a story becomes shots, each shot an image, each image a video.

python examples/storyboard.py ["a story"]
"""

from __future__ import annotations

import sys

from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, Field

from langchain_tokenhub import ChatTokenHub, TokenHubImageTool, TokenHubVideoTool
from langchain_tokenhub.testing.offline import emulator_unless_key


class Shot(BaseModel):
    """One shot of a video."""

    scene: str = Field(description="画面描述，不超过八十字")
    motion: str = Field(description="镜头运动，不超过三十字")


class Storyboard(BaseModel):
    """The shots of a story, in order."""

    shots: list[Shot] = Field(description="三到四个镜头", min_length=3, max_length=4)


def main(story: str) -> None:
    write = ChatTokenHub(model="hy3").with_structured_output(Storyboard)
    draw = TokenHubImageTool(save_to="studio-out")
    video = TokenHubVideoTool(save_to="studio-out")

    def shoot(shot: Shot) -> str:
        image = draw.generate(prompt=shot.scene, resolution="1280:720")
        clip = video.generate(prompt=shot.motion, image=image)
        return f"{image.files[0].path} -> {clip.files[0].path}"

    # jobs beyond the account's quota queue inside the tools: no semaphore of your own is needed
    chain = write | (lambda board: board.shots) | RunnableLambda(shoot).map()
    for number, made in enumerate(chain.invoke(f"把这个故事改写成分镜：{story}"), 1):
        print(f"shot {number}: {made}")


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["小狐狸在雪夜里找到了回家的路。"]))
