"""The image, video and 3D tools, and the toolkit: thin shells over `jobs`."""

from __future__ import annotations

from langchain_tokenhub.tools.kinds import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool
from langchain_tokenhub.tools.toolkit import TokenHubToolkit

__all__ = ["TokenHubImageTool", "TokenHubToolkit", "TokenHubVideoTool", "Tokenhub3DTool"]
