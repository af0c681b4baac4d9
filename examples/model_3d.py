"""Make 3D models of a text and of an image, both at once.

python examples/model_3d.py ["what to make"]
"""

from __future__ import annotations

import asyncio
import sys

from langchain_tokenhub import Tokenhub3DTool, TokenHubImageTool
from langchain_tokenhub.testing.offline import emulator_unless_key


async def main(prompt: str) -> None:
    image = await TokenHubImageTool(save_to="studio-out").agenerate(prompt=prompt)
    fine = Tokenhub3DTool(model="hy-3d-3.1", save_to="studio-out")
    quick = Tokenhub3DTool(model="hy-3d-express", save_to="studio-out")
    results = await asyncio.gather(
        fine.agenerate(image_url=image, enable_pbr=True),
        quick.agenerate(prompt=prompt, result_format="GLB"),
    )
    for result in results:
        print(result)
        print([str(file.path) for file in result.files])


if __name__ == "__main__":
    with emulator_unless_key():
        asyncio.run(main(*(sys.argv[1:] or ["一只小狗"])))
