"""Every parameter of every model: least, most, one beyond, wrong type."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from langchain_tokenhub.params import encode_params, explain, params_class, schema_class

LINK = "https://example.com/a.png"
# what makes each model's parameters complete
ENOUGH = {
    "hy-image-lite": {"prompt": "一只猫"},
    "hy-image-v3.0": {"prompt": "一只猫"},
    "hy-video-1.5": {"prompt": "一只猫"},
    "yt-video-2.0": {"image": LINK},
    "yt-video-fx": {"template": "brandnew", "images": [LINK]},
    "yt-video-humanactor": {"prompt": "说话", "audio_url": LINK, "image_url": LINK},
    "hy-3d-3.0": {"image_url": LINK},
    "hy-3d-3.1": {"image_url": LINK},
    "hy-3d-express": {"image_url": LINK},
}
MODELS = list(ENOUGH)
LITE, V3, HY, YT, FX, ACTOR, P30, P31, EXPRESS = MODELS
THREE_D = (P30, P31, EXPRESS)
WITH_LOGO = (LITE, V3, HY, YT, FX, ACTOR)

GOOD = [
    (LITE, "prompt", "猫"),
    (LITE, "prompt", "猫" * 1024),
    (LITE, "negative_prompt", "x" * 1024),
    (LITE, "resolution", "1024:1024"),
    (LITE, "resolution", "4096:2304"),
    (LITE, "resolution", "160:160"),
    (LITE, "resolution", "225:258"),
    (LITE, "seed", 0),
    (LITE, "seed", 2**63),
    (LITE, "rsp_img_type", "url"),
    (LITE, "rsp_img_type", "base64"),
    (V3, "prompt", "猫" * 8192),
    (V3, "images", [LINK] * 3),
    (V3, "resolution", "512:2048"),
    (V3, "resolution", "1024:1024"),
    (V3, "resolution", "512:512"),
    (V3, "revise", 0),
    (V3, "revise", 1),
    (HY, "prompt", "猫" * 200),
    (HY, "image", LINK),
    (HY, "resolution", "720p"),
    (YT, "prompt", "猫" * 200),
    *((YT, "resolution", word) for word in ("480p", "720p", "1080p")),
    *((YT, "fps", number) for number in (16, 24, 30)),
    (FX, "template", "x"),
    (FX, "images", [LINK] * 10),
    *((FX, "resolution", word) for word in ("360p", "540p", "720p")),
    *((FX, "bgm", flag) for flag in (True, False)),
    (FX, "extra_param", {"callback_url": LINK}),
    (ACTOR, "prompt", "说" * 5000),
    (ACTOR, "audio_url", "https://example.com/a.mp3"),
    *((ACTOR, "resolution", word) for word in ("720p", "1080p")),
    *((ACTOR, "frame_rate", number) for number in (25, 50)),
    *((model, "logo_add", number) for model in WITH_LOGO for number in (0, 1)),
    *((model, "face_count", number) for model in (P30, P31) for number in (3000, 1_500_000)),
    *((model, "result_format", word) for model in (P30, P31) for word in ("STL", "USDZ", "FBX")),
    *((EXPRESS, "result_format", w) for w in ("OBJ", "GLB", "STL", "USDZ", "FBX", "MP4")),
    *((model, "enable_pbr", flag) for model in THREE_D for flag in (True, False)),
    *((EXPRESS, "enable_geometry", flag) for flag in (True, False)),
    *((P30, "generate_type", word) for word in ("Normal", "LowPoly", "Geometry", "Sketch")),
    *((P31, "generate_type", word) for word in ("Normal", "Geometry")),
]

BAD = [
    # one beyond
    (LITE, "prompt", ""),
    (LITE, "prompt", "   "),
    (LITE, "prompt", "猫" * 1025),
    (LITE, "negative_prompt", "x" * 1025),
    (LITE, "resolution", "1023:1023"),
    (LITE, "resolution", "4097:4097"),
    (LITE, "resolution", "0:1024"),
    (LITE, "resolution", "1024x1024"),
    (LITE, "resolution", "1024"),
    (LITE, "seed", -1),
    (LITE, "rsp_img_type", "file"),
    (V3, "prompt", "猫" * 8193),
    (V3, "images", [LINK] * 4),
    (V3, "resolution", "511:1024"),
    (V3, "resolution", "512:2049"),
    (V3, "resolution", "1024:1025"),
    (V3, "seed", 0),
    (V3, "seed", 4_294_967_296),
    (V3, "revise", 2),
    (HY, "prompt", "猫" * 201),
    (HY, "resolution", "1080p"),
    (YT, "prompt", "猫" * 201),
    (YT, "resolution", "360p"),
    (YT, "fps", 25),
    (FX, "template", ""),
    (FX, "images", []),
    (FX, "images", [LINK] * 11),
    (FX, "resolution", "1080p"),
    (FX, "extra_param", {"callback_url": ""}),
    (ACTOR, "prompt", "说" * 5001),
    (ACTOR, "resolution", "480p"),
    (ACTOR, "frame_rate", 30),
    *((model, "logo_add", value) for model in WITH_LOGO for value in (2, -1, True, False, "1")),
    *((model, "face_count", value) for model in (P30, P31) for value in (2999, 1_500_001)),
    *((m, "result_format", word) for m in (P30, P31) for word in ("GLB", "OBJ", "MP4", "step")),
    (EXPRESS, "result_format", "step"),
    (P30, "generate_type", "HighPoly"),
    (P31, "generate_type", "LowPoly"),
    (P31, "generate_type", "Sketch"),
    *((model, "prompt", "字" * 1025) for model in THREE_D),
    # wrong type
    *((model, "prompt", value) for model in (LITE, V3, HY, YT, ACTOR) for value in (5, ["猫"])),
    (LITE, "resolution", 1024),
    (LITE, "seed", "seven"),
    (LITE, "seed", True),
    (V3, "seed", 1.5),
    (V3, "seed", float("nan")),
    (V3, "seed", float("inf")),
    (V3, "images", 7),
    (V3, "images", [7]),
    (V3, "images", [None]),
    (V3, "images", [""]),
    (HY, "image", 7),
    (HY, "image", True),
    (HY, "image", [LINK]),
    (HY, "image", ""),
    (HY, "image", b""),
    (HY, "image", {}),
    (HY, "resolution", 720),
    (YT, "fps", "30"),
    (FX, "template", 3),
    (FX, "bgm", 1),
    (FX, "bgm", "true"),
    (FX, "extra_param", "x"),
    (ACTOR, "audio_url", 5),
    (ACTOR, "image_base64", "not base64!"),
    (ACTOR, "image_base64", b"abc"),
    (P30, "face_count", "many"),
    (P30, "enable_pbr", 1),
    (P30, "multi_view_images", "left"),
    (P30, "multi_view_images", ["left"]),
    *((model, "logo_param", "logo") for model in WITH_LOGO),
    *((model, "logo_param", {"logo": 1}) for model in WITH_LOGO),
    *((model, "logo_param", {"logo_rect": {"width": 0}}) for model in WITH_LOGO),
    *((model, "logo_param", {"logo_rect": {"x": "left"}}) for model in WITH_LOGO),
]


def short(value):
    """Name a case without printing a prompt of thousands of characters."""
    text = repr(value)
    return text if len(text) < 30 else f"{text[:20]} and {len(text) - 20} more"


@pytest.mark.parametrize("model", MODELS)
def test_the_required_parameters_are_enough(model):
    assert encode_params(params_class(model)(**ENOUGH[model])).items() >= ENOUGH[model].items()


@pytest.mark.parametrize(("model", "name", "value"), GOOD, ids=short)
def test_a_value_within_its_limits_goes_out_as_it_is(model, name, value):
    params = params_class(model)(**ENOUGH[model] | {name: value})
    assert encode_params(params)[name] == value
    assert type(encode_params(params)[name]) is type(value)


@pytest.mark.parametrize(("model", "name", "value"), BAD, ids=short)
def test_a_value_beyond_its_limits_is_refused_by_name(model, name, value):
    with pytest.raises(ValidationError) as caught:
        params_class(model)(**ENOUGH[model] | {name: value})
    assert explain(caught.value, model=model).startswith(name)


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model, given in ENOUGH.items() for name in given]
)
def test_a_missing_parameter_is_refused_by_name(model, name):
    given = {key: value for key, value in ENOUGH[model].items() if key != name}
    with pytest.raises(ValidationError) as caught:
        params_class(model)(**given)
    assert name in explain(caught.value, model=model)


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_keyword_is_refused_by_name(model):
    with pytest.raises(ValidationError) as caught:
        params_class(model)(**ENOUGH[model], duration=5)
    assert explain(caught.value, model=model).startswith(f"duration: not a parameter of {model}")


@pytest.mark.parametrize("model", MODELS)
def test_none_is_not_sent(model):
    cls = params_class(model)
    given = dict.fromkeys(cls.model_fields) | ENOUGH[model]
    assert set(encode_params(cls(**given))) - set(ENOUGH[model]) <= {"rsp_img_type"}


def test_lite_asks_for_a_link_unless_told_otherwise():
    assert encode_params(params_class(LITE)(prompt="猫"))["rsp_img_type"] == "url"
    assert (
        encode_params(params_class(LITE)(prompt="猫", rsp_img_type="base64"))["rsp_img_type"]
        == "base64"
    )


@pytest.mark.parametrize("spelling", ["low_poly", "lowpoly", "LowPoly", "LOW-POLY", "low poly"])
def test_generate_type_is_sent_in_pascal_case_however_it_is_spelt(spelling):
    params = params_class(P30)(image_url=LINK, generate_type=spelling)
    assert encode_params(params)["generate_type"] == "LowPoly"


@pytest.mark.parametrize("spelling", ["stl", "Stl", "STL"])
def test_result_format_is_sent_in_capitals(spelling):
    params = params_class(P30)(image_url=LINK, result_format=spelling)
    assert encode_params(params)["result_format"] == "STL"


@pytest.mark.parametrize(("model", "most"), [(HY, 200), (LITE, 1024), (ACTOR, 5000)])
def test_an_emoji_is_one_character(model, most):
    params = params_class(model)(**ENOUGH[model] | {"prompt": "🐱" * most})
    assert len(encode_params(params)["prompt"]) == most
    with pytest.raises(ValidationError, match=f"{most + 1} characters, at most {most}"):
        params_class(model)(**ENOUGH[model] | {"prompt": "🐱" * (most + 1)})


def test_a_prompt_is_trimmed_before_it_is_counted():
    assert encode_params(params_class(HY)(prompt=f"  {'猫' * 200}\n"))["prompt"] == "猫" * 200


def test_a_split_surrogate_becomes_its_character_and_a_lone_one_can_be_sent():
    prompt = encode_params(params_class(HY)(prompt="\ud83d\ude00 \ud83d"))["prompt"]
    assert prompt == "\U0001f600 \ufffd"
    prompt.encode()


@pytest.mark.parametrize(
    "file",
    [LINK, "data:image/png;base64,AAAA", "143", Path("a.png"), b"png", {"url": LINK}, object()],
    ids=["link", "data", "job id", "path", "bytes", "dict", "object"],
)
def test_a_file_value_passes_untouched(file):
    assert encode_params(params_class(HY)(prompt="猫", image=file))["image"] is file
    assert encode_params(params_class(V3)(prompt="猫", images=[file]))["images"][0] is file
    assert encode_params(params_class(P30)(image_url=file))["image_url"] is file


def test_a_file_that_is_a_model_of_its_own_passes_untouched():
    from pydantic import BaseModel

    class Earlier(BaseModel):
        url: str

    earlier = Earlier(url=LINK)
    assert encode_params(params_class(YT)(image=earlier))["image"] is earlier


def test_a_lone_file_is_a_list_of_one_and_no_files_are_nothing():
    assert encode_params(params_class(V3)(prompt="猫", images=LINK))["images"] == [LINK]
    assert "images" not in encode_params(params_class(V3)(prompt="猫", images=[]))


def test_the_head_of_a_data_url_is_no_base64():
    params = params_class(P30)(image_base64="data:image/png;base64,iVBO Rw0K\n")
    assert encode_params(params)["image_base64"] == "iVBORw0K"


def test_base64_beyond_its_size_is_refused_in_megabytes():
    with pytest.raises(ValidationError, match=r"8\.1 MB of base64, at most 8 MB"):
        params_class(P30)(image_base64="A" * int(8.1 * 1024 * 1024))


def test_a_mark_goes_out_without_what_was_not_given():
    logo = {"logo_url": LINK, "logo_rect": {"x": -10, "y": 0, "width": 20, "height": 20}}
    assert encode_params(params_class(HY)(prompt="猫", logo_param=logo))["logo_param"] == logo


@pytest.mark.parametrize("name", ["logo_param", "extra_param"])
def test_an_empty_object_is_not_sent(name):
    assert encode_params(params_class(FX)(**ENOUGH[FX], **{name: {}})) == ENOUGH[FX]


def test_validated_parts_validate_again():
    cls = params_class(P30)
    views = [{"view_type": "left", "view_image_url": LINK}]
    once = cls(image_url=LINK, multi_view_images=views)
    again = cls(image_url=LINK, multi_view_images=once.multi_view_images)
    assert encode_params(again)["multi_view_images"] == views


@pytest.mark.parametrize("model", MODELS[1:])
def test_a_job_id_alone_is_enough(model):
    params = schema_class(model, "zh").model_validate({"job_id": " 1437 "})
    assert params.job_id == "1437"
    assert encode_params(params) == {}
    assert params.model_dump(exclude_none=True) == {"job_id": "1437"}


@pytest.mark.parametrize("model", MODELS[1:])
def test_with_a_job_id_nothing_else_counts_but_every_name_is_known(model):
    cls = params_class(model)
    wrong = dict.fromkeys(set(cls.model_fields) - {"job_id"}, -1)
    assert encode_params(cls(job_id="1437", **wrong)) == {}
    with pytest.raises(ValidationError, match="duration"):
        cls(job_id="1437", duration=5)


def test_a_job_id_of_nineteen_digits_may_come_as_a_number():
    assert params_class(HY)(job_id=1384215629310935041).job_id == "1384215629310935041"


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_blank_job_id_is_none(blank):
    assert params_class(HY)(prompt="猫", job_id=blank).job_id is None
    with pytest.raises(ValidationError, match="prompt" if blank is None else "it is empty"):
        params_class(HY)(job_id=blank)


@pytest.mark.parametrize("wrong", [True, ["1"], 1.5])
def test_what_is_no_job_id_is_refused(wrong):
    with pytest.raises(ValidationError, match="a job ID is needed"):
        params_class(HY)(prompt="猫", job_id=wrong)


def test_lite_knows_no_job_id():
    with pytest.raises(ValidationError, match="job_id"):
        params_class(LITE)(prompt="猫", job_id="1")


@pytest.mark.parametrize(
    ("kind", "given"),
    [("image", {"prompt": "猫"}), ("video", {}), ("3d", {"image_url": LINK})],
)
@pytest.mark.parametrize("model", ["ep-abcd1234", "brand-new-1"])
def test_an_unknown_model_takes_its_kinds_parameters_and_any_other(model, kind, given):
    params = params_class(model, kind)(**given, duration=5, logo=None)
    assert encode_params(params) == given | {"duration": 5}


def test_an_unknown_model_needs_its_kind():
    with pytest.raises(ValueError, match=r"ep-1.*image, video, 3d"):
        params_class("ep-1")


def test_a_model_is_found_in_any_letter_case():
    assert params_class("HY-Video-1.5") is params_class("hy-video-1.5")
