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


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("mainland", ("https://tokenhub.tencentmaas.com", "https://tokenhub.tencentmaas.cn")),
        (
            "overseas",
            ("https://tokenhub-intl.tencentmaas.com", "https://tokenhub-intl.tencentmaas.cn"),
        ),
        (
            "international",
            (
                "https://tokenhub-intl.tencentcloudmaas.com",
                "https://tokenhub-intl.tencentcloudmaas.tech",
            ),
        ),
        (
            "international-guangzhou",
            ("https://tokenhub.tencentcloudmaas.com", "https://tokenhub.tencentcloudmaas.tech"),
        ),
    ],
)
def test_a_site_is_its_default_host_and_its_backup(name, hosts):
    assert catalogue.site_hosts(name) == hosts
    assert name in catalogue.SITE_NAMES


def test_an_unknown_site_is_refused_with_the_names_of_the_known():
    with pytest.raises(ValueError, match=r"'moon'.*mainland, overseas, international") as caught:
        catalogue.site_hosts("moon")
    assert "international-guangzhou" in str(caught.value)


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


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("kimi-k3", "thinking_field", False),
        ("kimi-k2.8-preview", "thinking_field", False),
        ("glm-5", "thinking_field", True),
        ("minimax-m3", "thinking_on", "adaptive"),
        ("hy3", "thinking_on", "enabled"),
        ("kimi-k2.5", "echo_reasoning", "always"),
        ("kimi-k2.5", "reasoning_filler", " "),
        ("deepseek-v4-pro", "echo_reasoning", "tool_calls"),
        ("deepseek-v4-pro", "reasoning_filler", " "),
        ("hy-mt2-pro", "echo_reasoning", "never"),
        ("deepseek-v4-flash", "forced_tools_while_thinking", False),
        ("deepseek-v3.2", "forced_tools_while_thinking", False),
        ("qwen3.5-plus", "forced_tools_while_thinking", False),
        ("hy3-preview", "forced_tools_while_thinking", False),
        ("glm-5.3", "forced_tools_while_thinking", False),
        ("hy3", "forced_tools_while_thinking", True),
        ("hy3", "structured_method", "json_schema"),
        ("hy3", "json_schema", True),
        ("deepseek-v3.2", "structured_method", "function_calling"),
        ("deepseek-v3.2", "json_schema", False),
        ("deepseek-r1-0528", "structured_method", "json_mode"),
        ("glm-5.1", "structured_method", "function_calling"),
        ("minimax-m2.7", "structured_method", "function_calling"),
        ("kimi-k3", "structured_method", "json_schema"),
        ("kimi-k3", "max_tokens_field", "max_completion_tokens"),
        ("kimi-k2.6", "sampling", False),
        ("kimi-k2.6", "video", True),
        ("kimi-k2.5", "video", False),
        ("hy3", "price_cny_per_m", (1, 4)),
        ("minimax-m2.7", "price_usd_per_m", (0.3, 1.2)),
        (
            "glm-5.2",
            "reasoning_effort",
            ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        ),
    ],
)
def test_a_familys_rule_reaches_its_rows_and_a_row_may_differ(model, field, value):
    assert getattr(catalogue.chat_model(model), field) == value


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


@pytest.mark.parametrize(
    ("model", "lives", "runs", "tool"),
    [
        ("hy-image-lite", ("image", 3600), (1, None), "tokenhub_image_lite"),
        ("hy-image-v3.0", ("image", 3600), (1, 12), "tokenhub_image"),
        ("hy-video-1.5", ("video", 86400), (5, 90), "tokenhub_video"),
        ("yt-video-2.0", ("video", 86400), (5, 90), "tokenhub_video_image"),
        ("yt-video-fx", ("video", 86400), (5, 90), "tokenhub_video_fx"),
        ("yt-video-humanactor", ("video", 86400), (5, 90), "tokenhub_video_human"),
        ("hy-3d-3.0", ("3d", 86400), (3, 180), "tokenhub_3d"),
        ("hy-3d-3.1", ("3d", 86400), (3, 180), "tokenhub_3d"),
        ("hy-3d-express", ("3d", 86400), (1, 60), "tokenhub_3d_express"),
    ],
)
def test_a_media_row_says_how_its_jobs_live(model, lives, runs, tool):
    row = catalogue.media_model(model)
    assert ((row.kind, row.link_life), row.job_life) == (lives, 86400)
    assert ((row.max_in_flight, row.typical_seconds), row.tool_name) == (runs, tool)


@pytest.mark.parametrize(
    ("model", "submit", "query", "wait"),
    [
        ("hy-image-lite", "/v1/api/image/lite", None, 300),
        ("hy-image-v3.0", "/v1/api/image/submit", "/v1/api/image/query", 300),
        ("yt-video-fx", "/v1/api/video/submit", "/v1/api/video/query", 1800),
        ("hy-3d-3.1", "/v1/api/3d/submit", "/v1/api/3d/query", 1200),
        ("hy-3d-express", "/v1/api/3d/submit", "/v1/api/3d/query", 300),
    ],
)
def test_a_media_row_says_where_and_how_long(model, submit, query, wait):
    row = catalogue.media_model(model)
    assert (row.submit_path, row.query_path, row.wait_timeout) == (submit, query, wait)


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


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        # the guide's table
        (400, "invalid_request_error", "InvalidRequestError"),
        (401, "authentication_error", "AuthenticationError"),
        (403, "model_not_available", "ModelNotAvailableError"),
        (429, "rate_limit_exceeded", "RateLimitError"),
        (500, "engine_server_error", "ServerError"),
        (503, "service_unavailable", "ServerError"),
        # a status alone
        (400, None, "InvalidRequestError"),
        (401, None, "AuthenticationError"),
        (402, None, "QuotaExhaustedError"),
        (403, None, "PermissionDeniedError"),
        (404, None, "ModelNotAvailableError"),
        (408, None, "APITimeoutError"),
        (413, None, "InvalidRequestError"),
        (418, None, "InvalidRequestError"),
        (429, None, "RateLimitError"),
        (451, None, "ContentBlockedError"),
        (499, None, "APIConnectionError"),
        (500, None, "ServerError"),
        (502, None, "ServerError"),
        (503, None, "ServerError"),
        (504, None, "ServerError"),
        (599, None, "ServerError"),
        # six digits
        (400, "400001", "InvalidRequestError"),
        (400, "400002", "InvalidRequestError"),
        (400, "400003", "ContextLengthError"),
        (400, "400004", "ModelNotAvailableError"),
        (400, "400005", "InvalidRequestError"),
        (400, "400006", "ResponseFormatError"),
        (400, "401006", "ModelNotAvailableError"),
        (402, "401006", "QuotaExhaustedError"),
        *((401, f"40100{n}", "AuthenticationError") for n in range(1, 6)),
        *((403, f"40300{n}", "PermissionDeniedError") for n in (1, 2, 3, 5, 6)),
        *((429, f"42900{n}", "RateLimitError") for n in range(1, 7)),
        (410, "410001", "InvalidRequestError"),
        (413, "413001", "InvalidRequestError"),
        (451, "451001", "ContentBlockedError"),
        (499, "499001", "APIConnectionError"),
        (500, "500001", "ServerError"),
        (502, "502001", "ServerError"),
        (503, "503001", "ServerError"),
        (504, "504001", "ServerError"),
        # quota at any status
        *(
            (s, c, "QuotaExhaustedError")
            for s in (200, 400, 402, 403, 429)
            for c in ("401007", "20097")
        ),
        *(
            (s, c, "QuotaExhaustedError")
            for s in (200, 401, 402, 403)
            for c in ("401008", "403004")
        ),
        # not there, at any status and whatever else is said
        (403, "400004", "ModelNotAvailableError"),
        (404, "invalid_request_error", "ModelNotAvailableError"),
        # upstream words inside a 200
        (200, "RequestLimitExceeded", "RateLimitError"),
        (200, "RequestLimitExceeded.JobNumExceed", "RateLimitError"),
        (200, "ResourceInsufficient", "RateLimitError"),
        (200, "FailedOperation.ModerationFailed", "ContentBlockedError"),
        (200, "FailedOperation.ModerationAudioFailed", "ContentBlockedError"),
        (200, "FailedOperation.GenerateImageFailed", "ContentBlockedError"),
        (200, "OperationDenied.ImageIllegalDetected", "ContentBlockedError"),
        (200, "OperationDenied.TextIllegalDetected", "ContentBlockedError"),
        (200, "InvalidParameter", "InvalidRequestError"),
        (200, "InvalidParameter.InvalidParameter", "InvalidRequestError"),
        (200, "InvalidParameterValue.NoFaceInPhoto", "InvalidRequestError"),
        (200, "InvalidParameterValue.SomethingNew", "InvalidRequestError"),
        (200, "MissingParameter", "InvalidRequestError"),
        (200, "FailedOperation.ImageDecodeFailed", "InvalidRequestError"),
        (200, "FailedOperation.ImageDownloadError", "InvalidRequestError"),
        (200, "FailedOperation.RequestEntityTooLarge", "InvalidRequestError"),
        (200, "FailedOperation.InnerError", "ServerError"),
        (200, "FailedOperation.RpcFail", "ServerError"),
        (200, "InternalError", "ServerError"),
        (200, "FailedOperation.JobNotFound", "JobNotFoundError"),
        (404, "FailedOperation.JobNotExist", "JobNotFoundError"),
        (200, "ResourcesSoldOut.ChargeStatusException", "QuotaExhaustedError"),
        (200, "ResourceUnavailable.InArrears", "QuotaExhaustedError"),
        (200, "ResourceUnavailable.NotExist", "QuotaExhaustedError"),
        (200, "AuthFailure.SignatureFailure", "AuthenticationError"),
        (200, "UnauthorizedOperation", "PermissionDeniedError"),
        # words that say little
        (200, "invalid_request_error", "InvalidRequestError"),
        (None, "api_error", "ServerError"),
        (400, "api_error", "InvalidRequestError"),
        (None, "429001", "RateLimitError"),
        (None, None, "ServerError"),
        (200, None, "ServerError"),
        (200, "never seen", "ServerError"),
        (400, "never.seen", "InvalidRequestError"),
    ],
)
def test_status_and_code_together_name_the_error(status, code, name):
    assert catalogue.error_row(status, code).name == name


@pytest.mark.parametrize(
    ("code", "busy"),
    [
        ("RequestLimitExceeded", True),
        ("RequestLimitExceeded.JobNumExceed", True),
        ("ResourceInsufficient", True),
        ("429001", False),
        ("InternalError", False),
    ],
)
def test_a_full_account_is_told_from_a_fast_one(code, busy):
    assert catalogue.error_row(200, code).busy is busy


def test_every_error_row_names_a_class_and_the_next_step_in_both_languages():
    from langchain_tokenhub.catalogue.service import _table

    for key, row in _table().items():
        assert issubclass(getattr(errors, row.name), errors.TokenHubError), key
        assert len(row.hint) > 20, key
        assert any("一" <= sign <= "鿿" for sign in row.hint_zh), key


def test_no_code_stands_in_two_rows():
    from langchain_tokenhub.catalogue.service import _names
    from langchain_tokenhub.catalogue.toml import rows

    names = [name for raw in rows("error_codes")["row"] for name in _names(raw)]
    assert len(names) == len(set(names))


def test_a_wrong_key_is_told_about_sites():
    assert "site=" in catalogue.error_row(401, "401002").hint


def test_rows_are_values_that_travel():
    for row in (*catalogue.chat_models(), *catalogue.media_models(), *catalogue.fx_templates()):
        assert pickle.loads(pickle.dumps(row)) == row
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.id = "other"


def test_a_file_is_read_when_it_is_first_asked_for():
    import subprocess

    code = (
        "import langchain_tokenhub.catalogue as c\n"
        "from langchain_tokenhub.catalogue.toml import rows\n"
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
