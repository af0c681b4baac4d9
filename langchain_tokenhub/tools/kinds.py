"""One tool a kind of model."""

from __future__ import annotations

from typing import ClassVar

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.tools.client import ModelId
from langchain_tokenhub.tools.tool import MediaTool


class TokenHubImageTool(MediaTool):
    """Pictures from text, and from pictures: `hy-image-v3.0` or `hy-image-lite`.

    Example:
        ```python
        tool = TokenHubImageTool(save_to="out")
        print(tool.generate(prompt="雨后的江南小镇，水墨风格"))
        ```
    """

    kind: ClassVar[Kind] = "image"
    model: ModelId = "hy-image-v3.0"


class TokenHubVideoTool(MediaTool):
    """Videos: `hy-video-1.5`, `yt-video-2.0`, `yt-video-fx` or `yt-video-humanactor`.

    Example:
        ```python
        tool = TokenHubVideoTool(save_to="out")
        print(tool.generate(prompt="一只橘猫在雪地里奔跑"))
        ```
    """

    kind: ClassVar[Kind] = "video"
    model: ModelId = "hy-video-1.5"


class Tokenhub3DTool(MediaTool):
    """3D models: `hy-3d-3.0`, `hy-3d-3.1` or `hy-3d-express`.

    Example:
        ```python
        tool = Tokenhub3DTool(save_to="out")
        print(tool.generate(prompt="一把木质摇椅"))
        ```
    """

    kind: ClassVar[Kind] = "3d"
    model: ModelId = "hy-3d-3.0"


TOOLS: dict[Kind, type[MediaTool]] = {
    "image": TokenHubImageTool,
    "video": TokenHubVideoTool,
    "3d": Tokenhub3DTool,
}
"""Which tool a kind of model has."""
