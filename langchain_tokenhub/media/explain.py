"""Turns a failed validation into sentences that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_tokenhub.media.checks import without_query

if TYPE_CHECKING:
    from pydantic import ValidationError


def explain(error: ValidationError, *, model: str) -> str:
    """Return one line per problem: field, value, limit, next step; no prompt, no link's query."""
    problems = error.errors(include_url=False, include_input=False)
    return "\n".join(without_query(_sentence(dict(problem), model)) for problem in problems)


def _sentence(problem: dict[str, Any], model: str) -> str:
    place = ".".join(map(str, problem["loc"]))
    where = f"{place}: " if place else ""
    match problem:
        case {"ctx": {"what": what, "advice": advice}}:
            return f"{where}{what} ({model}); {advice}"
        case {"type": "missing"}:
            return f"{where}missing ({model}); it is required"
        case {"type": "extra_forbidden"}:
            return f"{where}not a parameter of {model}; check its name, or put it into extra="
        case _:
            return f"{where}{problem['msg']} ({model})"
