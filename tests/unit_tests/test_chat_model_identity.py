"""Who the chat model is: to traces, to caches, to pickles, and to LangChain's own wrappers."""

from __future__ import annotations

import copy
import pickle

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_tokenhub import AuthenticationError, ChatTokenHub, ListedModel, ServerError
from langchain_tokenhub.chat.response import decode_models

KEY = "sk-test-canary"


def _answer(text="hi", **more):
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    return {"id": "x", "model": "m", "choices": [choice], "usage": usage} | more


def _stream(*texts):
    chunks = [{"id": "x", "model": "m", "choices": [{"delta": {"content": t}}]} for t in texts]
    return [*chunks, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]


def _model(**fields):
    return ChatTokenHub(**{"model": "glm-5", "api_key": KEY} | fields)


# -- traces ------------------------------------------------------------------------------------


def test_row_84_traces_name_one_provider_everywhere(service, call):
    message = call(service(_answer()).model(), "invoke", "hi")

    assert message.response_metadata["model_provider"] == "tokenhub"
    assert _model()._get_ls_params()["ls_provider"] == "tokenhub"


def test_langsmith_sees_the_parameters_of_the_model():
    params = _model(temperature=0.5, max_tokens=9, stop="x")._get_ls_params()

    assert params == {
        "ls_provider": "tokenhub",
        "ls_model_name": "glm-5",
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }


def test_langsmith_sees_the_parameters_of_the_call_first():
    model = _model(temperature=0.5)

    params = model._get_ls_params(stop=["y"], model="hy3", temperature=1, max_tokens=2)

    assert (params["ls_model_name"], params["ls_temperature"]) == ("hy3", 1)
    assert (params["ls_max_tokens"], params["ls_stop"]) == (2, ["y"])


def test_row_85_the_package_has_its_own_row_in_lc_versions():
    from langchain_tokenhub._version import __version__

    assert _model().metadata["lc_versions"]["langchain-tokenhub"] == __version__


class _Counting(BaseCallbackHandler):
    def __init__(self):
        self.tokens, self.events = 0, 0

    def on_llm_new_token(self, *_, **__):
        self.tokens += 1

    def on_stream_event(self, *_, **__):
        self.events += 1


def test_row_32_v3_events_fire_no_token_callbacks_beside_them(service):
    handler = _Counting()
    model = service(_stream("a", "b", "c")).model(callbacks=[handler])

    events = list(model.stream_events("hi", version="v3"))

    assert handler.tokens == 0
    assert handler.events in {0, len(events)}


def test_a_stream_fires_one_token_callback_a_chunk(service, call):
    handler = _Counting()

    chunks = call(service(_stream("a", "b", "c")).model(callbacks=[handler]), "stream", "hi")

    assert handler.tokens == len(chunks)


def test_row_31_v3_events_come_through_a_hook_of_our_own():
    assert callable(ChatTokenHub._stream_chat_model_events)
    assert callable(ChatTokenHub._astream_chat_model_events)


# -- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("show", [repr, str, lambda m: str(m._identifying_params), dumpd])
def test_row_83_no_key_and_no_header_is_ever_shown(show):
    model = _model(default_headers={"Authorization": f"Bearer {KEY}"})

    assert KEY not in str(show(model))


# -- constructor -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "both", [{"model_name": "hy3"}, {"stop": ["a"], "stop_sequences": ["b"]}], ids=["model", "stop"]
)
def test_a_field_and_its_alias_together_are_refused(both):
    with pytest.raises(ValidationError, match="one field; pass one of them"):
        _model(**both)


def test_the_fields_have_their_langchain_aliases():
    model = ChatTokenHub(model_name="glm-5", api_key=KEY, stop_sequences=["a"], request_timeout=3)

    assert model.model == model.model_name == "glm-5"
    assert (model.stop, model.timeout, model.request_timeout) == (["a"], 3, 3)


def test_row_3_an_unknown_keyword_goes_to_model_kwargs_with_a_warning():
    with pytest.warns(UserWarning, match="top_k"):
        assert _model(top_k=5).model_kwargs == {"top_k": 5}


def test_row_4_extra_body_reaches_the_wire_from_constructor_and_call(service, call):
    service(_answer())
    model = service.model(extra_body={"preserved_thinking": True})

    call(model, "invoke", "hi", extra_body={"prompt_cache_key": "k"})

    sent = service.bodies[-1]
    assert (sent["preserved_thinking"], sent["prompt_cache_key"]) == (True, "k")
    assert "extra_body" not in sent


def test_row_6_any_keyword_of_a_call_reaches_the_wire(service, call):
    service(_answer())

    call(service.model(), "invoke", "hi", seed=3, n=1, logit_bias={"5": 1}, user="u")

    assert {"seed": 3, "n": 1, "logit_bias": {"5": 1}, "user": "u"}.items() <= service.bodies[
        -1
    ].items()


def test_kimi_k3_gets_its_limit_under_the_name_that_it_knows(service, call):
    service(_answer())

    call(service.model("kimi-k3", max_tokens=100), "invoke", "hi")

    assert service.bodies[-1]["max_completion_tokens"] == 100
    assert "max_tokens" not in service.bodies[-1]


def test_row_89_a_known_model_has_a_profile_and_an_unknown_one_has_none():
    assert _model(model="GLM-5").profile["max_input_tokens"] == 200_000
    assert not _model(model="ep-1234").profile


@pytest.mark.parametrize(("model", "sees"), [("kimi-k2.6", True), ("glm-5", False)])
def test_a_profile_says_that_a_tool_may_show_pictures_where_the_model_sees(model, sees):
    profile = _model(model=model).profile

    assert (profile["image_inputs"], profile["image_tool_message"]) == (sees, sees)


def _configured(model):
    runnable = model.configurable_fields(model=ConfigurableField(id="m"))
    return runnable._prepare({"configurable": {"m": "kimi-k2.6"}})[0]


CHANGES = {
    "model_copy": lambda model: model.model_copy(update={"model": "kimi-k2.6"}),
    "model_copy, deep": lambda model: model.model_copy(update={"model": "kimi-k2.6"}, deep=True),
    "bind": lambda model: model.bind(model="kimi-k2.6").bound,
    "bind by its alias": lambda model: model.bind(model_name="kimi-k2.6").bound,
    "configurable_fields": _configured,
    "all its fields": lambda model: ChatTokenHub(**{**vars(model), "model": "kimi-k2.6"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_profile_follows_the_model(change):
    changed = change(_model())

    assert changed.model == "kimi-k2.6"
    assert changed.profile == _model(model="kimi-k2.6").profile
    assert changed.profile["image_inputs"] is True


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_profile_of_the_callers_stays(change):
    assert change(_model(profile={"max_input_tokens": 9})).profile == {"max_input_tokens": 9}


def test_a_profile_may_be_that_of_another_model():
    profile = _model(model="hy3").profile

    assert _model(model="ep-1234", profile=profile).profile == profile


def test_a_bound_model_makes_its_tools_and_shapes_for_that_model(service, call):
    tool = {"name": "f", "description": "", "parameters": {}}
    bound = service(_answer()).model().bind(model="kimi-k2.6")

    call(bound.bind_tools([tool], tool_choice="any"), "invoke", "hi")

    assert service.bodies[-1]["model"] == "kimi-k2.6"
    assert service.bodies[-1]["thinking"] == {"type": "disabled"}


def test_row_50_profiles_claim_structured_output_only_where_json_schema_is_honoured():
    claims = {name: _model(model=name).profile["structured_output"] for name in ("hy3", "glm-5")}

    assert claims == {"hy3": True, "glm-5": False}


# -- copies and pickles --------------------------------------------------------------------------


def _used(model):
    """Make what core caches on a model, as the first call does."""
    model._get_llm_string()
    return model


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda model: model.model_copy(),
    "model_copy, deep": lambda model: model.model_copy(deep=True),
}


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_row_81_a_model_can_be_copied_before_and_after_use(make, used):
    model = _used(_model(temperature=0.5)) if used else _model(temperature=0.5)

    again = make(model)

    assert (again.model, again.temperature) == ("glm-5", 0.5)


@pytest.mark.parametrize("make", [COPIES["pickle"], copy.deepcopy], ids=["pickle", "deepcopy"])
def test_row_81_a_bound_model_can_be_copied(make):
    bound = _model().bind_tools([{"name": "f", "description": "", "parameters": {}}])

    assert make(bound).kwargs["tools"] == bound.kwargs["tools"]


def test_a_structured_model_can_be_copied_deeply():
    chain = _model().with_structured_output({"title": "a", "type": "object", "properties": {}})

    assert type(copy.deepcopy(chain)) is type(chain)


def test_a_pickle_holds_no_key_and_takes_it_from_the_environment(monkeypatch):
    monkeypatch.delenv("TOKENHUB_API_KEY", raising=False)
    monkeypatch.delenv("TENCENT_TOKENHUB_API_KEY", raising=False)
    raw = pickle.dumps(_model())

    assert KEY.encode() not in raw
    with pytest.raises(AuthenticationError, match="TOKENHUB_API_KEY"):
        pickle.loads(raw).invoke("hi")


def test_a_deep_copy_shares_the_callers_client(service, call):
    model = copy.deepcopy(service(_answer()).model())

    assert call(model, "invoke", "hi").content == "hi"


@pytest.mark.parametrize("deep", [False, True])
def test_a_changed_copy_has_a_cache_key_of_its_own(deep):
    model = _used(_model(temperature=0))

    changed = model.model_copy(update={"temperature": 1, "model": "hy3"}, deep=deep)

    assert changed._get_llm_string() != model._get_llm_string()
    assert "hy3" in changed._get_llm_string()


def test_a_cache_answers_the_same_question_once_but_not_for_a_changed_copy(service, call):
    model = service(_answer("first"), _answer("second")).model(cache=InMemoryCache())
    assert [call(model, "invoke", "hi").content for _ in range(2)] == ["first", "first"]
    assert len(service.bodies) == 1

    changed = model.model_copy(update={"temperature": 1})

    assert call(changed, "invoke", "hi").content == "second"


# -- LangChain's serialization ---------------------------------------------------------------------


def test_row_82_a_model_survives_dump_and_load():
    model = _model(temperature=0.5, site="overseas", max_tokens=9)
    dumped = dumpd(model)

    again = load(
        dumped,
        allowed_objects=[ChatTokenHub],
        valid_namespaces=["langchain_tokenhub"],
        secrets_map={"TOKENHUB_API_KEY": KEY},
    )

    assert dumped["type"] == "constructor"
    assert dumped["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": ["TOKENHUB_API_KEY"]}
    assert (again.model, again.temperature, again.site, again.max_tokens) == (
        "glm-5",
        0.5,
        "overseas",
        9,
    )
    assert again.api_key.get_secret_value() == KEY


# -- LangChain's wrappers --------------------------------------------------------------------------


def test_configurable_fields_change_the_request(service, call):
    model = service(_answer()).model(temperature=0)
    runnable = model.configurable_fields(
        temperature=ConfigurableField(id="t"), model=ConfigurableField(id="m")
    )

    call(runnable, "invoke", "hi", config={"configurable": {"t": 1.0, "m": "hy3"}})

    assert (service.bodies[-1]["temperature"], service.bodies[-1]["model"]) == (1.0, "hy3")


def test_with_config_reaches_the_callbacks(service, call):
    handler = UsageMetadataCallbackHandler()

    call(service(_answer()).model().with_config(callbacks=[handler]), "invoke", "hi")

    assert handler.usage_metadata


def test_with_retry_asks_again(service, call):
    service({"error": {"code": "500001", "message": "x"}}, status=500)(_answer())
    model = service.model().with_retry(
        retry_if_exception_type=(ServerError,), wait_exponential_jitter=False
    )

    assert call(model, "invoke", "hi").content == "hi"


def test_with_fallbacks_asks_another(service, services, call):
    service({"error": {"code": "400004", "message": "x"}}, status=400)
    other = services()(_answer("other")).model("hy3")

    assert call(service.model().with_fallbacks([other]), "invoke", "hi").content == "other"


def test_a_rate_limiter_is_asked_before_each_request(service, call):
    limiter = InMemoryRateLimiter(
        requests_per_second=1000, check_every_n_seconds=0.001, max_bucket_size=1
    )

    call(service(_answer()).model(rate_limiter=limiter), "invoke", "hi")

    assert limiter.available_tokens < 1
    assert len(service.bodies) == 1


@pytest.mark.parametrize("disable", [True, "tool_calling"])
def test_disable_streaming_asks_for_whole_answers(service, call, disable):
    model = service(_answer()).model(disable_streaming=disable)
    tools = [{"name": "f", "description": "", "parameters": {}}]

    call(model.bind_tools(tools), "stream", "hi")

    assert "stream" not in service.bodies[-1]


def test_streaming_true_streams_under_an_invoke(service, call):
    model = service(_stream("a", "b")).model(streaming=True)

    assert call(model, "invoke", "hi").content == "ab"
    assert service.bodies[-1]["stream"] is True


def test_stream_usage_can_be_switched_off_for_a_call(service, call):
    call(service(_stream("a")).model(), "stream", "hi", stream_usage=False)

    assert "stream_options" not in service.bodies[-1]


def test_row_14_usage_is_asked_for_with_any_base_url(service, call):
    call(service(_stream("a")).model(), "stream", "hi")

    assert service.bodies[-1]["stream_options"] == {"include_usage": True}


def test_a_batch_keeps_its_order(service, call):
    model = service(_answer()).model()

    answers = call(model, "batch", ["a", "b", "c"])

    assert [type(answer) for answer in answers] == [AIMessage] * 3
    assert sorted(body["messages"][0]["content"] for body in service.bodies) == ["a", "b", "c"]


def test_close_and_context_managers_leave_the_model_usable(service, call):
    """Row 78."""
    model = service(_answer()).model()
    with model as inside:
        assert inside is model
    model.close()

    assert call(model, "invoke", "hi").content == "hi"


# -- the service's list of models ------------------------------------------------------------------


def test_the_services_models_are_listed(service, call):
    service(
        {
            "object": "list",
            "data": [
                {"id": "hy3", "name": "HY 3", "status": "online", "created": 1774800000},
                {"id": "kimi-k2.5", "status": "pre-offline"},
            ],
        }
    )

    first, second = call(service.model(), "list_models")

    assert isinstance(first, ListedModel)
    assert (first.id, first.name, first.status) == ("hy3", "HY 3", "online")
    assert first.created.isoformat() == "2026-03-29T16:00:00+00:00"
    assert (second.name, second.status, second.created) == ("kimi-k2.5", "pre-offline", None)


@pytest.mark.parametrize("created", [10**15, -(10**18), "soon", True])
def test_a_model_listed_with_an_impossible_date_has_none(created):
    (model,) = decode_models({"data": [{"id": "hy3", "created": created}]})
    assert (model.id, model.created) == ("hy3", None)


def test_an_answer_that_lists_nothing_is_the_servers_error(service):
    with pytest.raises(ServerError, match="lists no models"):
        service({"object": "list"}).model().list_models()
