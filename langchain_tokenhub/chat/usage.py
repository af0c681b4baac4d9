"""Token counts, in every spelling that the gateway and the models behind it use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata


def decode_usage(usage: object) -> UsageMetadata | None:
    """Return LangChain's counts, or None if there are none.

    The guide spells `prompt_tokens_details.cached_token`, today's answers `cached_tokens`; some
    models behind the gateway send `prompt_cache_hit_tokens`, and some send numbers as strings.
    Details never exceed what they are a part of.
    """
    if not isinstance(usage, Mapping) or not usage:
        return None
    given = _count(usage, "prompt_tokens", "input_tokens") or 0
    made = _count(usage, "completion_tokens", "output_tokens") or 0
    counts = UsageMetadata(
        input_tokens=given,
        output_tokens=made,
        total_tokens=max(_count(usage, "total_tokens") or 0, given + made),
    )
    cached = _first(
        _count(_part(usage, "prompt_tokens_details"), "cached_tokens", "cached_token"),
        _count(usage, "cache_read_tokens", "prompt_cache_hit_tokens"),
    )
    if cached is not None:
        counts["input_token_details"] = InputTokenDetails(cache_read=min(cached, given))
    thought = _count(_part(usage, "completion_tokens_details"), "reasoning_tokens")
    if thought is not None:
        counts["output_token_details"] = OutputTokenDetails(reasoning=min(thought, made))
    return counts


def _part(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = usage.get(name)
    return part if isinstance(part, Mapping) else {}


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


def _count(values: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if (count := _number(values.get(name))) is not None:
            return count
    return None


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return max(0, int(float(value)))
    except (ValueError, OverflowError):
        return None
