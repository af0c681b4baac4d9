"""What the parameters of a media model say about each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from langchain_tokenhub.params import encode_params, explain, params_class

LINK = "https://example.com/a.png"
PHOTO = "iVBORw0KGgo="
PRO = ["hy-3d-3.0", "hy-3d-3.1"]
THREE_D = [*PRO, "hy-3d-express"]
VIEWS = {
    "hy-3d-3.0": ["left", "right", "back"],
    "hy-3d-3.1": ["left", "right", "back", "top", "bottom", "left_front", "right_front"],
}


def refusal(model, **params):
    with pytest.raises(ValidationError) as caught:
        params_class(model)(**params)
    return explain(caught.value, model=model)


def view(name, **more):
    return {"view_type": name, "view_image_url": LINK} | more


def sent(model, **given):
    return encode_params(params_class(model)(**given))


PROMPT, URL, BASE64 = {"prompt": "猫"}, {"image_url": LINK}, {"image_base64": PHOTO}


@pytest.mark.parametrize("model", THREE_D)
def test_3d_takes_exactly_one_source(model):
    for given in (PROMPT, URL, BASE64):
        assert sent(model, **given) == given
    for given in ({}, PROMPT | URL, PROMPT | BASE64, URL | BASE64, PROMPT | URL | BASE64):
        refused = refusal(model, **given)
        assert f"prompt, image_url, image_base64: {len(given)} given, exactly one" in refused
        assert model in refused


def test_a_sketch_takes_an_image_a_text_or_both_and_no_two_images():
    sketch = {"generate_type": "Sketch"}
    for given in (PROMPT, URL, PROMPT | URL, PROMPT | BASE64):
        assert sent("hy-3d-3.0", **sketch, **given) == sketch | given
    assert "none given" in refusal("hy-3d-3.0", **sketch)
    assert "2 given, one is needed" in refusal("hy-3d-3.0", **sketch, **URL, **BASE64)


@pytest.mark.parametrize("model", PRO)
def test_every_view_of_a_model_is_accepted_once(model):
    views = [view(name) for name in VIEWS[model]]
    params = params_class(model)(image_url=LINK, multi_view_images=views)
    assert encode_params(params)["multi_view_images"] == views


@pytest.mark.parametrize("model", PRO)
def test_views_are_refused_twice_and_as_an_empty_list(model):
    twice = refusal(model, image_url=LINK, multi_view_images=[view("left"), view("left")])
    assert "multi_view_images: left, left, each view_type once" in twice
    assert "multi_view_images: empty" in refusal(model, image_url=LINK, multi_view_images=[])


@pytest.mark.parametrize("name", ["top", "bottom", "left_front", "right_front"])
def test_four_views_are_3_1_only(name):
    refused = refusal("hy-3d-3.0", image_url=LINK, multi_view_images=[view(name)])
    assert refused.startswith(
        f"multi_view_images.0.view_type: '{name}', one of left, right, back is needed"
    )


def test_a_view_of_3_1_is_refused_by_3_0():
    newer = params_class("hy-3d-3.1")(image_url=LINK, multi_view_images=[view("top")])
    assert refusal("hy-3d-3.0", image_url=LINK, multi_view_images=newer.multi_view_images)


def test_views_need_a_front_image_and_no_prompt():
    for model in PRO:
        refused = refusal(model, prompt="猫", multi_view_images=[view("left")])
        assert "multi_view_images needs a front image and no prompt" in refused
    sketch = {"generate_type": "Sketch", "prompt": "猫", "image_url": LINK}
    assert "no prompt" in refusal("hy-3d-3.0", **sketch, multi_view_images=[view("left")])


@pytest.mark.parametrize("model", PRO)
def test_a_view_needs_a_picture(model):
    refused = refusal(model, image_url=LINK, multi_view_images=[{"view_type": "left"}])
    assert "a view without an image" in refused
    params_class(model)(
        image_url=LINK, multi_view_images=[{"view_type": "left", "view_image_base64": PHOTO}]
    )


def test_polygon_type_needs_low_poly():
    low_poly = {"image_url": LINK, "generate_type": "LowPoly", "polygon_type": "triangle"}
    assert sent("hy-3d-3.0", **low_poly) == low_poly
    for kind in (None, "Normal", "Geometry", "Sketch"):
        refused = refusal("hy-3d-3.0", **low_poly | {"generate_type": kind})
        assert "polygon_type is only accepted with generate_type=LowPoly" in refused


def test_face_count_with_low_poly_warns():
    with pytest.warns(UserWarning, match="face_count has no effect with LowPoly"):
        params_class("hy-3d-3.0")(image_url=LINK, generate_type="LowPoly", face_count=5000)


@pytest.mark.parametrize("model", PRO)
def test_pbr_with_geometry_warns(model):
    with pytest.warns(UserWarning, match="enable_pbr has no effect with Geometry"):
        params_class(model)(image_url=LINK, generate_type="Geometry", enable_pbr=True)


@pytest.mark.parametrize("model", PRO)
def test_no_pbr_with_geometry_is_accepted(model):
    params_class(model)(image_url=LINK, generate_type="Geometry", enable_pbr=False)


def test_express_refuses_obj_without_texture():
    refused = refusal("hy-3d-express", image_url=LINK, enable_geometry=True, result_format="obj")
    assert "OBJ is refused with enable_geometry" in refused
    for geometry, format_ in ((True, None), (True, "GLB"), (False, "OBJ")):
        sent("hy-3d-express", image_url=LINK, enable_geometry=geometry, result_format=format_)


def test_express_warns_about_a_prompt_of_more_than_200_characters():
    params_class("hy-3d-express")(prompt="猫" * 200)
    with pytest.warns(UserWarning, match="201 characters; the service may refuse more than 200"):
        params_class("hy-3d-express")(prompt="猫" * 201)


@pytest.mark.parametrize("revise", [None, 1])
def test_a_seed_while_revise_is_on_warns(revise):
    with pytest.warns(UserWarning, match="seed has no effect while revise is on"):
        params_class("hy-image-v3.0")(prompt="猫", seed=7, revise=revise)


def test_a_seed_without_revise_is_accepted_silently():
    assert sent("hy-image-v3.0", prompt="猫", seed=1, revise=0)["seed"] == 1
    assert sent("hy-image-lite", prompt="猫", seed=7)["seed"] == 7


def test_humanactor_needs_an_image():
    for image in (URL, BASE64):
        assert (
            sent("yt-video-humanactor", prompt="说", audio_url=LINK, **image).items()
            >= image.items()
        )
    refused = refusal("yt-video-humanactor", prompt="说", audio_url=LINK)
    assert "image_url, image_base64: none given" in refused


def test_humanactor_warns_about_two_pictures():
    with pytest.warns(UserWarning, match="image_base64 has no effect together with image_url"):
        params_class("yt-video-humanactor")(
            prompt="说", audio_url=LINK, image_url=LINK, image_base64=PHOTO
        )


@pytest.mark.parametrize(
    ("template", "count", "wanted"),
    [("hug", 3, "1 to 2"), ("ridefly", 1, "2"), ("onestory", 1, "2 to 10"), ("fuzzy", 2, "1")],
)
def test_an_effect_refuses_another_number_of_pictures(template, count, wanted):
    refused = refusal("yt-video-fx", template=template, images=[LINK] * count)
    assert f"images: {count} given, template {template} needs {wanted} (yt-video-fx)" in refused


def test_a_number_only_assumed_warns():
    with pytest.warns(UserWarning, match="template rainfall needs 1 as far as known"):
        params_class("yt-video-fx")(template="rainfall", images=[LINK] * 2)
