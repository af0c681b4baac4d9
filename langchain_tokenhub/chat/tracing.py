"""What LangSmith shows of a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import LangSmithParams

from langchain_tokenhub.chat import PROVIDER


def ls_params(body: Mapping[str, Any], stop: Sequence[str] | None) -> LangSmithParams:
    """Return LangSmith's parameters for a body; the provider's name is the answers' own."""
    params = LangSmithParams(
        ls_provider=PROVIDER, ls_model_name=str(body["model"]), ls_model_type="chat"
    )
    if body.get("temperature") is not None:
        params["ls_temperature"] = body["temperature"]
    if body.get("max_tokens") is not None:
        params["ls_max_tokens"] = body["max_tokens"]
    if stops := stop or body.get("stop"):
        params["ls_stop"] = [stops] if isinstance(stops, str) else list(stops)
    return params
