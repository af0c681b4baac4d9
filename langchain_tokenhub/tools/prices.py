"""Estimated prices of calls, from the list prices of the catalogue. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.catalogue import Price, fx_template, media_model


@dataclass(frozen=True, kw_only=True)
class PriceEstimate:
    """The estimated price of a call.

    Args:
        low: Lowest price, in CNY.
        high: Highest price, in CNY.
        source: Page that the price was read from.
        date: Month in which it was read.
    """

    low: float
    high: float
    source: str
    date: str

    def __str__(self) -> str:
        amount = f"{self.low:g}" if self.low == self.high else f"{self.low:g}–{self.high:g}"
        return f"about {amount} CNY (estimate; {self.source}, {self.date})"


def estimate_price(model: str, params: Mapping[str, Any]) -> PriceEstimate | None:
    """Return the estimated price of a call, or None if no price is known."""
    known = media_model(model)
    if known is None or known.price is None:
        return None
    price = known.price
    if str(params.get("job_id") or "").strip():
        low = high = 0.0  # a resumed job is not charged again
    else:
        low, high = _credits(price, params)
    return PriceEstimate(
        low=round(low * price.cny_per_credit, 2),
        high=round(high * price.cny_per_credit, 2),
        source=price.source,
        date=price.date,
    )


def _credits(price: Price, params: Mapping[str, Any]) -> tuple[float, float]:
    extras = sum(extra for name, extra in price.extras.items() if params.get(name))
    variant = (params.get(price.by) if price.by else None) or price.default_variant
    rate = price.variants.get(str(variant))
    match price.per:
        case "template":
            low, high = _template_credits(price, variant, params)
        case "second":
            rate = price.high if rate is None else rate
            low, high = 2 * rate, 60 * rate  # the audio lasts 2 to 60 s
        case _:
            low, high = (price.low, price.high) if rate is None else (rate, rate)
    return low + extras, high + extras


def _template_credits(
    price: Price, resolution: Any, params: Mapping[str, Any]
) -> tuple[float, float]:
    template = fx_template(str(params.get("template")))
    credits_ = template.credits.get(str(resolution)) if template else None
    if template is None or credits_ is None:
        return price.low, price.high
    images = params.get("images")
    count = len(images) if isinstance(images, list) and template.per_extra_image else 2
    total = credits_ * max(1, count - 1)
    return total, total
