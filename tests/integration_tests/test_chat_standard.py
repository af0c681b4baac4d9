"""langchain-tests' own integration tests of a chat model, once a method of structured output.

They run against the emulator; with TOKENHUB_LIVE=1 and a key, against the real service.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_tokenhub import ChatTokenHub
from langchain_tokenhub.testing import Emulator

LIVE = bool(os.environ.get("TOKENHUB_LIVE") and os.environ.get("TOKENHUB_API_KEY"))
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


@pytest.fixture(scope="module", autouse=True)
def _service():
    """Point the environment at an emulator, unless the real service is asked for."""
    if LIVE:
        yield
        return
    with Emulator(speed=1000) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENHUB_BASE_URL", hub.url)
        patch.setenv("TOKENHUB_API_KEY", "sk-standard")
        yield


@pytest.fixture(autouse=True)
def _local_pictures(monkeypatch):
    """Feed a local file to the tests that fetch one from a public host."""

    def get(url, **_):
        return httpx.Response(200, content=PIXEL, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)


@pytest.fixture(scope="module")
def vcr_cassette_dir(tmp_path_factory):
    """Record anew each time: the emulator is as quick as a cassette, and is never out of date."""
    return str(tmp_path_factory.mktemp("cassettes"))


@pytest.fixture(scope="module")
def vcr_config():
    return {"record_mode": "once", "filter_headers": ["authorization"]}


class _Standard(ChatModelIntegrationTests):
    method = "function_calling"
    model_id = "hy3"

    @property
    def chat_model_class(self):
        return ChatTokenHub

    @property
    def chat_model_params(self):
        return {"model": self.model_id}

    @property
    def structured_output_kwargs(self):
        return {"method": self.method}

    @property
    def model_override_value(self):
        return "glm-5"

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return True

    @property
    def supported_usage_metadata_details(self):
        details = ["reasoning_output", "cache_read_input"]
        return {"invoke": details, "stream": details}

    @property
    def enable_vcr_tests(self):
        return True

    def invoke_with_reasoning_output(self, *, stream=False):
        model = ChatTokenHub(model="deepseek-r1-0528")
        return _asked(model, "Think hard: how many legs have 3 cats?", stream=stream)

    def invoke_with_cache_read_input(self, *, stream=False):
        model = ChatTokenHub(model=self.model_id)
        question = (Path(__file__).read_text(encoding="utf-8") + " ") * 2 + "What is this?"
        model.invoke(question)
        return _asked(model, question, stream=stream)


def _asked(model, question, *, stream):
    if not stream:
        return model.invoke(question)
    whole = None
    for chunk in model.stream(question):
        whole = chunk if whole is None else whole + chunk
    return whole


class TestByFunctionCalling(_Standard):
    """Tools are the way that works with most models."""


class TestByJsonSchema(_Standard):
    method = "json_schema"


class TestByJsonMode(_Standard):
    method = "json_mode"


class _Seeing(_Standard):
    model_id = "kimi-k2.6"

    @property
    def supports_image_inputs(self):
        return True

    @property
    def supports_image_urls(self):
        return True

    @property
    def supports_image_tool_message(self):
        return True


class TestOfAModelThatSeesByFunctionCalling(_Seeing):
    """Pictures beside everything else, by the same three methods."""


class TestOfAModelThatSeesByJsonSchema(_Seeing):
    method = "json_schema"


class TestOfAModelThatSeesByJsonMode(_Seeing):
    method = "json_mode"
