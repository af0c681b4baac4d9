"""The tools as values: names, schemas, settings, copies. No request is made."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import media_models
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubToolkit,
    TokenHubVideoTool,
)

KEY = "sk-test-canary"
TOOLS = {"image": TokenHubImageTool, "video": TokenHubVideoTool, "3d": Tokenhub3DTool}
NAMES = {
    "hy-image-v3.0": "tokenhub_image",
    "hy-image-lite": "tokenhub_image_lite",
    "hy-video-1.5": "tokenhub_video",
    "yt-video-2.0": "tokenhub_video_image",
    "yt-video-fx": "tokenhub_video_fx",
    "yt-video-humanactor": "tokenhub_video_human",
    "hy-3d-3.0": "tokenhub_3d",
    "hy-3d-3.1": "tokenhub_3d",
    "hy-3d-express": "tokenhub_3d_express",
}


def tool(model="hy-video-1.5", **fields):
    kind = next(row.kind for row in media_models() if row.id == model.lower())
    return TOOLS[kind](model=model, api_key=KEY, **fields)


def test_a_tool_is_named_after_its_model():
    assert {model: tool(model).name for model in NAMES} == NAMES


def test_a_description_is_short_and_says_what_a_call_costs():
    for model in NAMES:
        for language, words in (("zh", "计费"), ("en", "costs money")):
            text = tool(model, language=language).description
            assert len(text) < 400
            assert words in text


def test_a_price_by_the_second_is_described_so():
    assert "CNY per second of audio" in tool("yt-video-humanactor", language="en").description
    assert "每秒音频约" in tool("yt-video-humanactor", language="zh").description


def test_name_and_description_may_be_given():
    made = tool(name="draw", description="画画")
    assert (made.name, made.description) == ("draw", "画画")


def test_a_model_id_may_have_any_letter_case():
    assert tool("HY-Video-1.5").model == "hy-video-1.5"


def test_an_unknown_model_has_the_parameters_of_its_kind():
    made = TokenHubVideoTool(model="ep-abc123", api_key=KEY)
    assert {"prompt", "image", "job_id"} <= set(made.args)


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ValidationError, match="model for video"):
        TokenHubImageTool(model="hy-video-1.5", api_key=KEY)


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(ValidationError, match="wait_timeot"):
        tool(wait_timeot=5)


def test_a_tool_shows_no_key():
    assert KEY not in repr(tool()) + str(vars(tool()))


def test_a_pickle_holds_no_key_and_makes_its_schema_again():
    for model in NAMES:
        made = tool(model, language="en")
        dumped = pickle.dumps(made)
        assert KEY.encode() not in dumped
        assert pickle.loads(dumped).args_schema is made.args_schema


def test_a_deep_copy_keeps_the_key():
    assert copy.deepcopy(tool()).api_key.get_secret_value() == KEY


def test_a_key_is_needed_at_the_first_call_and_not_before(monkeypatch, call):
    monkeypatch.delenv("TOKENHUB_API_KEY", raising=False)
    monkeypatch.delenv("TENCENT_TOKENHUB_API_KEY", raising=False)
    with pytest.raises(errors.AuthenticationError, match="no TokenHub API key"):
        call(TokenHubImageTool(base_url="http://127.0.0.1:9"), "generate", prompt="雪")


def test_bad_input_fails_before_any_request(call):
    for params, words in (
        ({"prompt": "雪" * 201}, "prompt: 201 characters, at most 200"),
        ({"prompt": "雪", "resolution": "480p"}, "resolution"),
        ({"prompt": "雪", "seed": 7}, "seed: not a parameter of hy-video-1.5"),
        ({}, "prompt: missing"),
    ):
        with pytest.raises(errors.InvalidRequestError, match=words):
            call(tool(base_url="http://127.0.0.1:9"), "generate", **params)


def test_bad_input_to_a_tool_call_is_a_validation_error(call):
    with pytest.raises(ValidationError):
        call(tool(base_url="http://127.0.0.1:9"), "invoke", {"prompt": ""})


def test_a_bare_string_to_a_tool_without_a_prompt_is_refused_with_its_fields(call):
    with pytest.raises(errors.InvalidRequestError, match="template, images"):
        call(tool("yt-video-fx", base_url="http://127.0.0.1:9"), "invoke", "拥抱")


@pytest.mark.parametrize("verb", ["generate", "submit"])
def test_a_prompt_by_position_is_accepted_by_tools_that_have_one(call, verb):
    closed = {"base_url": "http://127.0.0.1:9", "max_retries": 0}
    with pytest.raises(errors.APIConnectionError):  # sent
        call(tool(**closed), verb, "雪")
    with pytest.raises(errors.InvalidRequestError, match="given twice"):
        call(tool(**closed), verb, "雪", prompt="雨")
    with pytest.raises(errors.InvalidRequestError, match=r"no prompt.*template, images"):
        call(tool("yt-video-fx", **closed), verb, "拥抱")
    with pytest.raises(errors.InvalidRequestError, match="prompt: "):
        call(tool(**closed), verb, 5)


def test_a_toolkit_gives_the_three_tools():
    tools = TokenHubToolkit(api_key=KEY, save_to="out").get_tools()
    assert [made.name for made in tools] == ["tokenhub_image", "tokenhub_video", "tokenhub_3d"]
    assert all(made.api_key.get_secret_value() == KEY for made in tools)
    assert all(made.save_to == Path("out").absolute() for made in tools)


def test_a_toolkits_tools_have_names_of_their_own():
    tools = TokenHubToolkit(api_key=KEY, models=["hy-3d-3.0", "hy-3d-3.1"]).get_tools()
    assert [made.name for made in tools] == ["tokenhub_3d", "tokenhub_hy_3d_3_1"]


def test_a_toolkit_accepts_unlisted_models_by_kind_and_options_by_kind():
    options = {"video": {"wait_timeout": 7, "ledger": "jobs"}}
    (made,) = TokenHubToolkit(api_key=KEY, models={"ep-1": "video"}, options=options).get_tools()
    assert (made.model, made.wait_timeout, made.ledger) == ("ep-1", 7, Path("jobs").absolute())


def test_a_toolkit_asks_for_the_kind_of_an_unlisted_model():
    with pytest.raises(ValueError, match="give its kind"):
        TokenHubToolkit(api_key=KEY, models=["ep-1"]).get_tools()
