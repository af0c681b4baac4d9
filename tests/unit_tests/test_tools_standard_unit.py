"""LangChain's own unit tests of tools, once a model."""

from __future__ import annotations

import pytest
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_tokenhub.tools import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool

URL = "https://x.test/a.png"
EXAMPLES = {
    "hy-image-v3.0": (TokenHubImageTool, {"prompt": "雪", "resolution": "1024:1024"}),
    "hy-image-lite": (TokenHubImageTool, {"prompt": "雪"}),
    "hy-video-1.5": (TokenHubVideoTool, {"prompt": "雪"}),
    "yt-video-2.0": (TokenHubVideoTool, {"image": URL}),
    "yt-video-fx": (TokenHubVideoTool, {"template": "befigure", "images": [URL]}),
    "yt-video-humanactor": (
        TokenHubVideoTool,
        {"prompt": "说话", "audio_url": "https://x.test/a.mp3", "image_url": URL},
    ),
    "hy-3d-3.0": (Tokenhub3DTool, {"prompt": "椅子"}),
    "hy-3d-3.1": (Tokenhub3DTool, {"image_url": URL}),
    "hy-3d-express": (Tokenhub3DTool, {"prompt": "椅子"}),
}


class TestUnit(ToolsUnitTests):
    @pytest.fixture(params=EXAMPLES, autouse=True)
    def model(self, request):
        self._model = request.param

    @property
    def tool_constructor(self):
        return EXAMPLES[self._model][0]

    @property
    def tool_constructor_params(self):
        return {"model": self._model, "api_key": "sk-test-canary"}

    @property
    def tool_invoke_params_example(self):
        return EXAMPLES[self._model][1]

    @property
    def init_from_env_params(self):
        env = {"TOKENHUB_API_KEY": "sk-env", "TOKENHUB_SITE": "overseas"}
        return env, {"model": self._model}, {"api_key": "sk-env", "site": "overseas"}
