"""Build the body of a chat request from what the caller set. Pure.

Source: the guide, text generation, request parameters. The catalogue's row of a model holds which
reasoning settings it accepts: what it would refuse or ignore becomes an error, or the nearest
accepted value and a warning.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage, SystemMessage

from langchain_tokenhub import catalogue
from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.chat.content import Rules
from langchain_tokenhub.chat.messages import encode_messages
from langchain_tokenhub.chat.tools import encode_tools, without_nullable
from langchain_tokenhub.errors import InvalidRequestError

Body = dict[str, Any]
Fields = Mapping[str, Any]
Row = catalogue.ChatModel | None

MAX_STOPS = 4
"""Stop sequences in one request (the guide, parameter `stop`)."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Values of `reasoning_effort`, in ascending order; each model accepts some (catalogue)."""

SETTINGS = (
    *("temperature", "top_p", "max_tokens", "stop", "seed", "n"),
    *("thinking", "reasoning_effort"),
)
"""Fields of the model that are fields of the body too."""
CONNECTION = ("timeout", "max_retries", "default_headers")
"""Fields that change how a call is made, not what is sent."""
FIXED = frozenset({"streaming", "api_key", "site", "base_url", "http_client", "http_async_client"})
"""Fields that a call cannot change, in addition to LangChain's own."""
ALIASES = {
    "model_name": "model",
    "stop_sequences": "stop",
    "request_timeout": "timeout",
    "extra_headers": "default_headers",
    "headers": "default_headers",
}
"""Other names of fields, as used by LangChain's packages and OpenAI's."""
_OF_CALLS = frozenset({*CONNECTION, "model_kwargs", "extra_body", "stream_usage"})
_OPTIONS = _OF_CALLS | {
    *("stream", "ls_structured_output_format", "answer_schema", "answer_tools", "has_fallback")
}
"""Keywords of a call that are not fields of the body."""
_NOT_SENT = FIXED | _OF_CALLS | ALIASES.keys()
"""Names of this package's fields, which are never sent in a body."""
_KNOWN = frozenset({*SETTINGS, *ALIASES, *_OPTIONS, *FIXED}) | {
    *("model", "tools", "tool_choice", "strict", "parallel_tool_calls", "response_format"),
    *("max_completion_tokens", "stream_options"),
}
"""Keywords that a misspelt one is compared with; others are sent too."""
_SIMILARITY = 0.87
"""Similarity from which a name is taken for a misspelt one: `max_token`, but not `top_k`."""
_SECRET_HEADERS = frozenset({"authorization", "proxy_authorization", "cookie"})
_UNFORCED: Fields = {"tool_choice": "auto"}


# -- the keywords of a call -----------------------------------------------------------------------


def read_kwargs(kwargs: Fields) -> dict[str, Any]:
    """Return a call's keywords by the names of the fields, including those in `model_kwargs`.

    Those that a call cannot change are refused.
    """
    given = {**_mapping(kwargs, "model_kwargs"), **kwargs}
    given.pop("model_kwargs", None)
    for alias, name in ALIASES.items():
        if alias in given and name in given:
            raise InvalidRequestError(f"{name} and {alias} are one field; pass one of them")
    read = {ALIASES.get(name, name): value for name, value in given.items()}
    for name in read:
        if name in FIXED or name in BaseChatModel.model_fields or _is_secret(name):
            raise InvalidRequestError(
                f"{name}: a call cannot change it",
                hint="create another ChatTokenHub with it; they share connections",
            )
    for name in _mapping(read, "default_headers"):
        if _is_secret(name) or name.lower().replace("-", "_") in _SECRET_HEADERS:
            raise InvalidRequestError(
                f"default_headers: {name!r} is a secret, and traces show the keywords of a call",
                hint="pass it to ChatTokenHub(default_headers=…)",
            )
    return read


def warn_of_misspelling(names: Iterable[str]) -> None:
    """Warn of each of a call's keywords that seems to be another one, misspelt."""
    for name in names:
        if name not in _KNOWN and (
            near := difflib.get_close_matches(name, _KNOWN, n=1, cutoff=_SIMILARITY)
        ):
            warn_user(f"{name!r} is sent, but is not a known parameter; did you mean {near[0]!r}?")


def _mapping(kwargs: Fields, name: str) -> Fields:
    value = kwargs.get(name) or {}
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{name}: a {type(value).__name__}, not a dict")
    return value


def _is_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return plain.endswith(("api_key", "apikey")) or plain == "authorization"


def check_parameters(body: Fields) -> None:
    """Refuse values that the service refuses according to the guide, and what must not be sent."""
    for name in body:
        if name in _NOT_SENT or _is_secret(name):
            raise InvalidRequestError(
                f"{name}: not a field of the request body",
                hint="pass it to ChatTokenHub as one of its fields: "
                "api_key, default_headers, timeout, max_retries, …",
            )
    for name, most in (("temperature", 2), ("top_p", 1)):
        if not _is_number(body.get(name), int | float, 0, most):
            raise InvalidRequestError(f"{name}: {body[name]!r} is not a number from 0 to {most}")
    for name in ("max_tokens", "max_completion_tokens"):
        if not _is_number(body.get(name), int, 1, float("inf")):
            raise InvalidRequestError(
                f"{name}: {body[name]!r} is not a number of tokens, 1 or more"
            )
    _check_stops(body.get("stop"))
    if body.get("n") not in (None, 1):
        raise InvalidRequestError(
            f"n: {body['n']!r}; at most 1 answer per call",
            hint="call `batch` with the same prompt for several answers",
        )


def _is_number(value: Any, kind: type | UnionType, least: float, most: float) -> bool:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return value is None or (is_number and least <= value <= most)


def _check_stops(stop: object) -> None:
    stops = [stop] if isinstance(stop, str) else stop or ()
    if not isinstance(stops, Sequence) or not all(isinstance(one, str) and one for one in stops):
        raise InvalidRequestError(f"stop: {stop!r} is not a string, or a list of strings")
    if len(stops) > MAX_STOPS:
        raise InvalidRequestError(f"stop: {len(stops)} sequences, at most {MAX_STOPS}")


# -- the body -------------------------------------------------------------------------------------


def build_body(
    settings: Fields, messages: Sequence[BaseMessage], stop: Sequence[str] | None, kwargs: Fields
) -> Body:
    """Return the body of a request, without the fields that only a stream has.

    `settings` are the model's id and the fields that the caller set on it; `stop` and `kwargs`, as
    `read_kwargs` returned them, are of this call and override them.
    """
    body = {**settings, **{name: v for name, v in kwargs.items() if name not in _OPTIONS}}
    body |= {"stop": stop} if stop else {}
    body |= _mapping(kwargs, "extra_body")
    check_parameters(body)
    model = body["model"] = str(body["model"])
    row = catalogue.chat_model(model)
    body = _with_thinking(_with_tools(_with_format(body), row), row)
    if row and not row.forced_tools_while_thinking and _forces(body) and _is_reasoning(row, body):
        body |= _fields_to_change(body, row, kwargs, is_second=False)
    history = [*map(SystemMessage, _prompts(body, kwargs)), *messages]
    rules = Rules(model=model, row=row, is_reasoning=_is_reasoning(row, body))
    body = {"model": model, "messages": encode_messages(history, rules), **body}
    body.pop("stream", None)
    limit = body.pop("max_tokens", None)
    body |= {row.max_tokens_field if row else "max_tokens": limit} if limit is not None else {}
    return {name: value for name, value in body.items() if value is not None}


def _with_format(body: Body) -> Body:
    match body.get("response_format"):
        case {"json_schema": {"schema": Mapping() as schema, **named}, **rest}:
            shape = {**named, "schema": without_nullable(schema)}
            return {**body, "response_format": {**rest, "json_schema": shape}}
    return {**body}


def _with_tools(body: Body, row: Row) -> Body:
    """Return the body with its tools encoded; an empty list would be refused, and is omitted."""
    tools, choice, strict = (body.pop(name, None) for name in ("tools", "tool_choice", "strict"))
    encoded = encode_tools(tools or (), choice, strict=strict) if tools or choice else {}
    if not encoded:
        body.pop("parallel_tool_calls", None)
    elif row and row.tools is False:
        raise InvalidRequestError(
            f"{body['model']!r} does not support tools",
            hint="choose a model that does; with_structured_output works without tools",
        )
    return {**body, **encoded}


def _prompts(body: Fields, kwargs: Fields) -> list[str]:
    """Return instructions that no field of the body can express."""
    prompts = []
    if schema := kwargs.get("answer_schema"):
        prompts.append(
            "Answer with one JSON object and nothing else. It matches this JSON schema: "
            + json.dumps(schema, ensure_ascii=False)
        )
    if (tools := kwargs.get("answer_tools")) and body.get("tool_choice") == "auto":
        names = " or ".join(tools)
        prompts.append(f"Give your final answer by calling the tool {names}, not as text.")
    return prompts


# -- reasoning ------------------------------------------------------------------------------------


def _is_reasoning(row: Row, body: Fields) -> bool:
    asked = body.get("thinking")
    if isinstance(asked, Mapping) and "type" in asked:
        return bool(asked["type"] != "disabled")
    if body.get("reasoning_effort") == "none":
        return False
    return row.reasons_by_default if row else asked is None


def _with_thinking(body: Body, row: Row) -> Body:
    body = {**body}
    asked, effort = body.pop("thinking", None), body.pop("reasoning_effort", None)
    can_stop = row and row.thinking_switchable and "none" not in row.reasoning_effort
    if asked is None and effort == "none" and can_stop:
        asked = False
    word = asked.get("type") if isinstance(asked, Mapping) else asked
    is_off = word is False or word == "disabled"
    if is_off and effort not in (None, "none"):
        warn_user(f"thinking is off: reasoning_effort {effort!r} is not sent")
    elif effort == "none" and word is not None and not is_off:
        raise InvalidRequestError(
            f"thinking={word!r} and reasoning_effort='none' contradict each other",
            hint="leave one of them out",
        )
    if asked is not None:
        body["thinking"] = _thinking(asked, row, body["model"])
    if effort is not None and not is_off:
        body["reasoning_effort"] = _effort(effort, row)
    return body


def _thinking(asked: Any, row: Row, model: str) -> Body | None:
    match asked:
        case Mapping() if row and not row.thinking_field:
            raise InvalidRequestError(
                f"thinking: {model!r} does not accept this field", hint="use reasoning_effort"
            )
        case {"type": True | False | "enabled" | "disabled" | "adaptive" as word}:
            return {**asked, **(_switch(word, row, model) or {})}
        case Mapping():
            return {**asked}
        case True | False | "enabled" | "disabled" | "adaptive":
            return _switch(asked, row, model)
        case _:
            raise InvalidRequestError(
                f"thinking: {asked!r}; use True, False, 'enabled', 'disabled', 'adaptive' or a dict"
            )


def _switch(asked: object, row: Row, model: str) -> Body | None:
    """Return the field that switches reasoning on or off, None if the model needs none."""
    is_off = asked in {False, "disabled"}
    word = "disabled" if is_off else "adaptive" if asked == "adaptive" else "enabled"
    if row is None or (row.thinking_default is None and row.thinking_switchable is None):
        return {"type": word}  # not known: the service decides
    if row.thinking_switchable:
        return {"type": row.thinking_on if word == "enabled" else word}
    if row.reasons_by_default != is_off:
        return None  # it does so anyway
    if is_off:
        problem, hint = "always reasons", "choose another model"
    else:
        problem, hint = "has no thinking mode", "choose a model that reasons"
    raise InvalidRequestError(f"thinking: {model!r} {problem}", hint=hint)


def _effort(asked: object, row: Row) -> str:
    """Return the nearest effort that the model accepts; it would silently ignore any other."""
    effort = str(asked)
    if row is None:
        return effort
    known = row.reasoning_effort
    if asked not in EFFORTS:
        words = ", ".join(known or EFFORTS)
        raise InvalidRequestError(f"reasoning_effort: {asked!r}; use one of {words}")
    if row.thinking_default == "none":
        warn_user(f"{row.id!r} does not reason: reasoning_effort has no effect")
    elif not known:
        warn_user(f"{row.id!r} is not known to support reasoning_effort")
    if not known or effort in known:
        return effort
    some = [word for word in known if word != "none"] or known  # little reasoning is not none
    place = EFFORTS.index(effort)
    nearest = min(some, key=lambda word: abs(EFFORTS.index(word) - place))
    words = ", ".join(known)
    warn_user(f"reasoning_effort {effort!r} is sent as {nearest!r}: {row.id!r} accepts {words}")
    return nearest


# -- forced tools and reasoning --------------------------------------------------------------------


def fields_after_refusal(
    body: Fields, refusal: InvalidRequestError, changes: Fields, kwargs: Fields
) -> Fields:
    """Return the fields with which a refused forced call is sent again, or raise the refusal.

    Nothing is known of an `ep-…` id in advance. All known refusals name the field, such as
    "Thinking mode does not support this tool_choice". `changes` is what was returned for the
    previous refusal, empty for the first one.
    """
    is_about_tools = bool(changes) or "tool_choice" in refusal.message
    if not _forces(body) or not is_about_tools or changes == _UNFORCED:
        raise refusal
    row = catalogue.chat_model(body["model"])
    return _fields_to_change(body, row, kwargs, is_second=bool(changes))


def _forces(body: Fields) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def _fields_to_change(body: Fields, row: Row, kwargs: Fields, *, is_second: bool) -> Fields:
    """Return the fields to change: reasoning is switched off, or the call is no longer forced."""
    can_stop = row is None or row.thinking_switchable
    if not is_second and can_stop and _is_reasoning(row, body):
        return {"thinking": {"type": "disabled"}, "reasoning_effort": None}
    if not (kwargs.get("answer_tools") or kwargs.get("has_fallback")):  # nothing else handles it
        model = body["model"]
        warn_user(
            f"{model!r} reasons and cannot be forced to call a tool; sent with tool_choice 'auto'"
        )
    return _UNFORCED
