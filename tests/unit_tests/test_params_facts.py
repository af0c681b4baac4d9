"""Every parameter of every model against the facts as they were read from the pages.

`tests/data/media_facts.json` was made from the reading, not from this package: the least, the most,
one beyond and the wrong types of each parameter are worked out from it alone.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ValidationError

from langchain_tokenhub import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool
from langchain_tokenhub.catalogue import fx_template
from langchain_tokenhub.params import encode_params, explain

FACTS = json.loads(Path(__file__).parents[1].joinpath("data/media_facts.json").read_text("utf-8"))
LINK = "https://example.com/a.png"
TOOLS = {"image": TokenHubImageTool, "video": TokenHubVideoTool, "3d": Tokenhub3DTool}
SOURCES = {"prompt", "image_url", "image_base64"}
VIEWS = ["left", "right", "back", "top", "bottom", "left_front", "right_front"]
NEEDED = {
    "prompt": "猫",
    "template": "brandnew",
    "image": LINK,
    "images": [LINK],
    "audio_url": LINK,
    "image_url": LINK,
}
WRONG = {
    "string": (5, True, 1.5, ["a"]),
    "integer": ("5", True, 1.5, [1], {"a": 1}),
    "boolean": (0, 1, "true", [True]),
    "object": (5, True, [{}]),
    "array[string]": (5, True, [5], [None], [[LINK]]),
    "array[object]": (5, True, [5], [None], [[]]),
}


def schema_of(model, language="zh"):
    tool = TOOLS[model.split("-")[1]]
    return tool(model=model, language=language, api_key="sk-test").args_schema


def is_accepted(model, name, value):
    """Return whether `model` accepts a value: it is sent unchanged, or refused by its name."""
    needed = {key for key, fact in FACTS[model]["parameters"].items() if fact.get("required")}
    if model == "yt-video-humanactor":
        needed |= {"image_url"}
    if model.startswith("hy-3d") and name not in SOURCES:
        needed |= {"image_url"}
    more = {"generate_type": "LowPoly"} if name == "polygon_type" else {}
    given = {key: NEEDED[key] for key in needed} | more | {name: value}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            params = schema_of(model).model_validate(given)
        except ValidationError as error:
            refused = explain(error, model=model)
        else:
            refused = None
    assert refused is None or refused.startswith(name)
    if refused:
        return False
    sent = encode_params(params).get(name, [])
    assert (sent, type(sent)) == (value, type(value))
    return True


def edges(fact, name):
    """Yield values at the limits of a parameter, and whether they are accepted."""
    if "max_length" in fact:
        most = fact["max_length"]
        for letter in "猫🐱a":
            yield letter, True
            yield letter * most, True
            yield letter * (most + 1), False
        yield "", False
    if "enum" in fact:
        yield from ((value, True) for value in fact["enum"])
        first, last = min(fact["enum"]), max(fact["enum"])
        beyond = (first - 1, last + 1) if fact["type"] == "integer" else ("x", "", first + "x")
        yield from ((value, False) for value in beyond)
    if fact["type"] == "integer" and "min" in fact:
        yield from ((fact["min"], True), (fact["min"] - 1, False))
    if fact["type"] == "integer" and "max" in fact:
        yield from ((fact["max"], True), (fact["max"] + 1, False))
    if fact["type"] == "boolean":
        yield from ((True, True), (False, True))
    if name == "images":
        least, most = fact.get("min", 0), fact["max"]
        yield from (([LINK] * most, True), ([LINK] * (most + 1), False))
        yield [LINK] * least, True
        yield [], least == 0
    if name == "multi_view_images":
        views = [{"view_type": view, "view_image_url": LINK} for view in VIEWS]
        yield views[: fact["max"]], True
        yield from (([view], False) for view in views[fact["max"] :])


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("model", FACTS)
def test_a_schema_has_the_services_parameters_prompt_first_and_job_id_last(model, language):
    tool = TOOLS[model.split("-")[1]](model=model, language=language, api_key="sk-test")
    shown = convert_to_openai_tool(tool)["function"]["parameters"]
    facts = FACTS[model]["parameters"]
    resumed = ["job_id"] if model != "hy-image-lite" else []
    assert list(shown["properties"]) == sorted(facts, key=lambda name: name != "prompt") + resumed
    required = [name for name, fact in facts.items() if fact.get("required")]
    assert shown.get("required", []) == required
    fields = schema_of(model, language).model_fields
    assert all(field.default is None for name, field in fields.items() if name not in required)


@pytest.mark.parametrize("model", FACTS)
def test_a_parameter_accepts_its_limits_and_nothing_beyond(model):
    for name, fact in FACTS[model]["parameters"].items():
        for value, fits in edges(fact, name):
            assert is_accepted(model, name, value) is fits, (name, str(value)[:60])


@pytest.mark.parametrize("model", FACTS)
def test_a_parameter_accepts_no_other_type(model):
    for name, fact in FACTS[model]["parameters"].items():
        for value in WRONG[fact["type"]]:
            assert not is_accepted(model, name, value), (name, value)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("model", FACTS)
def test_a_default_is_in_the_description(model, language):
    fields = schema_of(model, language).model_fields
    for name, fact in FACTS[model]["parameters"].items():
        if "default" in fact and name != "rsp_img_type":  # ours is the link, as the guide asks
            assert str(fact["default"]).lower() in fields[name].description.lower(), name


@pytest.mark.parametrize(
    "model", [model for model, facts in FACTS.items() if "resolutions" in facts]
)
def test_every_recommended_size_is_accepted(model):
    assert all(is_accepted(model, "resolution", size) for size in FACTS[model]["resolutions"])


TEMPLATES = FACTS["yt-video-fx"]["templates"]


def test_there_are_141_templates_and_any_other_passes():
    assert len(TEMPLATES) == 141
    for template in (*TEMPLATES, "tomorrows-effect", "明日特效", "HUG"):
        fact = TEMPLATES.get(template, {"images": [1, 1]})
        assert _template(template, fact["images"][0]) == "accepted"


def test_a_template_accepts_its_number_of_images():
    for template, fact in TEMPLATES.items():
        least, most = fact["images"]
        other = "refused" if fact["known"] else "warned"
        for count in range(1, 11):
            expected = "accepted" if least <= count <= most else other
            assert _template(template, count) == expected, (template, count)


def _template(template, count):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            schema_of("yt-video-fx")(template=template, images=[LINK] * count)
        except ValidationError:
            return "refused"
    return "warned" if caught else "accepted"


def test_a_template_has_its_name_and_price():
    for template, fact in TEMPLATES.items():
        row, prices = fx_template(template), fact["credits"] or {}
        expected = {size: float(str(price).split()[0]) for size, price in prices.items()}
        assert (row.name_zh or None, dict(row.credits)) == (fact["name"] or None, expected), (
            template
        )
        assert row.per_extra_image is any("(n-1)" in str(price) for price in prices.values())
