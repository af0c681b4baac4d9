"""Approval of tool calls by a person, with an estimate of the price."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.catalogue import estimate_price
from langchain_tokenhub.tools.media_tools import MediaTool

if TYPE_CHECKING:
    from langchain.agents.middleware import HumanInTheLoopMiddleware
    from langchain.agents.middleware.human_in_the_loop import InterruptOnConfig
    from langchain_core.messages import ToolCall


def approve_above(cny: float, tools: Iterable[BaseTool]) -> HumanInTheLoopMiddleware[Any, Any, Any]:
    """Return middleware that asks before a call whose estimated price is above `cny`.

    It also asks before a call without a known price. Estimates are list prices of the month named
    in the question. Requires the extra `agents`.

    Args:
        cny: Yuan, from 0, up to which a call needs no approval.
        tools: The agent's tools; those of other packages need no approval.

    Raises:
        ValueError: `cny` is negative or not a number.

    Example:
        ```python
        tools = TokenHubToolkit().get_tools()
        agent = create_agent(model, tools, middleware=[approve_above(2, tools)])
        ```
    """
    from langchain.agents.middleware import HumanInTheLoopMiddleware

    if not cny >= 0:  # also refuses NaN
        raise ValueError(f"cny: {cny!r} is not an amount in yuan from 0")
    paid = {
        tool.name: _interrupt_config(tool, cny) for tool in tools if isinstance(tool, MediaTool)
    }
    if not paid:
        warn_user("approve_above: none of the tools is a paid TokenHub tool")
    return HumanInTheLoopMiddleware(interrupt_on={**paid})


def _interrupt_config(tool: MediaTool, cny: float) -> InterruptOnConfig:
    def describe(tool_call: ToolCall, state: Any, runtime: Any) -> str:  # noqa: ARG001 - by name
        price = estimate_price(tool.model, tool_call["args"])
        args = ", ".join(f"{name}={value!r}" for name, value in tool_call["args"].items())
        return f"{tool.model}: {price or 'price not known'}. {args}"

    def needs_approval(request: Any) -> bool:
        price = estimate_price(tool.model, request.tool_call["args"])
        return price is None or price.high > cny

    return {
        "allowed_decisions": ["approve", "edit", "reject"],
        "description": describe,
        "when": needs_approval,
    }
