"""What is public, and what importing it costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import BaseModel

import langchain_tokenhub
from langchain_tokenhub import ChatTokenHub, Job, MediaFile, MediaResult
from langchain_tokenhub.embeddings import EmbeddingsOptions, TokenHubEmbeddings
from langchain_tokenhub.params.models import (
    Hy3D30,
    Hy3D31,
    Hy3DExpress,
    HyImageLite,
    HyImageV3,
    HyVideo15,
    ImageParams,
    ThreeDParams,
    VideoParams,
    YtVideo2,
    YtVideoFx,
    YtVideoHumanactor,
)
from langchain_tokenhub.settings import ConnectionOptions, ConnectionSettings
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubToolkit,
    TokenHubVideoTool,
)
from langchain_tokenhub.tools.job_tool import JobToolOptions
from langchain_tokenhub.tools.media_tools import (
    ImageKeywords,
    ImageToolOptions,
    MediaToolOptions,
    SubmitOptions,
    ThreeDKeywords,
    VideoKeywords,
)
from langchain_tokenhub.tools.toolkit import ToolkitOptions

API_PAGE = Path(__file__).parents[2] / "docs" / "en" / "api.md"
KEYWORDS = {
    ImageKeywords: (HyImageLite, HyImageV3, ImageParams),
    VideoKeywords: (HyVideo15, YtVideo2, YtVideoFx, YtVideoHumanactor, VideoParams),
    ThreeDKeywords: (Hy3D30, Hy3D31, Hy3DExpress, ThreeDParams),
}
OPTIONS = {
    ConnectionSettings: ConnectionOptions,
    TokenHubEmbeddings: EmbeddingsOptions,
    TokenHubImageTool: ImageToolOptions,
    TokenHubVideoTool: MediaToolOptions,
    Tokenhub3DTool: MediaToolOptions,
    TokenHubJobTool: JobToolOptions,
    TokenHubToolkit: ToolkitOptions,
}
VALUES = {
    ChatTokenHub: "model_name request_timeout close aclose list_models alist_models",
    Job: "ended seconds age",
    MediaFile: "preview expired read aread save asave",
    MediaResult: "",
}
"""What each class has beside its fields and what LangChain or pydantic gives it."""
CALLS = "generate submit query watch result results"
CONTRACT = {
    "ChatTokenHub",
    "TokenHubEmbeddings",
    "TokenHubImageTool",
    "TokenHubVideoTool",
    "Tokenhub3DTool",
    "TokenHub3DTool",
    "TokenHubToolkit",
    "TokenHubJobTool",
    "approve_above",
    "Job",
    "JobRef",
    "MediaFile",
    "MediaResult",
    "TokenHubError",
    "AuthenticationError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "ModelNotAvailableError",
    "InvalidRequestError",
    "ContextLengthError",
    "ContentBlockedError",
    "RateLimitError",
    "ServerError",
    "APIConnectionError",
    "APITimeoutError",
    "IncompleteStreamError",
    "JobError",
    "JobFailedError",
    "JobBlockedError",
    "JobTimeoutError",
    "JobNotFoundError",
    "SubmissionUnknownError",
    "ResultExpiredError",
}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_surface_holds_what_the_contract_names():
    assert set(langchain_tokenhub.__all__) >= CONTRACT


@pytest.mark.parametrize("name", langchain_tokenhub.__all__)
def test_every_public_name_is_there(name):
    assert getattr(langchain_tokenhub, name) is not None


@pytest.mark.parametrize("name", sorted(set(langchain_tokenhub.__all__) - {"__version__"}))
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(langchain_tokenhub, name))


def test_every_error_class_is_public():
    from langchain_tokenhub import errors

    classes = {
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, errors.TokenHubError)
    }
    assert classes <= set(langchain_tokenhub.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = langchain_tokenhub.nothing


def loaded(code: str, *modules: str) -> list[str]:
    """Return which of the modules a new Python has loaded after `code`."""
    found = python(f"{code}; import sys; print(*sys.modules)").split()
    return [module for module in modules if module in found]


def test_importing_the_package_loads_nothing_heavy():
    heavy = (
        "httpx",
        "httpx2",
        "langchain_core.tools",
        "langchain_core.language_models.chat_models",
    )
    assert loaded("import langchain_tokenhub", *heavy) == []


@pytest.mark.parametrize("name", ["ChatTokenHub", "TokenHubEmbeddings"])
def test_no_model_loads_httpx_or_tools(name):
    others = ("langchain_tokenhub.tools", "langchain_tokenhub.testing.server")
    assert loaded(f"from langchain_tokenhub import {name}", "httpx", "httptools", *others) == []


def listed(text):
    """Return the members that a part of the API page lists."""
    lists = re.findall(r"^      members: \[([^]]+)\]$", text, re.MULTILINE)
    return re.findall(r"\w+", " ".join(lists))


def documented():
    """Return what the API page documents: whole classes, and members that it lists."""
    text = API_PAGE.read_text("utf-8")
    whole = set(re.findall(r"^::: langchain_tokenhub\.(\w+)$", text, re.MULTILINE))
    return whole, set(listed(text))


def test_what_is_exported_is_documented_and_what_is_documented_is_exported():
    whole, members = documented()
    exported = set(langchain_tokenhub.__all__) - {"__version__", "TokenHub3DTool"}
    assert whole - {"errors"} <= exported <= whole | members


def test_the_3d_tool_has_the_others_spelling_too():
    assert langchain_tokenhub.TokenHub3DTool is langchain_tokenhub.Tokenhub3DTool


@pytest.mark.parametrize("cls", [TokenHubImageTool, TokenHubJobTool, TokenHubToolkit])
def test_what_is_public_on_a_tool_is_documented(cls):
    ours = [one for one in cls.__mro__ if one.__module__.startswith("langchain_tokenhub.")]
    public = {name for one in ours for name in vars(one) if not name.startswith("_")}
    calls = {name for word in CALLS.split() for name in (word, f"a{word}")}
    own = {"close", "aclose", "request_timeout", "kind", *calls, *cls.model_fields}
    assert public - own <= set(dir(BaseTool)) | set(dir(BaseToolkit))


@pytest.mark.parametrize(("cls", "names"), VALUES.items(), ids=lambda one: str(one)[-20:])
def test_what_is_public_on_the_chat_model_and_the_values_is_documented(cls, names):
    ours = [one for one in cls.__mro__ if one.__module__.startswith("langchain_tokenhub.")]
    public = {name for one in ours for name in vars(one) if not name.startswith("_")}
    others = set(dir(BaseChatModel if cls is ChatTokenHub else BaseModel)) | {*cls.model_fields}
    assert public - others == set(names.split())


def test_the_api_page_lists_the_methods_of_the_values():
    text = API_PAGE.read_text("utf-8")
    for cls in (Job, MediaFile, MediaResult):
        section = text.partition(f"::: langchain_tokenhub.{cls.__name__}\n")[2].partition(":::")[0]
        assert listed(section) == VALUES[cls].split()


@pytest.mark.parametrize("cls", [Job, MediaFile, MediaResult])
def test_every_field_of_a_value_is_described(cls):
    described = set(re.findall(r"^    (\w+): \S", inspect.getdoc(cls), re.MULTILINE))
    assert described == cls.model_fields.keys()


@pytest.mark.parametrize(
    ("keywords", "classes"), KEYWORDS.items(), ids=lambda one: getattr(one, "__name__", "")
)
def test_the_keywords_of_a_kind_are_the_parameters_of_its_models(keywords, classes):
    fields = {name for cls in classes for name in cls.model_fields}
    assert keywords.__annotations__.keys() - SubmitOptions.__annotations__ == fields


@pytest.mark.parametrize(("cls", "options"), OPTIONS.items(), ids=lambda one: one.__name__)
def test_the_typed_keywords_of_a_class_are_its_fields_in_every_spelling(cls, options):
    aliases = {
        choice
        for field in cls.model_fields.values()
        if field.validation_alias
        for choice in field.validation_alias.choices
    }
    assert options.__annotations__.keys() == cls.model_fields.keys() | aliases
