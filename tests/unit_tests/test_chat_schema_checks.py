"""A value that does not have the shape of its JSON schema is told apart, with its place."""

from __future__ import annotations

import re

import pytest

from langchain_tokenhub.chat.tools import schema_error

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "mood": {"enum": ["good", "bad"]},
        "nick": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "home": {"$ref": "#/$defs/Home"},
        "size": {"type": ["number", "string"]},
        "boss": {"$ref": "#"},
    },
    "required": ["name"],
    "$defs": {
        "Home": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    },
}
GOOD = [
    {"name": "王"},
    {"name": "王", "age": 3, "mood": "good", "nick": None, "tags": ["a"], "size": 1.5},
    {"name": "王", "age": 3.0, "home": {"city": "北京"}, "more": object},
    {"name": "王", "age": None, "home": None, "tags": []},
]
BAD = {
    "a field is missing": ({}, "is without name"),
    "a field is null": ({"name": None}, "name is None, not string"),
    "a wrong type": ({"name": "王", "age": "3"}, "age is '3', not integer"),
    "a truth is no number": ({"name": "王", "age": True}, "age is True, not integer"),
    "none of the words": ({"name": "王", "mood": "so-so"}, r"mood is 'so-so', not one of"),
    "none of the kinds": ({"name": "王", "nick": 3}, "nick is 3, which matches none of"),
    "in a list": ({"name": "王", "tags": ["a", 1]}, r"tags\[1\] is 1, not string"),
    "in an object": ({"name": "王", "home": {}}, "home is without city"),
    "of no type": ({"name": "王", "size": []}, r"size is \[\], not"),
    "no object": ([], r"the value is \[\], not object"),
}


@pytest.mark.parametrize("value", GOOD)
def test_a_value_of_the_shape_has_no_fault(value):
    assert schema_error(value, PERSON) is None


@pytest.mark.parametrize(("value", "said"), BAD.values(), ids=BAD)
def test_a_fault_is_reported_with_its_place(value, said):
    assert re.match(said, schema_error(value, PERSON))


@pytest.mark.parametrize(
    "schema",
    [{}, {"type": "strange"}, {"$ref": "#/nowhere"}, {"$ref": "#"}, {"properties": {"a": True}}],
)
def test_what_a_schema_does_not_say_is_not_asked_for(schema):
    assert schema_error({"a": 1}, schema) is None


def test_every_part_of_all_of_is_looked_at():
    assert schema_error({}, {"allOf": [{"type": "object"}, {"required": ["a"]}]}) == "is without a"
