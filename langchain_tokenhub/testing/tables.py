"""The emulator's data files, and the chat models that they list."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Row = Mapping[str, Any]
Body = Mapping[str, Any]
_DATA = files("langchain_tokenhub.testing") / "data"


@cache
def table(name: str) -> dict[str, Any]:
    """Read a TOML file of the folder `data`, once."""
    return tomllib.loads((_DATA / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def blob(name: str) -> bytes:
    """Read a binary file of the folder `data`, once."""
    return (_DATA / name).read_bytes()


@cache
def chat_models() -> dict[str, Row]:
    """Return the rows of `models.toml` with the columns of their families, retired ones too."""
    families, rows = table("models")["family"], table("models")["model"]
    return {
        name: families["any"] | families[row["family"]] | row | {"id": name}
        for name, row in rows.items()
    }


def chat_model(model: str) -> Row:
    """Return the row of a model; an id that is not listed has the columns of the family `any`."""
    return chat_models().get(model) or table("models")["family"]["any"] | {"id": model}


def is_reasoning(row: Row, body: Body) -> bool:
    """Return True if a request to the model is answered with reasoning."""
    default = "disabled" if body.get("reasoning_effort") == "none" else row["thinking"]
    return (body.get("thinking") or {}).get("type", default) in {"enabled", "adaptive"}


@cache
def served_models() -> dict[str, str]:
    """Return what each model is served as: `chat`, `embedding`, a kind of media, or `other`."""
    chat = {name: "chat" for name, row in chat_models().items() if row["status"] != "retired"}
    media = {name: str(row["kind"]) for name, row in table("media_rules")["model"].items()}
    embeddings = dict.fromkeys(table("models")["embeddings"], "embedding")
    return chat | media | embeddings | dict.fromkeys(table("models")["other"], "other")
