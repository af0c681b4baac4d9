"""What is asked of a model, and what is written down of it: no files, whatever it held. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PLAIN = 2000
"""Characters of a parameter that are written down; longer ones are files."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is wanted.

    Args:
        body: The parameters as they are sent.
        title: What a saved file is called after.
        key: The call's key in the ledger.
    """

    body: Mapping[str, Any]
    title: str = ""
    key: str = ""

    def noted(self) -> dict[str, Any]:
        """Return what is written down: the files inside the parameters are not."""
        return {"title": self.title, "parameters": _short(self.body)}


def order_noted(noted: Any, key: str = "") -> Order | None:
    """Return the order that was written down, where there is one."""
    match noted:
        case {"title": str() as title, "parameters": dict() as parameters}:
            return Order(body=parameters, title=title, key=key)
        case _:
            return None


def _short(value: Any) -> Any:
    """Return parameters without the files inside them."""
    match value:
        case Mapping():
            return {name: _short(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_short(inner) for inner in value]
        case str() if len(value) > _PLAIN and " " not in value[:200]:
            return f"({len(value)} characters of base64)"
        case _:
            return value
