"""What each chat model accepts: the rows of `models.toml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from langchain_tokenhub.testing.tables import table


@dataclass(frozen=True)
class ChatModel:
    """One row; the columns are explained at the top of the file."""

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

    @property
    def served(self) -> bool:
        """Whether the service knows the id."""
        return self.status != "retired"

    def thinks(self, body: dict[str, Any]) -> bool:
        """Tell whether this request is answered after thinking."""
        default = "disabled" if body.get("reasoning_effort") == "none" else self.thinking
        chosen = (body.get("thinking") or {}).get("type", default)
        return chosen in {"enabled", "adaptive"}


@lru_cache(maxsize=1024)
def chat_model(model: str) -> ChatModel:
    """Find the row of an id; `ep-...` and ids not listed are served by the default row."""
    row = _rows().get(model, {"id": model})
    if re.match(table("models")["nowhere"], model):
        row = row | {"status": "retired"}
    families = table("models")["family"]
    columns = families["any"] | families[row.get("family", "any")] | row
    columns.pop("family", None)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in columns.items()}
    return ChatModel(**values)


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in table("models")["model"]}


def listed() -> list[dict[str, str]]:
    """List ids and states of the chat models that are on offer."""
    rows = [chat_model(name) for name in _rows()]
    return [{"id": row.id, "status": row.status} for row in rows if row.served]
