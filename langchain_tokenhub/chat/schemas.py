"""JSON schemas: without OpenAPI's `nullable`, and whether a value matches one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_NAMED_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
_VALUES = frozenset({"default", "examples", "enum", "const", "dependentRequired"})
"""Keywords that hold no schema."""
_ABOUT = frozenset({"title", "description", "default", "examples", "deprecated"})
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


def without_nullable(schema: Schema) -> dict[str, Any]:
    """Return a JSON schema in which OpenAPI's `nullable: true` is an alternative of type null.

    JSON schema has no such keyword: whoever reads one ignores it. The whole value is never null.
    """
    return {name: _converted(name, value) for name, value in schema.items() if name != "nullable"}


def _converted(keyword: str, value: Any) -> Any:
    if keyword in _VALUES:
        return value
    if isinstance(value, list):
        return [_alternatives(one) for one in value]
    if keyword in _NAMED_SCHEMAS and isinstance(value, Mapping):
        return {name: _alternatives(one) for name, one in value.items()}
    return _alternatives(value)


def _alternatives(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    converted = without_nullable(schema)
    if schema.get("nullable") is not True:
        return converted
    about = {name: converted.pop(name) for name in _ABOUT if name in converted}
    return {**about, "anyOf": [converted, {"type": "null"}]}


def schema_error(value: Any, schema: Schema) -> str | None:
    """Return the first mismatch between a value and its schema, or None."""
    return next(_errors(value, schema, schema, ""), None)


def _errors(value: Any, schema: Any, root: Schema, path: str) -> Iterator[str]:
    schema = _resolved(schema, root)
    shown = f"{path or 'the value'} is {value!r:.80}"
    names = schema.get("type", ())
    if names and not any(_is(value, one) for one in ([names] if isinstance(names, str) else names)):
        yield f"{shown}, not {names}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{shown}, none of {schema['enum']}"
    for choice in ("anyOf", "oneOf"):
        kinds = schema.get(choice)
        if kinds is not None and all(any(_errors(value, kind, root, "")) for kind in kinds):
            yield f"{shown}, which is none of its kinds"
    for part in schema.get("allOf", ()):
        yield from _errors(value, part, root, path)
    if isinstance(value, dict):
        yield from _in_object(value, schema, root, path)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            yield from _errors(item, schema["items"], root, f"{path}[{number}]")


def _in_object(value: dict[str, Any], schema: Schema, root: Schema, path: str) -> Iterator[str]:
    required = schema.get("required", ())
    if missing := sorted(name for name in required if name not in value):
        yield f"{path + ' ' if path else ''}is without {', '.join(missing)}"
    for name, inner in schema.get("properties", {}).items():
        if name in value and (value[name] is not None or name in required):
            yield from _errors(value[name], inner, root, f"{path}.{name}" if path else name)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return name not in _TYPES or isinstance(value, _TYPES[name])


def _resolved(schema: Any, root: Schema) -> Schema:
    """Return the schema that `$ref` leads to; anything that is not a schema demands nothing."""
    seen = 0
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and seen < 100:
        found: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        schema, seen = found, seen + 1
    return schema if isinstance(schema, Mapping) else {}
