"""Which models the emulator serves: those of the service, `ep-...`, and those it was given."""

from __future__ import annotations

import httpx
import pytest

from langchain_tokenhub import (
    ChatTokenHub,
    InvalidRequestError,
    ModelNotAvailableError,
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubVideoTool,
)
from langchain_tokenhub.catalogue import chat_models, media_models
from langchain_tokenhub.testing import Emulator

HEAD = {"authorization": "Bearer any"}
CHAT = "/v1/chat/completions"
USER = {"messages": [{"role": "user", "content": "你好"}]}
PATHS = [
    CHAT,
    *(f"/v1/api/{p}" for p in ("image/submit", "image/lite", "video/submit", "3d/submit")),
]
UNKNOWN = [
    "gpt-4o", "glm5", "glm-5.2 ", "GLM-5", "Ep-1", "qwen3.5-plus",  # the last one is retired
    "kling-video-v3", "hy-image-v3", "HY-Image-V3.0",
]  # fmt: skip
EMBEDDINGS = ["kinfra-text-embedding-0.6b", "kinfra-vl-embedding-8b"]


def ask(hub, path, model):
    body = {"model": model, "prompt": "雨", **USER}
    return httpx.post(hub.url + path, json=body, headers=HEAD, trust_env=False)


def codes(hub, path, models):
    answers = [ask(hub, path, model) for model in models]
    return {(answer.status_code, answer.json().get("error", {}).get("code")) for answer in answers}


@pytest.mark.parametrize("path", PATHS)
def test_an_id_that_the_service_does_not_know_is_400004(hub, path):
    assert codes(hub, path, UNKNOWN) == {(400, "400004")}


@pytest.mark.parametrize("path", PATHS)
def test_in_the_guide_it_is_403(path):
    with Emulator(era="guide") as hub:
        assert codes(hub, path, UNKNOWN) == {(403, "model_not_available")}


@pytest.mark.parametrize("path", PATHS)
def test_a_model_of_another_path_is_400005(hub, path):
    others = [*EMBEDDINGS, "hy-video-1.5" if "video" not in path else "hy-3d-3.0"]
    others += [] if path == CHAT else ["glm-5"]
    assert codes(hub, path, others) == {(400, "400005")}


@pytest.mark.parametrize("path", PATHS)
def test_services_of_the_user_are_served_on_every_path(path):
    with Emulator(speed=1e6, models=["my-model", "ep-x"]) as hub:
        assert codes(hub, path, ["ep-12345", "my-model"]) == {(200, None)}
        assert codes(hub, path, ["my-model-2"]) == {(400, "400004")}


def test_one_id_may_be_given_without_a_list():
    with Emulator(models="my-model") as hub:
        assert ask(hub, CHAT, "my-model").status_code == 200


@pytest.mark.parametrize("wrong", [5, [None], [""], ["glm-5", 1]])
def test_models_that_are_no_ids_are_refused_at_once(wrong):
    with pytest.raises(TypeError, match="models"):
        Emulator(models=wrong)


def test_models_that_were_added_are_listed():
    with Emulator(models=["my-model", "glm-5"]) as hub:
        listed = httpx.get(f"{hub.url}/v1/models", headers=HEAD, trust_env=False).json()["data"]
    rows = {row["id"]: row for row in listed}
    assert len(rows) == len(listed)
    assert rows["my-model"].keys() == rows["glm-5"].keys()
    assert rows["my-model"]["status"] == "online"
    assert rows.keys() >= {"hy3", "hy-image-v3.0", *EMBEDDINGS}


def test_it_serves_every_id_of_the_catalogue_but_those_that_are_retired(hub):
    chat = {row.id: ask(hub, CHAT, row.id).status_code for row in chat_models()}
    retired = {row.id for row in chat_models() if row.status == "retired"}
    gone = {model for model, status in chat.items() if status == 400}
    assert gone <= retired
    media = {
        ask(hub, PATHS[1], row.id).json().get("error", {}).get("code") for row in media_models()
    }
    assert "400004" not in media


def test_the_package_raises_for_a_misspelt_id(hub, call):
    makers = [
        (ChatTokenHub(model="gpt-4o"), "invoke", ("你好",), {}),
        (TokenHubImageTool(model="hy-image-v3"), "generate", (), {"prompt": "雨"}),
        (TokenHubVideoTool(model="kling-video-v3"), "generate", (), {"prompt": "雨"}),
        (Tokenhub3DTool(model="hy-3d-9"), "submit", (), {"prompt": "塔"}),
    ]
    for thing, verb, args, kwargs in makers:
        with pytest.raises(ModelNotAvailableError) as caught:
            call(thing, verb, *args, **kwargs)
        assert caught.value.code == "400004"
    assert not hub.jobs


def test_the_package_raises_for_an_embeddings_model_in_chat(hub, call):
    with pytest.raises((InvalidRequestError, ModelNotAvailableError)) as caught:
        call(ChatTokenHub(model=EMBEDDINGS[0]), "invoke", "你好")
    assert caught.value.code == "400005"


def test_a_tool_may_write_its_models_id_in_any_letter_case(hub, call):
    assert call(TokenHubImageTool(model="HY-Image-V3.0"), "generate", prompt="雨").files
