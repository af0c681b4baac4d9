"""Draw an image, then draw it again with a change.

python examples/image.py ["what to draw"] ["what to change"]
"""

from __future__ import annotations

import sys

from langchain_tokenhub import TokenHubImageTool
from langchain_tokenhub.testing.offline import emulator_unless_key


def main(prompt: str, change: str) -> None:
    tool = TokenHubImageTool(save_to="studio-out", progress=True)
    image = tool.generate(prompt=prompt, resolution="1280:720")
    print(image)
    print(tool.generate(prompt=change, images=[image]))

    quick = TokenHubImageTool(model="hy-image-lite", save_to="studio-out")  # answers at once
    print(quick.generate(prompt=prompt))


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["雨中, 竹林, 小路", "在图片中增加一个橘猫"]))
