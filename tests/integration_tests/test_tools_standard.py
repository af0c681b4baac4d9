"""LangChain's own integration tests of tools, for several models."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests

from langchain_tokenhub.tools import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool

URL = "https://example.com/a.png"
EXAMPLES = {
    "hy-image-v3.0": (TokenHubImageTool, {"prompt": "雪"}),
    "hy-image-lite": (TokenHubImageTool, {"prompt": "雪"}),
    "hy-video-1.5": (TokenHubVideoTool, {"prompt": "雪"}),
    "yt-video-fx": (TokenHubVideoTool, {"template": "befigure", "images": [URL]}),
    "hy-3d-3.0": (Tokenhub3DTool, {"prompt": "椅子"}),
    "hy-3d-express": (Tokenhub3DTool, {"prompt": "椅子"}),
}


class TestIntegration(ToolsIntegrationTests):
    @pytest.fixture(params=EXAMPLES, autouse=True)
    def model(self, request, hub):
        self._model = request.param

    @property
    def tool_constructor(self):
        return EXAMPLES[self._model][0]

    @property
    def tool_constructor_params(self):
        return {"model": self._model}

    @property
    def tool_invoke_params_example(self):
        return EXAMPLES[self._model][1]
