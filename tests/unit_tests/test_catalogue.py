"""The rows: sites, chat models, media models, effects, error codes."""

from __future__ import annotations

import dataclasses
import pickle
import sys

import pytest
from langchain_core.language_models import ModelProfile

from langchain_tokenhub import catalogue, errors

GUIDE_CHAT_MODELS = [
    "hunyuan-2.0-thinking-20251109",
    "hunyuan-2.0-instruct-20251111",
    "hunyuan-role-latest",
    "deepseek-v3.2",
    "deepseek-v3.1-terminus",
    "deepseek-r1-0528",
    "deepseek-v3-0324",
    "glm-5",
    "kimi-k2.5",
    "kimi-k2-thinking-turbo",
    "kimi-k2-turbo-preview",
    "minimax-m2.5",
    "minimax-m2.7",
]


SITES = {
    "mainland": "tokenhub.tencentmaas. com cn",
    "overseas": "tokenhub-intl.tencentmaas. com cn",
    "international": "tokenhub-intl.tencentcloudmaas. com tech",
    "international-guangzhou": "tokenhub.tencentcloudmaas. com tech",
}


def test_a_site_is_its_default_host_and_its_backup():
    assert tuple(SITES) == catalogue.SITE_NAMES
    for site, hosts in SITES.items():
        name, *ends = hosts.split()
        assert catalogue.site_hosts(site) == tuple(f"https://{name}{end}" for end in ends)


def test_the_guides_thirteen_models_come_first():
    assert [row.id for row in catalogue.chat_models()][:13] == GUIDE_CHAT_MODELS


def test_every_chat_row_says_its_source_and_how_sure_it_is():
    for row in catalogue.chat_models():
        assert row.source, row.id
        assert row.confidence in {"high", "medium", "low"}, row.id
        assert row.status in {"online", "listed", "retiring", "pre-offline", "retired"}, row.id


def test_numbers_and_words_of_a_chat_row_have_their_types():
    for row in catalogue.chat_models():
        assert isinstance(row.context, int | None), row.id
        assert isinstance(row.tools, bool | None), row.id
        assert isinstance(row.reasoning_effort, tuple), row.id
        assert row.thinking_default in {"enabled", "disabled", "adaptive", "none", None}, row.id
        assert row.echo_reasoning in {"always", "tool_calls", "never"}, row.id
        assert row.structured_method in {"json_schema", "function_calling", "json_mode", None}


def test_a_model_is_found_in_any_letter_case():
    assert catalogue.chat_model("DeepSeek-V3.2") is catalogue.chat_model("deepseek-v3.2")
    assert catalogue.media_model("HY-Image-V3.0") is catalogue.media_model("hy-image-v3.0")


@pytest.mark.parametrize("model", ["ep-abcd1234", "no-such-model", ""])
def test_nothing_is_guessed_for_unknown_and_service_ids(model):
    assert catalogue.chat_model(model) is None
    assert catalogue.media_model(model) is None
    assert catalogue.profile(model) == {}


FACTS = {
    "kimi-k3": {
        "thinking_field": False,
        "structured_method": "json_schema",
        "max_tokens_field": "max_completion_tokens",
    },
    "kimi-k2.8-preview": {"thinking_field": False},
    "glm-5": {"thinking_field": True},
    "minimax-m3": {"thinking_on": "adaptive"},
    "hy3": {
        "thinking_on": "enabled",
        "forced_tools_while_thinking": True,
        "structured_method": "json_schema",
        "json_schema": True,
        "price_cny_per_m": (1, 4),
    },
    "kimi-k2.5": {"echo_reasoning": "always", "reasoning_filler": " ", "video": False},
    "deepseek-v4-pro": {"echo_reasoning": "tool_calls", "reasoning_filler": " "},
    "hy-mt2-pro": {"echo_reasoning": "never"},
    "deepseek-v4-flash": {"forced_tools_while_thinking": False},
    "deepseek-v3.2": {
        "forced_tools_while_thinking": False,
        "structured_method": "function_calling",
        "json_schema": False,
    },
    "qwen3.5-plus": {"forced_tools_while_thinking": False},
    "hy3-preview": {"forced_tools_while_thinking": False},
    "glm-5.3": {"forced_tools_while_thinking": False},
    "deepseek-r1-0528": {"structured_method": "json_mode"},
    "glm-5.1": {"structured_method": "function_calling"},
    "minimax-m2.7": {"structured_method": "function_calling", "price_usd_per_m": (0.3, 1.2)},
    "kimi-k2.6": {"sampling": False, "video": True},
    "glm-5.2": {"reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max")},
}


@pytest.mark.parametrize("model", FACTS)
def test_a_familys_rule_reaches_its_rows_and_a_row_may_differ(model):
    row = catalogue.chat_model(model)
    assert {field: getattr(row, field) for field in FACTS[model]} == FACTS[model]


def test_models_that_cannot_stop_thinking_guarantee_no_forced_tool():
    for row in catalogue.chat_models():
        if row.thinking_switchable is False and row.thinking_default == "enabled":
            assert not row.forced_tools_while_thinking, row.id


def test_a_profile_holds_what_is_known_under_langchains_names():
    profile = catalogue.profile("HY3")
    assert profile["max_input_tokens"] == 192_000
    assert profile["max_output_tokens"] == 128_000
    assert profile["tool_calling"] is True
    assert profile["reasoning_output"] is True
    assert profile["structured_output"] is True
    assert profile["image_inputs"] is False
    assert profile["reasoning_effort_levels"] == ["none", "low", "high"]


def test_every_profile_key_is_one_langchain_declares():
    keys = {key for row in catalogue.chat_models() for key in catalogue.profile(row.id)}
    assert keys <= set(ModelProfile.__annotations__)


def test_structured_output_is_claimed_only_where_json_schema_is_honoured():
    claimed = {
        r.id for r in catalogue.chat_models() if catalogue.profile(r.id)["structured_output"]
    }
    assert claimed == {"hy3", "hy3-preview", "kimi-k3"}


def test_what_is_not_known_is_not_in_the_profile():
    profile = catalogue.profile("mimo-v2.6-flash")
    assert not {"max_input_tokens", "tool_calling", "image_inputs", "reasoning_output"} & set(
        profile
    )


# kind, link_life, max_in_flight, typical_seconds, wait_timeout, tool_name
JOBS = {
    "hy-image-lite": ("image", 3600, 1, None, 300, "tokenhub_image_lite"),
    "hy-image-v3.0": ("image", 3600, 1, 12, 300, "tokenhub_image"),
    "hy-video-1.5": ("video", 86400, 5, 90, 1800, "tokenhub_video"),
    "yt-video-2.0": ("video", 86400, 5, 90, 1800, "tokenhub_video_image"),
    "yt-video-fx": ("video", 86400, 5, 90, 1800, "tokenhub_video_fx"),
    "yt-video-humanactor": ("video", 86400, 5, 90, 1800, "tokenhub_video_human"),
    "hy-3d-3.0": ("3d", 86400, 3, 180, 1200, "tokenhub_3d"),
    "hy-3d-3.1": ("3d", 86400, 3, 180, 1200, "tokenhub_3d"),
    "hy-3d-express": ("3d", 86400, 1, 60, 300, "tokenhub_3d_express"),
}


@pytest.mark.parametrize("model", JOBS)
def test_a_media_row_says_where_and_how_its_jobs_live(model):
    row = catalogue.media_model(model)
    found = (row.kind, row.link_life, row.max_in_flight, row.typical_seconds, row.wait_timeout)
    assert (*found, row.tool_name) == JOBS[model]
    assert row.job_life == 86400
    paths = f"/v1/api/{row.kind}/submit", f"/v1/api/{row.kind}/query"
    if model == "hy-image-lite":
        paths = "/v1/api/image/lite", None
    assert (row.submit_path, row.query_path) == paths


def test_the_guides_nine_media_models_are_there_and_each_price_is_inside_its_range():
    assert len(catalogue.media_models()) >= 9
    for row in catalogue.media_models():
        assert 0 < row.price.low <= row.price.high, row.id
        assert row.price.source, row.id
        assert all(row.price.low <= c <= row.price.high for c in row.price.variants.values()), (
            row.id
        )


@pytest.mark.parametrize("kind", ["image", "video", "3d"])
def test_a_kind_has_what_an_unknown_id_needs(kind):
    row = catalogue.media_kind(kind)
    default = catalogue.media_model(row.default_model)
    assert (row.submit_path, row.query_path) == (default.submit_path, default.query_path)
    assert row.tool_name == default.tool_name


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="image, video, 3d"):
        catalogue.media_kind("sound")


def test_there_are_141_effects_each_once():
    ids = [template.id for template in catalogue.fx_templates()]
    assert len(ids) == len(set(ids)) == 141


@pytest.mark.parametrize(
    ("name", "images", "known", "credits_"),
    [
        ("kissing", (1, 2), True, {"360p": 1, "720p": 2}),
        ("ridefly", (2, 2), True, {"360p": 1, "540p": 2, "720p": 3}),
        ("onestory", (2, 10), True, {"360p": 1, "720p": 2}),
        ("rainfall", (1, 1), False, {}),
    ],
)
def test_an_effect_says_how_many_pictures_and_credits(name, images, known, credits_):
    row = catalogue.fx_template(name)
    assert (row.images_min, row.images_max) == images
    assert (row.images_known, row.credits) == (known, credits_)


def test_an_effect_newer_than_the_list_is_not_known():
    assert catalogue.fx_template("brandnew") is None
    assert catalogue.fx_template("onestory").per_extra_image


ERRORS = {
    "InvalidRequestError": {
        400: "invalid_request_error - 400001 400002 400005 api_error never.seen",
        413: "- 413001",
        418: "-",
        410: "410001",
        200: "InvalidParameter InvalidParameter.InvalidParameter "
        "InvalidParameterValue.NoFaceInPhoto InvalidParameterValue.SomethingNew "
        "MissingParameter FailedOperation.ImageDecodeFailed "
        "FailedOperation.ImageDownloadError FailedOperation.RequestEntityTooLarge "
        "invalid_request_error",
    },
    "AuthenticationError": {
        401: "authentication_error - 401001 401002 401003 401004 401005",
        200: "AuthFailure.SignatureFailure",
    },
    "ModelNotAvailableError": {
        403: "model_not_available 400004",
        404: "- invalid_request_error",
        400: "400004 401006",
    },
    "RateLimitError": {
        429: "rate_limit_exceeded - 429001 429002 429003 429004 429005 429006",
        200: "RequestLimitExceeded RequestLimitExceeded.JobNumExceed ResourceInsufficient",
        None: "429001",
    },
    "ServerError": {
        500: "engine_server_error - 500001",
        503: "service_unavailable - 503001",
        502: "- 502001",
        504: "- 504001",
        599: "-",
        200: "FailedOperation.InnerError FailedOperation.RpcFail InternalError - never_seen",
        None: "api_error -",
    },
    "QuotaExhaustedError": {
        402: "- 401006 401007 20097 401008 403004",
        200: "401007 20097 401008 403004 ResourcesSoldOut.ChargeStatusException "
        "ResourceUnavailable.InArrears ResourceUnavailable.NotExist",
        400: "401007 20097",
        403: "401007 20097 401008 403004",
        429: "401007 20097",
        401: "401008 403004",
    },
    "PermissionDeniedError": {
        403: "- 403001 403002 403003 403005 403006",
        200: "UnauthorizedOperation",
    },
    "APITimeoutError": {408: "-"},
    "ContentBlockedError": {
        451: "- 451001",
        200: "FailedOperation.ModerationFailed FailedOperation.ModerationAudioFailed "
        "FailedOperation.GenerateImageFailed OperationDenied.ImageIllegalDetected "
        "OperationDenied.TextIllegalDetected",
    },
    "APIConnectionError": {499: "- 499001"},
    "ContextLengthError": {400: "400003"},
    "ResponseFormatError": {400: "400006"},
    "JobNotFoundError": {200: "FailedOperation.JobNotFound", 404: "FailedOperation.JobNotExist"},
}
"""Codes by status for each class; `-` is no code, None no status."""


@pytest.mark.parametrize("name", ERRORS)
def test_status_and_code_together_name_the_error(name):
    for status, codes in ERRORS[name].items():
        for code in codes.split():
            row = catalogue.error_row(status, None if code == "-" else code)
            assert row.name == name, (status, code)


def test_a_full_account_is_distinguished_from_a_fast_one():
    for code in ("RequestLimitExceeded", "RequestLimitExceeded.JobNumExceed"):
        assert catalogue.error_row(200, code).busy
    assert catalogue.error_row(200, "ResourceInsufficient").busy
    assert not catalogue.error_row(200, "429001").busy
    assert not catalogue.error_row(200, "InternalError").busy


def test_every_error_row_names_a_class_and_the_next_step_in_both_languages():
    from langchain_tokenhub.catalogue.tables import _table

    for key, row in _table().items():
        assert issubclass(getattr(errors, row.name), errors.TokenHubError), key
        assert len(row.hint) > 20, key
        assert any("一" <= sign <= "鿿" for sign in row.hint_zh), key


def test_no_code_stands_in_two_rows():
    from langchain_tokenhub.catalogue.tables import _names, rows

    names = [name for raw in rows("error_codes")["row"] for name in _names(raw)]
    assert len(names) == len(set(names))


def test_rows_are_values_that_travel():
    for row in (*catalogue.chat_models(), *catalogue.media_models(), *catalogue.fx_templates()):
        assert pickle.loads(pickle.dumps(row)) == row
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.id = "other"


def test_a_file_is_read_when_it_is_first_asked_for():
    import subprocess

    code = (
        "import langchain_tokenhub.catalogue as c\n"
        "from langchain_tokenhub.catalogue.tables import rows\n"
        "assert rows.cache_info().currsize == 0\n"
        "c.site_hosts('mainland'); c.site_hosts('overseas')\n"
        "assert rows.cache_info().currsize == 1\n"
        "import sys; assert 'langchain_core' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- embedding models ---------------------------------------------------------------------------


def test_an_embedding_model_is_found_in_any_case_and_says_where_it_is_known_from():
    for row in catalogue.embedding_models():
        assert catalogue.embedding_model(row.id.upper()) is row
        assert row.source
        assert row.dimensions > 0


def test_another_embedding_model_has_the_limits_of_all():
    other = catalogue.embedding_model("Ep-1")
    assert (other.id, other.dimensions, other.max_characters) == ("Ep-1", None, 2000)
