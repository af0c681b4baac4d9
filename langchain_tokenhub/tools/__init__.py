"""The image, video and 3D tools, and the toolkit: thin shells over `jobs`."""

from __future__ import annotations

from langchain_tokenhub.tools.approval import approve_above
from langchain_tokenhub.tools.job_tool import TokenHubJobTool
from langchain_tokenhub.tools.media_tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubVideoTool,
)
from langchain_tokenhub.tools.toolkit import TokenHubToolkit

__all__ = [
    "TokenHubImageTool",
    "TokenHubJobTool",
    "TokenHubToolkit",
    "TokenHubVideoTool",
    "Tokenhub3DTool",
    "approve_above",
]
