"""The LangChain tools over `jobs`."""

from __future__ import annotations

from langchain_tokenhub.tools.approval import approve_above
from langchain_tokenhub.tools.job_tool import TokenHubJobTool
from langchain_tokenhub.tools.media_tools import (
    TokenHub3DTool,
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubVideoTool,
)
from langchain_tokenhub.tools.toolkit import TokenHubToolkit

__all__ = ["TokenHub3DTool", "TokenHubImageTool", "TokenHubJobTool", "TokenHubToolkit"]
__all__ += ["TokenHubVideoTool", "Tokenhub3DTool", "approve_above"]
