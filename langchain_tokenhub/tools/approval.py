"""Ask a person before money is spent, with the price in the question."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool

from langchain_tokenhub.catalogue import FxTemplate, Price, fx_template, media_model
from langchain_tokenhub.tools.media_tools import MediaTool

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


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a call costs, in CNY.

    Args:
        low: At least, as far as known.
        high: At most, as far as known.
        source: Page that the price was read from.
        date: When.
    """

    low: float
    high: float
    source: str
    date: str

    def __str__(self) -> str:
        amount = f"{self.low:g}" if self.low == self.high else f"{self.low:g}–{self.high:g}"
        return f"about {amount} CNY (estimate; {self.source}, {self.date})"


def estimate(model: str, params: Mapping[str, Any]) -> Estimate | None:
    """Return what a call of `model` with `params` costs, or None where no price is known."""
    known = media_model(model)
    if known is None or known.price is None:
        return None
    price = known.price
    if str(params.get("job_id") or "").strip():
        low = high = 0.0  # a resumed job was paid for
    else:
        low, high = _credits(price, params)
    return Estimate(
        low=round(low * price.cny_per_credit, 2),
        high=round(high * price.cny_per_credit, 2),
        source=price.source,
        date=price.date,
    )


def _credits(price: Price, params: Mapping[str, Any]) -> tuple[float, float]:
    more = sum(extra for name, extra in price.extras.items() if params.get(name))
    low, high = _base(price, params)
    return low + more, high + more


def _base(price: Price, params: Mapping[str, Any]) -> tuple[float, float]:
    said = (params.get(price.by) if price.by else None) or price.default_variant
    match price.per:
        case "template":
            return _template(price, fx_template(str(params.get("template"))), said, params)
        case "second":
            rate = price.variants.get(str(said), price.high)
            return 2 * rate, 60 * rate  # the audio lasts 2 to 60 s
        case _:
            fixed = price.variants.get(str(said)) if price.by else None
            return (fixed, fixed) if fixed is not None else (price.low, price.high)


def _template(
    price: Price, effect: FxTemplate | None, said: Any, params: Mapping[str, Any]
) -> tuple[float, float]:
    credits_ = effect.credits.get(str(said)) if effect else None
    if effect is None or credits_ is None:
        return price.low, price.high
    images = params.get("images")
    count = len(images) if isinstance(images, list) and effect.per_extra_image else 2
    return credits_ * max(1, count - 1), credits_ * max(1, count - 1)
