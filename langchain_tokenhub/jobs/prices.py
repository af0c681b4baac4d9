"""What a job will cost, by the catalogue's list prices: an estimate, never a bill. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.catalogue import FxTemplate, Price, fx_template, media_model


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
