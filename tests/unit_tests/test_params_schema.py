"""What a language model sees of the parameters."""

from __future__ import annotations

import json

import pytest
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokenhub.catalogue import media_models
from langchain_tokenhub.catalogue.tables import rows
from langchain_tokenhub.params import (
    MediaParams,
    file_fields,
    params_class,
    schema_class,
)
from langchain_tokenhub.params.models import LogoParam, ViewImage

VIEWS = ["left", "right", "back", "top", "bottom", "left_front", "right_front"]
NAMES = [row.id for row in media_models()]
EVERY = [(model, language) for model in NAMES for language in ("zh", "en")]
KINDS = [("ep-1", kind) for kind in ("image", "video", "3d")]


class Shell(BaseTool):
    name: str = "shell"
    description: str = "A tool."

    def _run(self, **params):
        return params


def subclasses(cls):
    """Return a class and all that derive from it."""
    return [cls, *(deeper for derived in cls.__subclasses__() for deeper in subclasses(derived))]


def seen(model, language):
    """Return what LangChain sends of the parameters."""
    tool = Shell(args_schema=schema_class(model, language))
    return convert_to_openai_tool(tool)["function"]["parameters"]


@pytest.mark.parametrize(("model", "language"), EVERY)
def test_every_parameter_is_described_in_the_language(model, language):
    for name, field in seen(model, language)["properties"].items():
        chinese = any("一" <= sign <= "鿿" for sign in field["description"])
        assert chinese is (language == "zh"), name


@pytest.mark.parametrize(("model", "kind"), KINDS)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_unknown_model_has_a_described_schema_too(model, kind, language):
    properties = schema_class(model, language, kind).model_json_schema()["properties"]
    assert next(iter(properties)) == "prompt"
    assert list(properties)[-1] == "job_id"
    assert all(field["description"] for field in properties.values())


@pytest.mark.parametrize(("model", "language"), EVERY)
def test_a_schema_is_short_and_has_no_alternatives(model, language):
    text = json.dumps(seen(model, language), ensure_ascii=False)
    assert len(text) < 2500
    assert not [word for word in ("anyOf", "$ref", "shape") if word in text]


@pytest.mark.parametrize("model", NAMES)
def test_a_file_is_a_string_to_a_language_model(model):
    properties = seen(model, "en")["properties"]
    for name, field in file_fields(params_class(model)).items():
        shown = properties[name]["items"] if field.is_list else properties[name]
        assert shown["type"] == "string", name


@pytest.mark.parametrize(
    ("model", "name", "part"),
    [
        ("hy-video-1.5", "prompt", {"minLength": 1, "maxLength": 200}),
        ("hy-image-v3.0", "images", {"maxItems": 3}),
        ("hy-image-v3.0", "seed", {"minimum": 1, "maximum": 4_294_967_295}),
        ("hy-image-lite", "logo_add", {"type": "integer", "enum": [0, 1]}),
        ("yt-video-fx", "images", {"minItems": 1, "maxItems": 10}),
        ("yt-video-2.0", "fps", {"enum": [16, 24, 30]}),
        ("hy-3d-3.0", "face_count", {"minimum": 3000, "maximum": 1_500_000}),
        ("hy-3d-3.0", "generate_type", {"enum": ["Normal", "LowPoly", "Geometry", "Sketch"]}),
        ("hy-3d-express", "enable_pbr", {"type": "boolean"}),
    ],
)
def test_limits_are_in_the_schema(model, name, part):
    assert seen(model, "zh")["properties"][name].items() >= part.items()


def test_each_3d_model_shows_its_own_views():
    for model, most in (("hy-3d-3.0", 3), ("hy-3d-3.1", 7)):
        items = seen(model, "zh")["properties"]["multi_view_images"]["items"]
        assert items["properties"]["view_type"]["enum"] == VIEWS[:most]


@pytest.mark.parametrize(("model", "language"), EVERY)
def test_the_schema_class_is_built_once_and_is_the_parameter_class(model, language):
    cls = schema_class(model, language)
    assert cls is schema_class(model.upper(), language)
    assert issubclass(cls, params_class(model))


def test_a_tool_does_not_dump_objects():
    tool = Shell(args_schema=schema_class("hy-video-1.5", "zh"))
    found = tool.invoke({"prompt": " 猫 ", "logo_param": {"logo_url": "https://a.cn/b.png"}})
    assert found["prompt"] == "猫"
    assert isinstance(found["logo_param"], LogoParam)


def test_a_tool_may_be_called_with_a_job_id_alone():
    tool = Shell(args_schema=schema_class("yt-video-fx", "zh"))
    assert tool.invoke({"job_id": "1437"})["job_id"] == "1437"


def test_a_file_field_has_the_shape_in_which_it_is_sent():
    for model, name, shape, base64_field in (
        ("hy-image-v3.0", "images", "string_list", None),
        ("hy-video-1.5", "image", "url_or_base64_object", None),
        ("yt-video-2.0", "image", "url_or_base64_object", None),
        ("yt-video-fx", "images", "object_list", None),
        ("yt-video-humanactor", "image_url", "url", "image_base64"),
        ("yt-video-humanactor", "audio_url", "url", None),
        ("hy-3d-3.0", "image_url", "url", "image_base64"),
        ("hy-3d-3.1", "image_url", "url", "image_base64"),
        ("hy-3d-express", "image_url", "url", "image_base64"),
    ):
        field = file_fields(params_class(model))[name]
        assert (field.shape, field.base64_field) == (shape, base64_field)


def test_a_view_is_a_file_field_of_its_own():
    assert file_fields(ViewImage)["view_image_url"].base64_field == "view_image_base64"


def test_every_description_belongs_to_a_parameter():
    texts = {name: table for name, table in rows("param_descriptions").items() if name != "sources"}
    classes = {cls.__name__: cls for cls in subclasses(MediaParams)}
    for name, table in texts.items():
        fields = {field for cls in subclasses(classes[name]) for field in cls.model_fields}
        assert table.keys() <= fields, name
