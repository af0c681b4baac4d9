"""Thinking: whether a model does, how to ask for it, and what it forbids meanwhile. Pure.

Every rule is a row of the catalogue; rows name their sources. What a model would refuse or ignore
becomes a clear error, or the nearest thing it takes with a warning; never a silent nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_tokenhub import catalogue
from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError

Body = dict[str, Any]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Words for effort, from no thinking to most of it; each model knows some (catalogue)."""
_WORDS = {
    True: "enabled",
    False: "disabled",
    "enabled": "enabled",
    "disabled": "disabled",
    "adaptive": "adaptive",
}


def thinks(row: catalogue.ChatModel | None, body: Mapping[str, Any]) -> bool:
    """Say whether the model thinks in a request with this body."""
    asked = body.get("thinking")
    if isinstance(asked, Mapping) and "type" in asked:
        return bool(asked["type"] != "disabled")
    if body.get("reasoning_effort") == "none":
        return False
    default = row.thinking_default if row else None
    return default in {"enabled", "adaptive"} or (row is None and asked is None)


def with_thinking(body: Body, row: catalogue.ChatModel | None) -> Body:
    """Return the body with `thinking` and `reasoning_effort` as the model takes them.

    Raises:
        InvalidRequestError: The model cannot do what is asked.
    """
    body = {**body}
    thinking, effort = body.pop("thinking", None), body.pop("reasoning_effort", None)
    if effort == "none" and thinking is None and _stops_by_field(row):
        thinking, effort = False, None  # the model has no such effort, but can stop
    effort = _agreeing(effort, thinking)
    if thinking is not None:
        wire = _thinking(thinking, row, str(body.get("model")))
        body |= {"thinking": wire} if wire else {}
    if effort is not None:
        body["reasoning_effort"] = _effort(effort, row)
    return body


def _agreeing(effort: object, thinking: object) -> object:
    """Return the effort that goes with `thinking`, None where there is no thinking to make it.

    Raises:
        InvalidRequestError: One says to think, the other not to.
    """
    if effort is None or thinking is None:
        return effort
    word = thinking.get("type") if isinstance(thinking, Mapping) else thinking
    off = word in {False, "disabled"} if isinstance(word, (bool, str)) else False
    if not off and effort == "none" and word is not None:
        raise InvalidRequestError(
            f"thinking={word!r} and reasoning_effort='none' contradict each other",
            hint="leave one of them out",
        )
    if off and effort != "none":
        warn_user(f"thinking is off: reasoning_effort {effort!r} is not sent")
    return None if off else effort


def _stops_by_field(row: catalogue.ChatModel | None) -> bool:
    return bool(
        row
        and row.thinking_field
        and row.thinking_switchable
        and "none" not in row.reasoning_effort
    )


def _thinking(asked: object, row: catalogue.ChatModel | None, model: str) -> Body | None:
    if isinstance(asked, Mapping):
        return _details(asked, row, model)
    word = _WORDS.get(asked) if isinstance(asked, (bool, str)) else None
    if word is None:
        raise InvalidRequestError(
            f"thinking: {asked!r}; use True, False, 'enabled', 'disabled', 'adaptive' or a dict"
        )
    if row is None or (row.thinking_default is None and row.thinking_switchable is None):
        return {"type": word}  # not known: the service decides
    return _off(row, model) if word == "disabled" else _on(word, row, model)


def _details(asked: Mapping[str, Any], row: catalogue.ChatModel | None, model: str) -> Body:
    """Return a dict of the caller's, its `type` as the model takes it."""
    if row and not row.thinking_field:
        raise InvalidRequestError(
            f"thinking: {model!r} takes no such field", hint="use reasoning_effort"
        )
    wire = _thinking(asked["type"], row, model) if asked.get("type") in _WORDS else None
    return {**asked, **(wire or {})}


def _off(row: catalogue.ChatModel, model: str) -> Body | None:
    if row.thinking_switchable:
        return {"type": "disabled"}
    if row.thinking_default in {"enabled", "adaptive"}:
        raise InvalidRequestError(
            f"thinking: {model!r} cannot stop thinking", hint="choose another model"
        )
    return None  # it does not think anyway


def _on(word: str, row: catalogue.ChatModel, model: str) -> Body | None:
    if row.thinking_switchable and row.thinking_field:
        return {"type": row.thinking_on if word == "enabled" else word}
    if row.thinking_default in {"enabled", "adaptive"}:
        return None  # it thinks anyway
    raise InvalidRequestError(
        f"thinking: {model!r} has no thinking mode", hint="choose a model that thinks"
    )


def _effort(asked: object, row: catalogue.ChatModel | None) -> str:
    """Return the nearest effort that the model knows; others it would ignore without a word."""
    if row is None:
        return str(asked)
    if asked not in EFFORTS:
        words = ", ".join(row.reasoning_effort or EFFORTS)
        raise InvalidRequestError(f"reasoning_effort: {asked!r}; use one of {words}")
    effort = str(asked)
    if row.thinking_default == "none":
        warn_user(f"{row.id!r} does not think: reasoning_effort has no effect")
    known = row.reasoning_effort
    if not known and row.thinking_default != "none":
        warn_user(f"{row.id!r} is not known to heed reasoning_effort")
    if not known or effort in known:
        return effort
    place = EFFORTS.index(effort)
    # who asks for little thinking does not ask for none
    some = [word for word in known if word != "none"] or known
    nearest = min(some, key=lambda word: abs(EFFORTS.index(word) - place))
    words = ", ".join(known)
    warn_user(f"reasoning_effort {effort!r} is sent as {nearest!r}: {row.id!r} knows {words}")
    return nearest


def can_force(row: catalogue.ChatModel | None) -> bool:
    """Say whether the model is known to call a forced tool, thinking off where that needs it."""
    if row is None or row.forced_tools_while_thinking:
        return row is not None
    return bool(row.thinking_switchable and row.thinking_field) or not thinks(row, {})


def with_forced_tools(body: Body, row: catalogue.ChatModel | None) -> Body:
    """Return a body whose forced tool call the model accepts while it would think."""
    if not _forces(body) or row is None:
        return body
    if row.forced_tools_while_thinking or not thinks(row, body):
        return body
    if row.thinking_switchable and row.thinking_field:
        calm = {name: value for name, value in body.items() if name != "reasoning_effort"}
        return {**calm, "thinking": {"type": "disabled"}}
    _warn_unforced(body)
    return {**body, **_UNFORCED}


def after_refusal(
    body: Body, refusal: InvalidRequestError, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the fields that a refused forced call is asked again with.

    Nothing is known of an `ep-…` id beforehand. Upstream's refusals all name the field: "Thinking
    mode does not support this tool_choice" and the like.

    Args:
        body: What was refused.
        refusal: What the service said.
        given: What this returned for the refusal before, empty for the first one.

    Raises:
        InvalidRequestError: The refusal itself, where nothing is left to try.
    """
    if not _forces(body) or given == _UNFORCED:
        raise refusal
    if not given and "tool_choice" not in refusal.message:
        raise refusal
    row = catalogue.chat_model(str(body["model"]))
    if not given and thinks(row, body) and _may_stop(row):
        return _CALM
    _warn_unforced(body)
    return _UNFORCED


_CALM: Mapping[str, Any] = {"thinking": {"type": "disabled"}, "reasoning_effort": None}
_UNFORCED: Mapping[str, Any] = {"tool_choice": "auto"}


def _may_stop(row: catalogue.ChatModel | None) -> bool:
    """Say whether nothing is known against switching thinking off."""
    return row is None or (row.thinking_field and row.thinking_switchable is not False)


def _forces(body: Mapping[str, Any]) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def _warn_unforced(body: Mapping[str, Any]) -> None:
    warn_user(
        f"{body.get('model')!r} thinks and cannot be forced to call a tool; asked with 'auto'"
    )
