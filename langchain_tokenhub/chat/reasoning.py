"""Thinking: whether a model thinks, how to ask for it, and what it excludes. Pure.

Every rule is a row of the catalogue; rows name their sources. What a model would refuse or ignore
becomes an error, or the nearest thing it takes and a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_tokenhub import catalogue
from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.errors import InvalidRequestError

Body = dict[str, Any]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Words for effort, from no thinking to most of it; each model takes some (catalogue)."""
_WORDS = {
    True: "enabled",
    False: "disabled",
    "enabled": "enabled",
    "disabled": "disabled",
    "adaptive": "adaptive",
}


def thinks(row: catalogue.ChatModel | None, body: Mapping[str, Any]) -> bool:
    """Return True if the model thinks in a request with this body."""
    asked = body.get("thinking")
    if isinstance(asked, Mapping) and "type" in asked:
        return bool(asked["type"] != "disabled")
    if body.get("reasoning_effort") == "none":
        return False
    default = row.thinking_default if row else None
    return default in {"enabled", "adaptive"} or (row is None and asked is None)


def with_thinking(body: Body, row: catalogue.ChatModel | None, model: str) -> Body:
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
        encoded = _thinking(thinking, row, model)
        body |= {"thinking": encoded} if encoded else {}
    if effort is not None:
        body["reasoning_effort"] = _effort(effort, row)
    return body


def _agreeing(effort: object, thinking: object) -> object:
    """Return the effort that goes with `thinking`, None where thinking is off.

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
    """Return the caller's dict with its `type` as the model takes it."""
    if row and not row.thinking_field:
        raise InvalidRequestError(
            f"thinking: {model!r} takes no such field", hint="use reasoning_effort"
        )
    encoded = _thinking(asked["type"], row, model) if asked.get("type") in _WORDS else None
    return {**asked, **(encoded or {})}


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
    """Return the nearest effort that the model takes; it would silently ignore any other."""
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
    # little thinking is not none
    some = [word for word in known if word != "none"] or known
    nearest = min(some, key=lambda word: abs(EFFORTS.index(word) - place))
    words = ", ".join(known)
    warn_user(f"reasoning_effort {effort!r} is sent as {nearest!r}: {row.id!r} takes {words}")
    return nearest


def can_force(row: catalogue.ChatModel | None) -> bool:
    """Return True if the model is known to call a forced tool, with thinking off if need be."""
    if row is None or row.forced_tools_while_thinking:
        return row is not None
    return bool(row.thinking_switchable and row.thinking_field) or not thinks(row, {})


def with_forced_tools(
    body: Body, row: catalogue.ChatModel | None, model: str, *, warn: bool
) -> Body:
    """Return a body whose forced tool call the model accepts, although it thinks by default."""
    if not _forces(body) or row is None:
        return body
    if row.forced_tools_while_thinking or not thinks(row, body):
        return body
    if row.thinking_switchable and row.thinking_field:
        return {**body, **_THINKING_OFF}
    if warn:
        _warn_unforced(model)
    return {**body, **_UNFORCED}


def after_refusal(
    body: Body, refusal: InvalidRequestError, changes: Mapping[str, Any], *, warn: bool
) -> Mapping[str, Any]:
    """Return the fields with which a refused forced call is sent again.

    Nothing is known of an `ep-…` id beforehand. Upstream's refusals all name the field: "Thinking
    mode does not support this tool_choice" and the like.

    Args:
        body: What was refused.
        refusal: What the service answered.
        changes: What this returned for the refusal before, empty for the first one.
        warn: Whether to warn that the call is no longer forced.

    Raises:
        InvalidRequestError: The refusal itself, if nothing is left to try.
    """
    if not _forces(body) or changes == _UNFORCED:
        raise refusal
    if not changes and "tool_choice" not in refusal.message:
        raise refusal
    model = str(body["model"])
    row = catalogue.chat_model(model)
    if not changes and thinks(row, body) and _may_stop(row):
        return _THINKING_OFF
    if warn:
        _warn_unforced(model)
    return _UNFORCED


_THINKING_OFF: Mapping[str, Any] = {"thinking": {"type": "disabled"}, "reasoning_effort": None}
_UNFORCED: Mapping[str, Any] = {"tool_choice": "auto"}


def _may_stop(row: catalogue.ChatModel | None) -> bool:
    """Return True unless thinking is known not to be switchable."""
    return row is None or (row.thinking_field and row.thinking_switchable is not False)


def _forces(body: Mapping[str, Any]) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def _warn_unforced(model: str) -> None:
    warn_user(f"{model!r} thinks and cannot be forced to call a tool; asked with 'auto'")
