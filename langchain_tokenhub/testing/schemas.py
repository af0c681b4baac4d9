"""Which JSON schemas the emulator can read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_MOST = 10_000
"""Items or characters that a schema may demand at least: answers are to stay small."""


def is_schema(value: Any, root: Any = None) -> bool:
    """Tell whether a schema is well formed, in itself and in all that it holds."""
    if not isinstance(value, dict):
        return False
    root = value if root is None else root
    known = ((check, value[key]) for key, check in _CHECKS.items() if key in value)
    return all(check(found, root) for check, found in known)


def pointed(reference: str, root: Mapping[str, Any]) -> Any:
    """Follow a local reference; `None` where it leads nowhere."""
    found: Any = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _is_type(value: Any, _: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(kind in _TYPES for kind in kinds)


def _is_reference(value: Any, root: Any) -> bool:
    return isinstance(value, str) and isinstance(pointed(value, root), dict)


def _are_fields(value: Any, root: Any) -> bool:
    return isinstance(value, dict) and all(is_schema(one, root) for one in value.values())


def _are_parts(value: Any, root: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_schema(one, root) for one in value)


def _is_number(value: Any, _: Any) -> bool:
    return isinstance(value, int | float)


def _is_length(value: Any, _: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= _MOST


def _is_list(value: Any, _: Any) -> bool:
    return isinstance(value, list)


_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_type,
    "$ref": _is_reference,
    "properties": _are_fields,
    "items": is_schema,
    "anyOf": _are_parts,
    "oneOf": _are_parts,
    "allOf": _are_parts,
    "enum": _is_list,
    "required": _is_list,
    "minimum": _is_number,
    "maximum": _is_number,
    "exclusiveMinimum": _is_number,
    "exclusiveMaximum": _is_number,
    "minLength": _is_length,
    "minItems": _is_length,
    "maxLength": _is_number,
    "maxItems": _is_number,
}
