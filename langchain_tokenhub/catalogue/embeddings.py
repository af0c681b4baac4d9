"""The embedding models: sizes of vectors, limits, prices."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from langchain_tokenhub.catalogue.toml import rows


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """One row of embedding_models.toml, which explains the columns; None means not known."""

    id: str
    path: str
    max_characters: int
    dimensions: int | None = None
    context: int | None = None
    price_cny_per_m: float | None = None
    confidence: Literal["high", "medium", "low"] = "low"
    source: str = ""


def embedding_model(model: str) -> EmbeddingModel:
    """Return the row of `model` in any letter case, or the defaults for an unknown model."""
    known = _by_id().get(model.lower())
    return known or EmbeddingModel(id=model, **rows("embedding_models")["any"])


def embedding_models() -> tuple[EmbeddingModel, ...]:
    """Return every known embedding model."""
    return tuple(_by_id().values())


@functools.cache
def _by_id() -> dict[str, EmbeddingModel]:
    tables = rows("embedding_models")
    found = tables["model"].items()
    return {name: EmbeddingModel(**{"id": name} | tables["any"] | row) for name, row in found}
