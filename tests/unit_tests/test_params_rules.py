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


@pytest.mark.parametrize("model", THREE_D)
@pytest.mark.parametrize(
    "given", [{"prompt": "猫"}, {"image_url": LINK}, {"image_base64": PHOTO}], ids="".join
)
def test_3d_takes_one_source(model, given):
    assert encode_params(params_class(model)(**given)) == given


@pytest.mark.parametrize("model", THREE_D)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"prompt": "猫", "image_url": LINK},
        {"prompt": "猫", "image_base64": PHOTO},
        {"image_url": LINK, "image_base64": PHOTO},
        {"prompt": "猫", "image_url": LINK, "image_base64": PHOTO},
    ],
    ids=lambda given: f"{len(given)} {'+'.join(given)}",
)
def test_3d_refuses_none_and_more_than_one_source(model, given):
    told = refusal(model, **given)
    assert f"prompt, image_url, image_base64: {len(given)} given, exactly one" in told
    assert model in told


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "猫"},
        {"image_url": LINK},
        {"prompt": "猫", "image_url": LINK},
        {"prompt": "猫", "image_base64": PHOTO},
    ],
    ids="+".join,
)
def test_a_sketch_takes_picture_text_or_both(given):
    assert (
        encode_params(params_class("hy-3d-3.0")(generate_type="sketch", **given)).items()
        >= given.items()
    )


def test_a_sketch_refuses_nothing_and_two_pictures():
    assert "none given" in refusal("hy-3d-3.0", generate_type="Sketch")
    two = refusal("hy-3d-3.0", generate_type="Sketch", image_url=LINK, image_base64=PHOTO)
    assert "2 given, one is needed" in two


@pytest.mark.parametrize("model", PRO)
def test_every_view_of_a_model_is_taken_once(model):
    views = [view(name) for name in VIEWS[model]]
    params = params_class(model)(image_url=LINK, multi_view_images=views)
    assert encode_params(params)["multi_view_images"] == views


@pytest.mark.parametrize("model", PRO)
def test_a_view_is_refused_twice(model):
    told = refusal(model, image_url=LINK, multi_view_images=[view("left"), view("left")])
    assert "multi_view_images: left, left, each view_type once" in told


@pytest.mark.parametrize("model", PRO)
def test_an_empty_list_of_views_is_refused(model):
    assert "multi_view_images: empty" in refusal(model, image_url=LINK, multi_view_images=[])


@pytest.mark.parametrize("name", ["top", "bottom", "left_front", "right_front"])
def test_four_views_are_3_1_only(name):
    told = refusal("hy-3d-3.0", image_url=LINK, multi_view_images=[view(name)])
    assert told.startswith(
        f"multi_view_images.0.view_type: '{name}', one of left, right, back is needed"
    )


def test_a_view_of_3_1_cannot_slip_into_3_0():
    newer = params_class("hy-3d-3.1")(image_url=LINK, multi_view_images=[view("top")])
    assert refusal("hy-3d-3.0", image_url=LINK, multi_view_images=newer.multi_view_images)


@pytest.mark.parametrize("model", PRO)
def test_views_need_a_main_picture_and_no_prompt(model):
    told = refusal(model, prompt="猫", multi_view_images=[view("left")])
    assert "multi_view_images needs a front image and no prompt" in told


def test_views_refuse_a_prompt_beside_a_sketch_too():
    told = refusal(
        "hy-3d-3.0",
        generate_type="Sketch",
        prompt="猫",
        image_url=LINK,
        multi_view_images=[view("left")],
    )
    assert "no prompt" in told


@pytest.mark.parametrize("model", PRO)
def test_a_view_needs_a_picture(model):
    told = refusal(model, image_url=LINK, multi_view_images=[{"view_type": "left"}])
    assert "a view without an image" in told
    params_class(model)(
        image_url=LINK, multi_view_images=[{"view_type": "left", "view_image_base64": PHOTO}]
    )


@pytest.mark.parametrize("value", ["triangle", "quadrilateral"])
def test_polygon_type_goes_with_low_poly(value):
    params = params_class("hy-3d-3.0")(image_url=LINK, generate_type="LowPoly", polygon_type=value)
    assert encode_params(params)["polygon_type"] == value


@pytest.mark.parametrize("kind", [None, "Normal", "Geometry", "Sketch"])
def test_polygon_type_is_refused_without_low_poly(kind):
    told = refusal("hy-3d-3.0", image_url=LINK, generate_type=kind, polygon_type="triangle")
    assert "polygon_type is only accepted with generate_type=LowPoly" in told


def test_face_count_with_low_poly_warns():
    with pytest.warns(UserWarning, match="face_count has no effect with LowPoly"):
        params_class("hy-3d-3.0")(image_url=LINK, generate_type="LowPoly", face_count=5000)


@pytest.mark.parametrize("model", PRO)
def test_pbr_with_geometry_warns(model):
    with pytest.warns(UserWarning, match="enable_pbr has no effect with Geometry"):
        params_class(model)(image_url=LINK, generate_type="Geometry", enable_pbr=True)


@pytest.mark.parametrize("model", PRO)
def test_no_pbr_with_geometry_is_fine(model):
    params_class(model)(image_url=LINK, generate_type="Geometry", enable_pbr=False)


def test_express_refuses_obj_without_texture():
    told = refusal("hy-3d-express", image_url=LINK, enable_geometry=True, result_format="obj")
    assert "OBJ is refused with enable_geometry" in told


@pytest.mark.parametrize(
    "given",
    [
        {"enable_geometry": True},
        {"enable_geometry": True, "result_format": "GLB"},
        {"enable_geometry": False, "result_format": "OBJ"},
    ],
)
def test_express_takes_the_other_formats(given):
    assert (
        encode_params(params_class("hy-3d-express")(image_url=LINK, **given)).items()
        >= given.items()
    )


def test_express_warns_about_a_prompt_of_more_than_200_characters():
    params_class("hy-3d-express")(prompt="猫" * 200)
    with pytest.warns(UserWarning, match="201 characters; the service may refuse more than 200"):
        params_class("hy-3d-express")(prompt="猫" * 201)


@pytest.mark.parametrize("revise", [None, 1])
def test_a_seed_while_revise_is_on_warns(revise):
    with pytest.warns(UserWarning, match="seed has no effect while revise is on"):
        params_class("hy-image-v3.0")(prompt="猫", seed=7, revise=revise)


@pytest.mark.parametrize("seed", [1, 4_294_967_295])
def test_a_seed_without_revise_is_fine(seed):
    assert (
        encode_params(params_class("hy-image-v3.0")(prompt="猫", seed=seed, revise=0))["seed"]
        == seed
    )


def test_lite_takes_a_seed_silently():
    params_class("hy-image-lite")(prompt="猫", seed=7)


@pytest.mark.parametrize("given", [{"image_url": LINK}, {"image_base64": PHOTO}], ids="+".join)
def test_humanactor_takes_one_picture(given):
    params = params_class("yt-video-humanactor")(prompt="说", audio_url=LINK, **given)
    assert encode_params(params).items() >= given.items()


def test_humanactor_needs_a_picture():
    told = refusal("yt-video-humanactor", prompt="说", audio_url=LINK)
    assert "image_url, image_base64: none given" in told


def test_humanactor_warns_about_two_pictures():
    with pytest.warns(UserWarning, match="image_base64 has no effect together with image_url"):
        params_class("yt-video-humanactor")(
            prompt="说", audio_url=LINK, image_url=LINK, image_base64=PHOTO
        )


@pytest.mark.parametrize(
    ("template", "count"),
    [("hug", 1), ("hug", 2), ("ridefly", 2), ("onestory", 10), ("fuzzy", 1), ("brandnew", 7)],
)
def test_an_effect_takes_its_number_of_pictures(template, count):
    params_class("yt-video-fx")(template=template, images=[LINK] * count)


@pytest.mark.parametrize(
    ("template", "count", "wanted"),
    [("hug", 3, "1 to 2"), ("ridefly", 1, "2"), ("onestory", 1, "2 to 10"), ("fuzzy", 2, "1")],
)
def test_an_effect_refuses_another_number_of_pictures(template, count, wanted):
    told = refusal("yt-video-fx", template=template, images=[LINK] * count)
    assert f"images: {count} given, template {template} needs {wanted} (yt-video-fx)" in told


def test_a_number_only_assumed_warns():
    with pytest.warns(UserWarning, match="template rainfall needs 1 as far as known"):
        params_class("yt-video-fx")(template="rainfall", images=[LINK] * 2)
