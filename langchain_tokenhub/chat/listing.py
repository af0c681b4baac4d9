"""The models that a key may use: `GET /v1/models`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langchain_tokenhub.errors import ServerError, clean

PATH = "/v1/models"


@dataclass(frozen=True)
class ListedModel:
    """One model of the service, of any modality.

    Args:
        id: What goes into `model=`.
        name: For people; the id where the service gives none.
        status: `online`, or `pre-offline` for one that is about to go.
        created: When the service took it up.
    """

    id: str
    name: str
    status: str | None = None
    created: datetime | None = None


def decode_models(data: object) -> list[ListedModel]:
    """Return the models in an answer.

    Raises:
        ServerError: It is no list of models.
    """
    rows = data.get("data") if isinstance(data, Mapping) else None
    if not isinstance(rows, list):
        raise ServerError(f"the answer lists no models: {clean(str(data), 200)}", status=200)
    return [_model(row) for row in rows if isinstance(row, Mapping) and row.get("id")]


def _model(row: Mapping[str, Any]) -> ListedModel:
    name, status, created = (row.get(key) for key in ("name", "status", "created"))
    return ListedModel(
        id=str(row["id"]),
        name=str(name or row["id"]),
        status=str(status) if status else None,
        created=_moment(created),
    )


def _moment(seconds: object) -> datetime | None:
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return None
