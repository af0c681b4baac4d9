"""The messages of a chat request: their shapes and their order. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from langchain_tokenhub.testing.errors import bad

Body = Mapping[str, Any]
_LINK = re.compile(r"https?://[^\s/]+")
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=\s]+")

_KEYS = {
    "system": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {
        "role", "content", "name", "tool_calls", "reasoning_content", "reasoning_details",
    },
    "tool": {"role", "content", "tool_call_id", "name"},
}  # fmt: skip
_MAY_FOLLOW = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant", "user"},
}


def _is_link(value: Any, *, data: bool) -> bool:
    url = value.get("url") if isinstance(value, dict) else None
    if not isinstance(url, str):
        return False
    return bool(_LINK.match(url) or (data and _DATA.match(url)))


_PARTS: dict[str, Callable[[Any], bool]] = {
    "text": lambda v: isinstance(v, str),
    "image_url": lambda v: (
        _is_link(v, data=True) and v.get("detail", "auto") in ("auto", "low", "high")
    ),
    "video_url": lambda v: _is_link(v, data=True),
    "file_url": lambda v: _is_link(v, data=False),
}


def check_messages(messages: Any) -> None:
    """Check shapes and order: system (optional), then user and assistant in turn.

    Raises:
        RefusedError: Naming the position.
    """
    if not isinstance(messages, list) or not messages:
        raise bad("Missing required parameter: 'messages' must be a non-empty list.")
    before, open_calls = "", set[str]()
    for at, message in enumerate(messages):
        role = _check_message(message, at)
        if role not in _MAY_FOLLOW[before]:
            after = f"after role '{before}'" if before else "first"
            raise bad(f"messages[{at}]: role '{role}' may not come {after}.")
        open_calls = _follow_calls(message, role, open_calls, at)
        before = role
    if before not in {"user", "tool"}:
        raise bad(f"messages[{len(messages) - 1}]: the last role must be 'user' or 'tool'.")
    _all_answered(open_calls, len(messages) - 1)


def _check_message(message: Any, at: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in _KEYS:
        raise bad(f"messages[{at}]: unknown role {role!r}.")
    if strange := set(message) - _KEYS[role]:
        raise bad(f"messages[{at}]: unknown field '{min(strange)}'.")
    _check_content(message, role, at)
    _check_calls(message, at)
    return role


def _follow_calls(message: Body, role: str, open_calls: set[str], at: int) -> set[str]:
    if role != "tool":
        _all_answered(open_calls, at)
        return {call["id"] for call in message.get("tool_calls") or []}
    answered = message.get("tool_call_id")
    if not isinstance(answered, str) or answered not in open_calls:
        raise bad(f"messages[{at}]: tool_call_id {answered!r} answers no tool call.")
    return open_calls - {answered}


def _all_answered(open_calls: set[str], at: int) -> None:
    if open_calls:
        raise bad(f"messages[{at}]: no tool message answers {', '.join(sorted(open_calls))}.")


def _check_content(message: Body, role: str, at: int) -> None:
    content = message.get("content")
    if content is None and role == "assistant" and message.get("tool_calls"):
        return
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        raise bad(f"messages[{at}]: 'content' must be a string or a list of parts.")
    allowed = _PARTS if role == "user" else {"text": _PARTS["text"]}
    for number, part in enumerate(content):
        _check_part(part, allowed, f"messages[{at}].content[{number}]")


def _check_part(part: Any, allowed: Mapping[str, Callable[[Any], bool]], where: str) -> None:
    kind = str(part.get("type")) if isinstance(part, dict) else "none"
    if kind not in allowed:
        raise bad(f"{where}: unsupported part type {kind!r}.")
    if strange := set(part) - {"type", kind}:
        raise bad(f"{where}: unknown field '{min(strange)}'.")
    if not allowed[kind](part.get(kind)):
        raise bad(f"{where}: bad value for '{kind}'.")


def _check_calls(message: Body, at: int) -> None:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list) or not calls or not all(_is_call(call) for call in calls):
        raise bad(f"messages[{at}]: malformed 'tool_calls'.")


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and call.get("type", "function") == "function"
        and isinstance(call.get("id"), str)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), str)
        and not set(call) - {"id", "type", "function", "index"}
    )
