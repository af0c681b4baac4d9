"""What each field of the model does when it is given to one call: it acts, or it is refused."""

from __future__ import annotations

import httpx
import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.tracers.base import BaseTracer

from langchain_tokenhub import ChatTokenHub, InvalidRequestError, ServerError
from langchain_tokenhub.chat.request import ALIASES, CONNECTION, FIXED, SETTINGS

ANSWER = {
    "id": "x",
    "model": "m",
    "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}
FAILURE = {"error": {"code": "500001", "message": "x"}}
SECRET = "sk-of-a-call"
BODY = {
    "model": "hy3",
    "temperature": 0.5,
    "top_p": 0.5,
    "max_tokens": 9,
    "stop": ["。"],
    "seed": 3,
    "n": 1,
    "thinking": {"type": "disabled"},
    "reasoning_effort": "high",
}
REFUSED = [*sorted(FIXED), *BaseChatModel.model_fields]


def _sent(service, call, **kwargs):
    """Return the body and the headers of a call by each way of giving it keywords."""
    found = []
    for bound in (False, True):
        service.answers[:] = [(ANSWER, 200)]
        model = service.model("ep-1")
        (
            call(model.bind(**kwargs), "invoke", "hi")
            if bound
            else call(model, "invoke", "hi", **kwargs)
        )
        found.append({k: v for k, v in service.bodies[-1].items() if k != "messages"})
    assert found[0] == found[1]
    return found[0]


def test_it_is_settled_for_each_field_of_the_model_what_it_does_in_a_call():
    acting = {"model", *SETTINGS, *CONNECTION, "model_kwargs", "extra_body", "stream_usage"}

    assert acting.isdisjoint(REFUSED)
    assert acting | set(REFUSED) == set(ChatTokenHub.model_fields)
    assert set(ALIASES.values()) <= acting


@pytest.mark.parametrize("name", ["model", *SETTINGS])
def test_a_field_of_the_body_is_sent_in_place_of_the_models(service, call, name):
    assert _sent(service, call, **{name: BODY[name]})[name] == BODY[name]


@pytest.mark.parametrize(
    ("alias", "value", "sent"),
    [
        ("model_name", "hy3", {"model": "hy3"}),
        ("stop_sequences", ["。"], {"stop": ["。"]}),
        ("model_kwargs", {"top_k": 1}, {"top_k": 1}),
        ("extra_body", {"top_k": 1}, {"top_k": 1}),
        ("timeout", 9, {}),
        ("request_timeout", httpx.Timeout(9), {}),
        ("max_retries", 0, {}),
        ("default_headers", {"X-Trace": "t"}, {}),
        ("extra_headers", {"X-Trace": "t"}, {}),
        ("headers", {"X-Trace": "t"}, {}),
        ("stream_usage", False, {}),
    ],
)
def test_what_is_no_field_of_the_body_does_not_enter_it(service, call, alias, value, sent):
    assert _sent(service, call, **{alias: value}) == {"model": "ep-1"} | sent


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_call_cannot_change_is_refused_by_name_and_nothing_is_sent(service, call, name):
    model = service(ANSWER).model()
    for ask in (
        lambda: call(model, "invoke", "hi", **{name: SECRET}),
        lambda: call(model, "stream", "hi", **{name: SECRET}),
        lambda: model.bind(**{name: SECRET}),
        lambda: call(model, "invoke", "hi", model_kwargs={name: SECRET}),
    ):
        with pytest.raises((InvalidRequestError, TypeError), match=name) as found:
            ask()  # `tags` and the like are parameters of core's own, which says so itself
        assert SECRET not in str(found.value)
    assert service.bodies == []


KEYS = ["openai_api_key", "tokenhub_api_key", "apikey", "x-api-key", "Authorization"]


@pytest.mark.parametrize("name", ["api_key", *KEYS])
def test_a_key_never_enters_a_body_wherever_it_is_given(service, call, name):
    model = service(ANSWER).model()
    for kwargs in (
        {name: SECRET},
        {"extra_body": {name: SECRET}},
        {"model_kwargs": {name: SECRET}},
        {"extra_headers": {name: SECRET}},
        {"headers": {name: SECRET}},
    ):
        with pytest.raises(InvalidRequestError, match=name) as found:
            call(model, "invoke", "hi", **kwargs)
        assert SECRET not in str(found.value)
    assert service.bodies == []


@pytest.mark.filterwarnings("ignore:.*not default parameter")
@pytest.mark.parametrize("name", [*KEYS, "extra_headers", "headers_timeout_api_key"])
def test_a_key_or_a_header_never_enters_a_body_by_the_constructor(name):
    for fields in ({name: SECRET}, {"extra_body": {name: SECRET}}):
        with pytest.raises(ValueError, match=name) as found:
            ChatTokenHub(model="glm-5", api_key="k", **fields)
        assert SECRET not in str(found.value)


class _Runs(BaseTracer):
    """Keeps what a tracer is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def on_chat_model_start(self, *args, **kwargs):
        self.told.append(str((args, kwargs)))
        return super().on_chat_model_start(*args, **kwargs)

    def _persist_run(self, run):
        self.told.append(str(run))


@pytest.mark.parametrize("verb", ["invoke", "stream"])
@pytest.mark.parametrize("kwargs", [{"api_key": SECRET}, {"extra_headers": {"Cookie": SECRET}}])
def test_a_secret_of_a_call_is_refused_before_a_trace_begins(service, call, verb, kwargs):
    runs = _Runs()

    with pytest.raises(InvalidRequestError):
        call(service(ANSWER).model(), verb, "hi", config={"callbacks": [runs]}, **kwargs)

    assert SECRET not in str(runs.told)


@pytest.mark.parametrize("verb", ["invoke", "stream"])
@pytest.mark.parametrize("name", ["default_headers", "extra_headers"])
def test_a_calls_headers_go_beside_the_models_and_win(services, call, verb, name):
    seen = []

    def answer(request):
        seen.append(request.headers)
        return httpx.Response(200, json=ANSWER)

    transport = httpx.MockTransport(answer)
    model = services().model(
        http_client=httpx.Client(transport=transport),
        http_async_client=httpx.AsyncClient(transport=transport),
        default_headers={"X-A": "1", "x-trace": "model"},
    )

    call(model, verb, "hi", **{name: {"X-Trace": "call"}})
    call(model, verb, "hi")

    assert [(one["x-a"], one["x-trace"]) for one in seen] == [("1", "call"), ("1", "model")]
    assert seen[0]["authorization"] == "Bearer sk-test-canary"


@pytest.mark.parametrize(("retries", "requests"), [(0, 1), (1, 2)])
def test_max_retries_of_a_call_is_how_often_it_is_repeated(service, call, retries, requests):
    service(FAILURE, status=500)

    with pytest.raises(ServerError):
        call(service.model(max_retries=5), "invoke", "hi", max_retries=retries)

    assert len(service.bodies) == requests


WRONG = [
    ({"max_retries": -1}, "max_retries"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": "soon"}, "timeout"),
    ({"extra_headers": {"a b": "c"}}, "default_headers"),
    ({"extra_headers": "x"}, "default_headers"),
    ({"extra_body": "x"}, "extra_body"),
    ({"model_kwargs": 3}, "model_kwargs"),
    ({"stop": ["a"], "stop_sequences": ["b"]}, "one field"),
    ({"timeout": 3, "request_timeout": 4}, "one field"),
    ({"extra_body": {"max_retries": 3}}, "max_retries: not a field of the request body"),
]


@pytest.mark.parametrize(("kwargs", "said"), WRONG)
def test_a_wrong_value_is_refused_by_name_and_nothing_is_sent(service, call, kwargs, said):
    model = service(ANSWER).model()

    with pytest.raises(InvalidRequestError, match=said):
        call(model.bind(**kwargs) if "stop" in kwargs else model, "invoke", "hi", **kwargs)
    assert service.bodies == []


def test_events_take_the_fields_of_a_call_too(service):
    model = service(ANSWER).model()

    list(model.stream_events([HumanMessage("hi")], version="v3", stop_sequences=["。"]))

    assert service.bodies[-1]["stop"] == ["。"]
    with pytest.raises(InvalidRequestError, match="api_key"):
        list(model.stream_events([HumanMessage("hi")], version="v3", api_key=SECRET))


@pytest.mark.parametrize("verb", ["invoke", "stream"])
@pytest.mark.parametrize(
    ("name", "meant"),
    [("temprature", "temperature"), ("max_token", "max_tokens"), ("request_timeouts", "timeout")],
)
def test_a_misspelt_keyword_of_a_call_is_sent_with_one_warning(service, call, verb, name, meant):
    with pytest.warns(UserWarning, match=f"did you mean .*{meant}") as warned:
        call(service(ANSWER).model(), verb, "q", **{name: 1})
    assert len(warned) == 1
    assert service.bodies[0][name] == 1


@pytest.mark.parametrize("name", ["top_k", "min_p", "user", "repetition_penalty"])
def test_a_keyword_that_only_the_service_may_know_is_sent_without_a_warning(service, call, name):
    call(service(ANSWER).model(), "invoke", "q", **{name: 1})
    assert service.bodies[0][name] == 1
