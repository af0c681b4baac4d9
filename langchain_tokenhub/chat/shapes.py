"""Whether a value has the shape of a JSON schema: what models get wrong, and no more. Pure.

Keywords that are not known here ask for nothing; a `null` stands for a field that may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


def fault(value: Any, schema: Schema) -> str | None:
    """Return the first thing that is wrong with a value, or None."""
    return next(_faults(value, schema, schema, ""), None)


def _faults(value: Any, schema: Any, root: Schema, place: str) -> Iterator[str]:
    schema = _resolved(schema, root)
    names = schema.get("type", ())
    if names and not any(
        _is(value, name) for name in ([names] if isinstance(names, str) else names)
    ):
        yield f"{place or 'the value'} is {value!r:.80}, not {names}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place or 'the value'} is {value!r:.80}, none of {schema['enum']}"
    for choice in ("anyOf", "oneOf"):
        if choice in schema and not _fits_one(value, schema[choice], root):
            yield f"{place or 'the value'} is {value!r:.80}, which is none of its kinds"
    for part in schema.get("allOf", ()):
        yield from _faults(value, part, root, place)
    if isinstance(value, dict):
        yield from _in_object(value, schema, root, place)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            yield from _faults(item, schema["items"], root, f"{place}[{number}]")


def _in_object(value: dict[str, Any], schema: Schema, root: Schema, place: str) -> Iterator[str]:
    required = schema.get("required", ())
    missing = sorted(name for name in required if name not in value)
    if missing:
        yield f"{place + ' ' if place else ''}is without {', '.join(missing)}"
    for name, inner in schema.get("properties", {}).items():
        if name in value and (value[name] is not None or name in required):
            yield from _faults(value[name], inner, root, f"{place}.{name}" if place else name)


def _fits_one(value: Any, kinds: Any, root: Schema) -> bool:
    return any(next(_faults(value, kind, root, ""), None) is None for kind in kinds)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float) and name == "integer":
        return value.is_integer()
    return name not in _TYPES or isinstance(value, _TYPES[name])


def _resolved(schema: Any, root: Schema) -> Schema:
    """Return what a schema refers to, if it does; what is no schema asks for nothing."""
    seen = 0
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and seen < 100:
        found: Any = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        schema, seen = found, seen + 1
    return schema if isinstance(schema, Mapping) else {}
