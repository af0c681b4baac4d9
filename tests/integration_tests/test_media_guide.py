"""The guide's own examples of media, word for word on the wire, in its days and today."""

from __future__ import annotations

import pytest

from langchain_tokenhub import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool
from langchain_tokenhub.testing import Emulator

PICTURE = "https://example.com/a.jpeg"
# the tool, the model as the guide's table writes it, and the guide's body
EXAMPLES = [
    (
        TokenHubImageTool,
        "HY-Image-Lite",
        {"model": "hy-image-lite", "prompt": "雨中, 竹林, 小路", "rsp_img_type": "url"},
    ),
    (
        TokenHubImageTool,
        "HY-Image-V3.0",
        {"model": "hy-image-v3.0", "prompt": "在图片中增加一个橘猫", "images": [PICTURE]},
    ),
    (TokenHubVideoTool, "HY-Video-1.5", {"model": "hy-video-1.5", "prompt": "小河流水"}),
    (TokenHubVideoTool, "YT-Video-2.0", {"model": "yt-video-2.0", "image": {"url": PICTURE}}),
    (Tokenhub3DTool, "HY-3D-3.0", {"model": "hy-3d-3.0", "prompt": "一只小狗"}),
]


@pytest.fixture(params=["guide", "today"])
def service(request):
    with Emulator(speed=1000, era=request.param) as hub:
        yield hub


@pytest.mark.parametrize(("tool", "model", "body"), EXAMPLES, ids=lambda one: str(one)[:13])
def test_an_example_is_sent_as_it_stands_and_queried_by_model_and_id(
    service, call, tool, model, body
):
    given = {name: value for name, value in body.items() if name not in {"model", "rsp_img_type"}}
    result = call(tool(model=model, base_url=service.url, api_key="sk-test"), "generate", **given)
    sent, *queries = [request.body for request in service.requests]
    assert sent == body
    assert all(query == {"model": body["model"], "id": result.job.id} for query in queries)
    assert all(file.url for file in result.files)


def test_the_guides_rewriting_comes_without_its_markup(service, call):
    tool = TokenHubImageTool(base_url=service.url, api_key="sk-test")
    result = call(tool, "generate", prompt="在图片中增加一个橘猫")
    assert result.revised_prompt
    assert not set("<>") & set(result.revised_prompt)
