"""Arguments for a schema, made from what the user said. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from langchain_tokenhub.testing import clues as find
from langchain_tokenhub.testing.clues import Clues
from langchain_tokenhub.testing.schemas import pointed
from langchain_tokenhub.testing.tables import table

Schema = Mapping[str, Any]
_DEEP = 8


def fill(schema: Schema, clues: Clues) -> dict[str, Any]:
    """Make an object that the schema accepts: all required fields, others when spoken of."""
    value = _value("", schema, schema, clues, 0)
    return value if isinstance(value, dict) else {}


def _value(name: str, schema: Schema, root: Schema, clues: Clues, depth: int) -> Any:
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _choice(schema, clues)
    match kind_of(schema):
        case "object":
            return _object(schema, root, clues, depth)
        case "array":
            return _array(name, schema, root, clues, depth)
        case "integer":
            return round(_number(schema, clues))
        case "number":
            return _number(schema, clues)
        case "boolean":
            return bool(schema.get("default", True))
        case "null":
            return None
        case _:
            return _string(name, schema, clues)


def resolve(schema: Schema, root: Schema) -> Schema:
    """Follow references and take the first alternative that is not null."""
    for _ in range(_DEEP):
        if "$ref" in schema:
            schema = {**(pointed(schema["$ref"], root) or {}), **_rest(schema, "$ref")}
        elif options := schema.get("anyOf") or schema.get("oneOf"):
            kept = [o for o in options if o.get("type") != "null"] or options
            schema = {**_rest(schema, "anyOf", "oneOf"), **kept[0]}
        elif parts := schema.get("allOf"):
            schema = {k: v for part in [_rest(schema, "allOf"), *parts] for k, v in part.items()}
        else:
            break
    return schema


def _rest(schema: Schema, *keys: str) -> dict[str, Any]:
    return {k: v for k, v in schema.items() if k not in keys}


def kind_of(schema: Schema) -> str:
    """Name the JSON type a schema wants."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        return next((k for k in kind if k != "null"), "null")
    return str(kind)


def _choice(schema: Schema, clues: Clues) -> Any:
    spoken = [v for v in schema["enum"] if str(v).lower() in clues.text.lower()]
    return [*spoken, schema.get("default", schema["enum"][0])][0]


def _object(schema: Schema, root: Schema, clues: Clues, depth: int) -> dict[str, Any]:
    clues.room -= 1
    if depth > _DEEP or clues.room < 0:
        return {}
    required = schema.get("required", [])
    return {
        key: _value(key, inner, root, clues, depth + 1)
        for key, inner in schema.get("properties", {}).items()
        if key in required or _spoken_of(key, resolve(inner, root), clues)
    }


def _spoken_of(name: str, schema: Schema, clues: Clues) -> bool:
    """Tell whether an optional field is worth filling."""
    if _is_picture(name, schema):
        return bool(clues.picture or find.link(clues.text))
    if name == "prompt":
        return clues.picture is None
    text = clues.text.lower()
    if any(isinstance(v, str) and len(v) > 2 and v.lower() in text for v in schema.get("enum", [])):
        return True
    told = re.search(rf"\b{re.escape(name.lower())}\b", text)
    denied = re.search(rf"\b(no|without) (a |any |the )?{re.escape(name.lower())}\b", text)
    return (
        bool(told) and not denied and (_field_kind(name) != "other" or _is_told(name, schema, text))
    )


def _is_told(name: str, schema: Schema, text: str) -> bool:
    """Tell whether the text gives a value: any will do, except for strings and objects."""
    if kind_of(schema) in {"string", "object"}:
        return bool(re.search(rf"\b{re.escape(name.lower())}\s*[=:：]", text))
    return True


def _field_kind(name: str) -> str:
    fields: dict[str, str] = table("phrases")["fields"]
    return next((k for k, words in fields.items() if re.search(words, name.lower())), "other")


def _array(name: str, schema: Schema, root: Schema, clues: Clues, depth: int) -> list[Any]:
    items = resolve(schema.get("items") or {}, root)
    at_least = max(1, int(schema.get("minItems", 1)))
    at_most = int(schema.get("maxItems", max(at_least, 4)))
    if depth >= _DEEP:
        return []
    wanted = {"integer": len(clues.numbers), "number": len(clues.numbers)}.get(
        kind_of(items), len(clues.quotes) if kind_of(items) == "string" else 1
    )
    length = min(at_most, max(at_least, wanted))
    return [_value(name, items, root, clues, depth + 1) for _ in range(length)]


def _number(schema: Schema, clues: Clues) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1e9) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1e9) - 1)
    value = clues.numbers.popleft() if clues.numbers else float(schema.get("default") or 1)
    value = min(max(value, low), high)
    return int(value) if float(value).is_integer() else value


def _string(name: str, schema: Schema, clues: Clues) -> str:
    told = re.search(rf"\b{re.escape(name)}\s*[=:：]\s*['\"“]?([^\s,，'\"”]+)", clues.text)
    text = told.group(1) if told else _by_format(schema) or _by_name(name, schema, clues)
    text = text[: int(schema.get("maxLength", len(text)))]
    return text.ljust(int(schema.get("minLength", 0)), ".")


def _by_format(schema: Schema) -> str:
    formats: dict[str, str] = table("phrases")["formats"]
    return formats.get(str(schema.get("format")), "")


def _is_picture(name: str, schema: Schema) -> bool:
    inner = schema.get("items") or {}
    kinds = {kind_of(schema), kind_of(inner) if inner else "string"}
    return bool(re.fullmatch(table("phrases")["picture_fields"], name)) and "string" in kinds


def _by_name(name: str, schema: Schema, clues: Clues) -> str:
    if _is_picture(name, schema):
        return clues.picture or find.link(clues.text) or ""
    match kind := _field_kind(name):
        case "place":
            found = next(iter(find.places(clues.text)), None)
        case "name":
            found = clues.quotes.popleft() if clues.quotes else find.named(clues.text)
        case "style":
            found = find.style(clues.text)
        case "link":
            found = find.link(clues.text)
        case "setup" | "punchline":
            found = table("phrases")["joke"][kind].format(topic=find.joke(clues.text))
        case "whole":
            found = None
        case _:
            found = clues.quotes.popleft() if clues.quotes else None
    return found or clues.text or name
