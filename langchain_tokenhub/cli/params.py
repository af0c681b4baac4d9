"""A media model's parameters as options: read from its class, never listed by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.cli.console import from_stdin
from langchain_tokenhub.cli.words import Words
from langchain_tokenhub.media import file_fields, params_class, schema_class

_DEST = "param:"
"""Before a parameter's name where the parser keeps it, so that it meets no option of ours."""
_OURS = frozenset({"job_id"})
"""Fields of the class that are no parameters of the service."""
Add = Callable[..., argparse.Action]


def add_params(parser: argparse.ArgumentParser, model: str, kind: Kind, words: Words) -> None:
    """Add one option a parameter of `model`, and its prompt as an argument."""
    schema = schema_class(model, words.language, kind).model_json_schema()
    files = file_fields(params_class(model, kind))
    group = parser.add_argument_group(words("parameters", model=model))
    if "prompt" not in schema["properties"]:
        group.add_argument("prompt", nargs="*", help=argparse.SUPPRESS)
    for name, field in schema["properties"].items():
        if name in _OURS:
            continue
        told = _told(name, field, schema, words) + (words("any-file") if name in files else "")
        if name == "prompt":
            group.add_argument("prompt", nargs="*", help=f"{told} {words('prompt')}")
        else:
            _add_option(group.add_argument, name, field, told, is_file=name in files)


def params_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that were given."""
    found = {
        name.removeprefix(_DEST): value
        for name, value in vars(options).items()
        if name.startswith(_DEST) and value is not None
    }
    prompt = " ".join(from_stdin() if word == "-" else word for word in options.prompt)
    return {"prompt": prompt, **found} if prompt else found


def json_value(text: str) -> Any:
    """Return the JSON in an option."""
    try:
        return json.loads(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"not JSON: {problem}") from None


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object in an option."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('a JSON object is needed, such as {"name": 1}')
    return value


def number(text: str) -> Any:
    """Return a number; anything else goes on as it is, to be refused with the field's limits."""
    try:
        return int(text)
    except ValueError:
        return text


def _told(name: str, field: Mapping[str, Any], schema: Mapping[str, Any], words: Words) -> str:
    texts = [field.get("description", "").replace("%", "%%")]
    if name in schema.get("required", ()):
        texts.append(words("required"))
    if field.get("type") == "array":
        texts.append(words("repeatable"))
    return " ".join(text for text in texts if text)


def _add_option(
    add: Add, name: str, field: Mapping[str, Any], told: str, *, is_file: bool
) -> argparse.Action:
    option, dest = f"--{name.replace('_', '-')}", f"{_DEST}{name}"
    match field:
        case {"type": "array", "items": {"$ref": _}}:
            return add(
                option, dest=dest, type=json_value, action="append", metavar="JSON", help=told
            )
        case {"type": "array"}:
            return add(option, dest=dest, action="append", metavar="FILE", help=told)
        case {"type": "boolean"}:
            switch = argparse.BooleanOptionalAction
            return add(option, dest=dest, action=switch, default=None, help=told)
        case {"type": "integer"}:
            return add(option, dest=dest, type=number, metavar=_shape(field, "N"), help=told)
        case {"type": "string"}:
            shape = "FILE" if is_file else _shape(field, "TEXT")
            return add(option, dest=dest, metavar=shape, help=told)
        case _:
            return add(option, dest=dest, type=json_value, metavar="JSON", help=told)


def _shape(field: Mapping[str, Any], other: str) -> str:
    """Return what an option's value looks like."""
    words = "|".join(map(str, field.get("enum", ())))
    return words if words and len(words) <= 40 else other
