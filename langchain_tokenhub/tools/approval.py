"""Ask a person before money is spent, with the price in the question."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from langchain_tokenhub.jobs.prices import estimate
from langchain_tokenhub.tools.tool import MediaTool

if TYPE_CHECKING:
    from langchain.agents.middleware import HumanInTheLoopMiddleware
    from langchain.agents.middleware.human_in_the_loop import InterruptOnConfig
    from langchain_core.messages import ToolCall


def approve_above(cny: float, tools: Iterable[BaseTool]) -> HumanInTheLoopMiddleware[Any, Any, Any]:
    """Return middleware that asks before a call whose estimate is above `cny`.

    A call whose price is not known is asked about too. Prices are list prices as read on the
    date that the question names: estimates, never a bill. Needs the extra `agents`.

    Args:
        cny: Yuan up to which a call is made without asking; 0 asks before every call that costs.
        tools: The agent's tools; those of other packages are left alone.

    Raises:
        ValueError: `cny` is below 0, or no number.

    Example:
        ```python
        tools = TokenHubToolkit().get_tools()
        agent = create_agent(model, tools, middleware=[approve_above(2, tools)])
        ```
    """
    from langchain.agents.middleware import HumanInTheLoopMiddleware

    if not cny >= 0:  # nothing is above "not a number"
        raise ValueError(f"cny: {cny!r} is no amount from 0")
    paid = {tool.name: _question(tool, cny) for tool in tools if isinstance(tool, MediaTool)}
    if not paid:
        warnings.warn("approve_above found no TokenHub tool that is paid for", stacklevel=2)
    return HumanInTheLoopMiddleware(interrupt_on={**paid})


def _question(tool: MediaTool, cny: float) -> InterruptOnConfig:
    # the middleware passes these by name
    def describe(tool_call: ToolCall, state: Any, runtime: Any) -> str:  # noqa: ARG001 - see above
        price = estimate(tool.model, tool_call["args"])
        args = ", ".join(f"{name}={value!r}" for name, value in tool_call["args"].items())
        return f"{tool.model}: {price or 'price not known'}. {args}"

    def is_dear(request: Any) -> bool:
        price = estimate(tool.model, request.tool_call["args"])
        return price is None or price.high > cny

    return {
        "allowed_decisions": ["approve", "edit", "reject"],
        "description": describe,
        "when": is_dear,
    }
