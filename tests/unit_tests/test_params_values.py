"""The values of the parameters that `media_facts.json` does not have, and what is sent of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

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
GOOD = [
    (LITE, "resolution", ["1024:1024", "4096:2304", "160:160", "225:258"]),
    (LITE, "seed", [0, 2**63]),
    (V3, "resolution", ["512:2048", "1024:1024", "512:512"]),
    (FX, "extra_param", [{"callback_url": LINK}]),
    (HY, "logo_param", [{"logo_url": LINK, "logo_rect": {"x": -10, "y": 0, "width": 20}}]),
]
BAD = [
    (LITE, "prompt", ["   "]),
    (LITE, "resolution", ["1023:1023", "4097:4097", "0:1024", "1024x1024", "1024", 1024]),
    (LITE, "seed", [-1, "seven"]),
    (V3, "resolution", ["511:1024", "512:2049", "1024:1025"]),
    (V3, "seed", [float("nan"), float("inf")]),
    (V3, "images", [7, [""]]),
    (HY, "image", [True, "", b"", {}]),
    (YT, "fps", ["30"]),
    (FX, "extra_param", [{"callback_url": ""}, "x"]),
    (ACTOR, "image_base64", ["not base64!", b"abc"]),
    (P30, "multi_view_images", ["left", ["left"]]),
    (P30, "result_format", ["GLB", "OBJ", "MP4"]),
    (P31, "result_format", ["GLB", "OBJ", "MP4"]),
    (P31, "generate_type", ["LowPoly", "Sketch"]),
    *((m, "logo_add", ["1", True]) for m in MODELS[:6]),
    *((m, "logo_param", ["logo", {"logo": 1}]) for m in MODELS[:6]),
    *((m, "logo_param", [{"logo_rect": {"width": 0}}]) for m in MODELS[:6]),
    *((m, "logo_param", [{"logo_rect": {"x": "left"}}]) for m in MODELS[:6]),
]


def sent(model, **given):
    return encode_params(params_class(model)(**ENOUGH[model] | given))


def refusal(model, **given):
    with pytest.raises(ValidationError) as caught:
        params_class(model)(**given)
    return explain(caught.value, model=model)


def test_a_value_within_its_limits_is_sent_unchanged():
    for model, name, values in GOOD:
        assert [sent(model, **{name: value})[name] for value in values] == values


def test_a_value_beyond_its_limits_is_refused_by_name():
    for model, name, values in BAD:
        for value in values:
            assert refusal(model, **ENOUGH[model] | {name: value}).startswith(name)


def test_the_required_parameters_are_enough_and_each_is_missed_by_name():
    for model, given in ENOUGH.items():
        assert sent(model).items() >= given.items()
        for name in given:
            assert name in refusal(model, **{key: given[key] for key in given if key != name})


def test_an_unknown_keyword_is_refused_by_name():
    for model, given in ENOUGH.items():
        expected = f"duration: not a parameter of {model}"
        assert refusal(model, **given, duration=5).startswith(expected)


def test_none_is_not_sent():
    for model, given in ENOUGH.items():
        empty = dict.fromkeys(params_class(model).model_fields)
        assert set(sent(model, **empty | given)) - set(given) <= {"rsp_img_type"}


def test_lite_requests_a_link_by_default():
    assert sent(LITE)["rsp_img_type"] == "url"
    assert sent(LITE, rsp_img_type="base64")["rsp_img_type"] == "base64"


def test_a_word_is_sent_in_the_services_spelling():
    for spelling in ("low_poly", "lowpoly", "LowPoly", "LOW-POLY", "low poly"):
        assert sent(P30, generate_type=spelling)["generate_type"] == "LowPoly"
    for spelling in ("stl", "Stl", "STL"):
        assert sent(P30, result_format=spelling)["result_format"] == "STL"


def test_a_prompt_is_trimmed_before_it_is_counted():
    assert sent(HY, prompt=f"  {'猫' * 200}\n")["prompt"] == "猫" * 200


def test_a_text_that_is_too_long_is_refused_with_its_length_and_the_limit():
    for model, most in ((HY, 200), (LITE, 1024), (ACTOR, 5000)):
        assert f"{most + 1} characters, at most {most}" in refusal(model, prompt="🐱" * (most + 1))


def test_a_split_surrogate_becomes_its_character_and_a_lone_one_can_be_sent():
    prompt = sent(HY, prompt="\ud83d\ude00 \ud83d")["prompt"]
    assert prompt == "\U0001f600 \ufffd"
    prompt.encode()


class Earlier(BaseModel):
    url: str


@pytest.mark.parametrize(
    "file",
    [
        *(LINK, "data:image/png;base64,AAAA", "143", Path("a.png"), b"png", {"url": LINK}),
        *(object(), Earlier(url=LINK)),
    ],
    ids=["link", "data", "job id", "path", "bytes", "dict", "object", "model"],
)
def test_a_file_value_is_unchanged(file):
    assert sent(HY, image=file)["image"] is file
    assert sent(V3, images=[file])["images"][0] is file
    assert sent(P30, image_url=file)["image_url"] is file


def test_one_file_is_a_list_of_one_and_no_files_are_not_sent():
    assert sent(V3, images=LINK)["images"] == [LINK]
    assert "images" not in sent(V3, images=[])


def test_the_head_of_a_data_url_is_not_base64():
    params = params_class(P30)(image_base64="data:image/png;base64,iVBO Rw0K\n")
    assert encode_params(params)["image_base64"] == "iVBORw0K"


def test_base64_beyond_its_size_is_refused_in_megabytes():
    too_large = refusal(P30, image_base64="A" * int(8.1 * 1024 * 1024))
    assert "8.1 MB of base64, at most 8 MB" in too_large


@pytest.mark.parametrize("name", ["logo_param", "extra_param"])
def test_an_empty_object_is_not_sent(name):
    assert sent(FX, **{name: {}}) == ENOUGH[FX]


def test_validated_parts_validate_again():
    views = [{"view_type": "left", "view_image_url": LINK}]
    once = params_class(P30)(image_url=LINK, multi_view_images=views)
    assert sent(P30, multi_view_images=once.multi_view_images)["multi_view_images"] == views


def test_a_job_id_alone_is_enough():
    for model in MODELS[1:]:
        params = schema_class(model, "zh").model_validate({"job_id": " 1437 "})
        assert params.job_id == "1437"
        assert encode_params(params) == {}
        assert params.model_dump(exclude_none=True) == {"job_id": "1437"}


def test_with_a_job_id_no_other_value_counts_but_every_name_must_be_known():
    for model in MODELS[1:]:
        cls = params_class(model)
        wrong = dict.fromkeys(set(cls.model_fields) - {"job_id"}, -1)
        assert encode_params(cls(job_id="1437", **wrong)) == {}
        assert "duration" in refusal(model, job_id="1437", duration=5)


def test_a_job_id_of_nineteen_digits_may_come_as_a_number():
    assert params_class(HY)(job_id=1384215629310935041).job_id == "1384215629310935041"


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_blank_job_id_is_none(blank):
    assert params_class(HY)(prompt="猫", job_id=blank).job_id is None
    with pytest.raises(ValidationError, match="prompt" if blank is None else "it is empty"):
        params_class(HY)(job_id=blank)


def test_a_job_id_of_another_type_is_refused():
    for wrong in (True, ["1"], 1.5):
        assert "a job ID is needed" in refusal(HY, prompt="猫", job_id=wrong)


def test_lite_has_no_job_id():
    assert "job_id" in refusal(LITE, prompt="猫", job_id="1")


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
