"""The emulator's data files, and the chat models that they list."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

_DATA = files("langchain_tokenhub.testing") / "data"


@cache
def table(name: str) -> dict[str, Any]:
    """Read a TOML file of the folder `data`, once."""
    return tomllib.loads((_DATA / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def blob(name: str) -> bytes:
    """Read a binary file of the folder `data`, once."""
    return (_DATA / name).read_bytes()


@dataclass(frozen=True)
class ChatModel:
    """A row of `models.toml`, where the columns are explained."""

    id: str
    thinking: str
    thinking_types: tuple[str, ...]
    forced_tools: bool
    echo: str
    json_schema: str
    json_word: bool
    tools: bool
    images: bool
    max_input: int
    temperatures: tuple[float, ...]
    repeats_calls: bool
    status: str

    def thinks(self, body: Mapping[str, Any]) -> bool:
        """Return True if the request is answered with reasoning."""
        default = "disabled" if body.get("reasoning_effort") == "none" else self.thinking
        return (body.get("thinking") or {}).get("type", default) in {"enabled", "adaptive"}


@cache
def chat_models() -> dict[str, ChatModel]:
    """Return the listed chat models by id, retired ones included."""
    return {row["id"]: _chat_model(row) for row in table("models")["model"]}


def chat_model(model: str) -> ChatModel:
    """Return the row of a model; an id that is not listed has the columns of the family `any`."""
    return chat_models().get(model) or replace(_chat_model({"id": "any"}), id=model)


def _chat_model(row: Mapping[str, Any]) -> ChatModel:
    families = table("models")["family"]
    columns = families["any"] | families[row.get("family", "any")] | row
    columns.pop("family", None)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in columns.items()}
    return ChatModel(**values)


@cache
def served_models() -> dict[str, str]:
    """Return what each model is served as: `chat`, `embedding`, a kind of media, or `other`."""
    chat = {row.id: "chat" for row in chat_models().values() if row.status != "retired"}
    media = {name: str(row["kind"]) for name, row in table("media_rules")["model"].items()}
    embeddings = dict.fromkeys(table("models")["embeddings"], "embedding")
    return chat | media | embeddings | dict.fromkeys(table("models")["other"], "other")
