"""What a failed validation says, and what it keeps to itself."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from langchain_tokenhub.params import explain, params_class, short_repr, strip_query

SIGNED = "https://bucket.cos.example.com/a/b.png?q-signature=SECRET"


def failure(model, **params):
    with pytest.raises(ValidationError) as caught:
        params_class(model)(**params)
    return caught.value


VIDEO, IMAGE, LITE = "hy-video-1.5", "hy-image-v3.0", "hy-image-lite"
SENTENCES = [
    (VIDEO, {"prompt": "猫" * 203}, "prompt: 203 characters, at most 200 ({}); shorten it"),
    (VIDEO, {}, "prompt: missing ({}); it is required"),
    (
        VIDEO,
        {"promt": "猫"},
        "promt: not a parameter of {}; did you mean prompt? If not, pass it in extra=",
    ),
    (
        IMAGE,
        {"prompt": "猫", "logo_param": {"logo_ulr": "https://a"}},
        (
            "logo_param: logo_ulr: not a parameter of {}; did you mean logo_url? If not, pass it "
            "in extra="
        ),
    ),
    (
        VIDEO,
        {"prompt": "猫", "duration": 5},
        "duration: not a parameter of {}; check its name, or pass it in extra=",
    ),
    (
        IMAGE,
        {"prompt": "猫", "resolution": "1280:1024"},
        (
            "resolution: 1280:1024: 1310720 pixels, at most 1048576 ({}); choose another, such as "
            "1024:1024"
        ),
    ),
    (
        LITE,
        {"prompt": "猫", "logo_add": True},
        "logo_add: True, 0 or 1 is needed ({}); choose one of them",
    ),
    (
        "hy-3d-3.0",
        {"prompt": "猫", "face_count": 100},
        "face_count: 100, an integer from 3000 to 1500000 is needed ({}); change it",
    ),
    (
        "yt-video-2.0",
        {"image": 7},
        "image: int is not a file ({}); give a link, a path, bytes, an image or an earlier result",
    ),
]


def test_a_sentence_names_field_value_limit_and_next_step():
    for model, params, sentence in SENTENCES:
        assert explain(failure(model, **params), model=model) == sentence.format(model)


def test_each_problem_has_a_line():
    text = explain(failure("hy-image-lite", seed=-1, logo_add=3), model="hy-image-lite")
    assert [line.split(":")[0] for line in text.splitlines()] == ["prompt", "seed", "logo_add"]


def test_a_prompt_is_not_in_an_error():
    for model in (LITE, VIDEO, "hy-3d-3.0", "yt-video-humanactor"):
        for prompt in ("秘密" * 3000, ["秘密"], {"text": "秘密"}):
            error = failure(model, prompt=prompt)
            assert "秘密" not in explain(error, model=model) + str(error) + repr(error)


def test_a_good_prompt_does_not_appear_beside_anothers_error():
    error = failure("hy-3d-3.0", prompt="秘密", image_url=SIGNED)
    text = explain(error, model="hy-3d-3.0") + str(error) + repr(error)
    assert "秘密" not in text
    assert "SECRET" not in text


def test_a_link_is_cut_to_host_and_path():
    error = failure("hy-video-1.5", prompt="猫", resolution=SIGNED)
    text = explain(error, model="hy-video-1.5") + str(error)
    assert "https://bucket.cos.example.com/a/b.png" in text
    assert "SECRET" not in text


def test_a_repr_names_the_fields_and_keeps_their_values():
    params = params_class("yt-video-2.0")(
        prompt="秘密", image=SIGNED, logo_param={"logo_url": SIGNED}
    )
    assert repr(params) == "YtVideo2('prompt', 'image', 'logo_param')"
    assert "SECRET" not in repr(params.logo_param)


def test_the_query_and_the_password_of_a_link_are_cut():
    for text, cut in {
        f"see {SIGNED}, then": "see https://bucket.cos.example.com/a/b.png then",
        "https://me:pass@host.cn/a#b": "https://host.cn/a",
        "http://[broken?x=1": "http://[broken",
        "no link": "no link",
    }.items():
        assert strip_query(text) == cut


def test_a_value_is_shown_short():
    shown = [short_repr(value) for value in (5, True, b"secret", "x" * 100)]
    assert shown == ["5", "True", "bytes", f"'{'x' * 57}...'"]


def test_what_is_not_a_mapping_is_refused_without_its_text():
    with pytest.raises(ValidationError) as caught:
        params_class("hy-video-1.5").model_validate("秘密")
    assert "秘密" not in explain(caught.value, model="hy-video-1.5") + str(caught.value)
