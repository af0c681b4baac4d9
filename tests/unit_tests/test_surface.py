"""What is public, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import langchain_tokenhub

CONTRACT = {
    "ChatTokenHub",
    "TokenHubImageTool",
    "TokenHubVideoTool",
    "Tokenhub3DTool",
    "TokenHubToolkit",
    "TokenHubJobTool",
    "approve_above",
    "Job",
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


@pytest.mark.parametrize(
    "module",
    ["httpx", "httpx2", "langchain_core.tools", "langchain_core.language_models.chat_models"],
)
def test_importing_the_package_loads_nothing_heavy(module):
    assert python(f"import langchain_tokenhub, sys; print({module!r} in sys.modules)") == "False"


@pytest.mark.parametrize(
    "module",
    ["httpx", "httptools", "langchain_tokenhub.tools", "langchain_tokenhub.testing.server"],
)
def test_the_chat_model_loads_neither_httpx_nor_tools(module):
    code = "from langchain_tokenhub import ChatTokenHub; import sys; print({!r} in sys.modules)"
    assert python(code.format(module)) == "False"
