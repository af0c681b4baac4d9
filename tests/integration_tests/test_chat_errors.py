"""What a user meets when something is wrong: its class, what to do, the service's own words."""

from __future__ import annotations

import pickle

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
)

from langchain_tokenhub import (
    AuthenticationError,
    ChatTokenHub,
    IncompleteStreamError,
    ModelNotAvailableError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ServerError,
)

VERBS = pytest.mark.parametrize("verb", ["invoke", "stream"])


def _model(**fields):
    return ChatTokenHub(**{"model": "hy3", "max_retries": 0} | fields)


def _failure(call, verb, model=None):
    with pytest.raises(ModelError) as failure:
        call(model or _model(), verb, "Hello")
    return failure.value


# -- the first ones a user meets ----------------------------------------------------------

# status, code, class, what the message says to do
FIRST = {
    "a key of another site": (401, "401002", AuthenticationError, "site="),
    "a package that is used up": (402, "401008", QuotaExhaustedError, "pay-as-you-go"),
    "a model that was not opened": (402, "401006", QuotaExhaustedError, "console"),
    "a key without the model": (403, "403002", PermissionDeniedError, "key's scope"),
    "an account in arrears": (402, "403004", QuotaExhaustedError, "top it up"),
    "a model that is retired": (400, "400004", ModelNotAvailableError, "enabled in the console"),
}


@VERBS
@pytest.mark.parametrize(("status", "code", "error", "advice"), FIRST.values(), ids=FIRST)
def test_the_message_says_what_to_do_and_keeps_the_services_words(
    hub, call, *, verb, status, code, error, advice
):
    body = (
        f'{{"error": {{"code": "{code}", "message": "English text", '
        '"message_zh": "服务的中文说明", "request_id": "r-1"}}'
    )
    hub.fail(status=status, code=code, body=body)

    failure = _failure(call, verb)

    assert type(failure) is error
    assert advice in str(failure)
    assert (failure.status, failure.code) == (status, code)
    assert "English text" in str(failure)
    assert "服务的中文说明" in str(failure)
    assert "控制台" in failure.hint or "站点" in failure.hint
    assert failure.request_id == "r-1"


@VERBS
def test_no_error_shows_the_key_or_the_prompt(hub, call, verb):
    hub.fail(status=401, code="401002", message="bad key sk-test-canary")

    failure = _failure(call, verb)

    shown = f"{failure!r} {failure} {failure.args} {failure.response}"
    assert "sk-test-canary" not in shown
    assert "Hello" not in shown


# -- LangChain's classes ------------------------------------------------------------------

CLASSES = {
    "400": (400, "400002", ModelInvalidRequestError, False),
    "row 71 context": (400, "400003", ContextOverflowError, False),
    "unknown model": (400, "400004", ModelNotFoundError, False),
    "401": (401, "401001", ModelAuthenticationError, False),
    "402": (402, "401007", ModelPermissionDeniedError, False),
    "403": (403, "403001", ModelPermissionDeniedError, False),
    "429": (429, "429001", ModelRateLimitError, True),
    "quota at 429": (429, "20097", ModelPermissionDeniedError, False),
    "451": (451, "451001", ModelError, False),
    "500": (500, "500001", ModelAPIError, True),
    "503": (503, "503001", ModelAPIError, True),
}


@VERBS
@pytest.mark.parametrize(("status", "code", "error", "again"), CLASSES.values(), ids=CLASSES)
def test_row_70_every_refusal_has_langchains_own_class(
    hub, call, *, verb, status, code, error, again
):
    hub.fail(status=status, code=code)

    failure = _failure(call, verb)

    assert isinstance(failure, error)
    assert failure.is_retryable is again
    assert type(pickle.loads(pickle.dumps(failure))) is type(failure)


# words of vLLM and DeepSeek, of a gateway, and of Anthropic
OVERFLOWS = [
    "This model's maximum context length is 65536 tokens. However, you requested 70001 tokens",
    "Your input exceeds the context window of this model.",
    "prompt is too long: 213462 tokens > 200000 maximum",
    "输入超过模型最大上下文长度",
]


@pytest.mark.parametrize("code", ["400001", "invalid_request_error"])
@pytest.mark.parametrize("said", OVERFLOWS)
def test_section_4_complaint_16_an_upstreams_words_of_overflow_are_understood(
    hub, call, said, code
):
    hub.fail(status=400, code=code, message=said)

    assert isinstance(_failure(call, "invoke"), ContextOverflowError)


class _Traced(BaseCallbackHandler):
    response = None

    def on_llm_error(self, error, **kwargs):
        self.response = kwargs.get("response")


def test_row_76_traces_hold_the_services_answer(hub, call):
    hub.fail(status=400, code="400002")
    handler = _Traced()

    failure = _failure(call, "invoke", _model(callbacks=[handler]))

    assert failure.request_id
    metadata = handler.response.generations[0][0].message.response_metadata
    assert metadata["status_code"] == 400
    assert metadata["body"]["error"]["code"] == "400002"


# -- answers that are none ----------------------------------------------------------------


@VERBS
def test_row_9_html_with_200_is_the_servers_error(hub, call, verb):
    hub.fail("garbage")

    assert isinstance(_failure(call, verb), ServerError)


@VERBS
def test_row_9_an_error_inside_200_is_its_own_class(hub, call, verb):
    hub.fail("error-in-200", code="429001", status=429)

    assert isinstance(_failure(call, verb), ModelRateLimitError)


def test_row_20_an_error_in_the_middle_of_a_stream_is_its_own_class(hub, call):
    hub.fail("error-in-200", code="500001", status=500, after=2)

    assert isinstance(_failure(call, "stream"), ServerError)


def test_rows_21_and_22_a_stream_that_is_cut_holds_what_was_said(hub, call):
    hub.fail("cut", after=4)

    failure = _failure(call, "stream", _model(thinking=False, max_retries=2))

    assert isinstance(failure, IncompleteStreamError)
    assert isinstance(failure, ModelConnectionError)
    assert failure.partial.text
    assert len(hub.requests) == 1


@VERBS
def test_row_73_a_reset_before_the_first_byte_is_tried_again(hub, call, verb):
    hub.fail("reset")

    assert call(_model(max_retries=2), verb, "Hello")
    assert len(hub.requests) == 2


@VERBS
def test_row_74_no_retries_means_one_request(hub, call, verb):
    hub.fail(status=500, code="500001", times=5)

    _failure(call, verb)

    assert len(hub.requests) == 1


def test_the_emulators_models_are_listed(hub, call):
    """`GET /v1/models`."""
    listed = {model.id: model for model in call(_model(), "list_models")}

    assert listed["hy3"].status == "online"
    assert (hub.requests[-1].method, hub.requests[-1].path) == ("GET", "/v1/models")
