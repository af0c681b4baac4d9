"""The media models and their kinds: paths, lifetimes, quotas and prices; the effect templates."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_tokenhub.catalogue.tables import rows, similar_id

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["image", "video", "3d"]


@dataclass(frozen=True, kw_only=True)
class Price:
    """List price of one job in credits, for estimates."""

    per: Literal["job", "image", "second", "template"]
    low: float
    high: float
    by: str | None = None
    """The parameter that selects one of `variants`."""
    variants: Mapping[str, float] = field(default_factory=dict)
    default_variant: str | None = None
    extras: Mapping[str, float] = field(default_factory=dict)
    """Credits added by the parameter of that name."""
    cny_per_credit: float = 1.2
    source: str = ""
    date: str = "2026-09"
    confidence: Literal["high", "medium", "low"] = "medium"

    @property
    def cny(self) -> str:
        """The range of the price in CNY."""
        amounts = (f"{amount * self.cny_per_credit:g}" for amount in (self.low, self.high))
        return "–".join(dict.fromkeys(amounts))


@dataclass(frozen=True, kw_only=True)
class MediaKind:
    """The defaults of a kind, which also hold for unknown and `ep-…` ids."""

    kind: Kind
    default_model: str
    submit_path: str
    query_path: str | None
    """None if the answer to the submit holds the result."""
    link_life: int
    """Seconds until a result's link expires."""
    job_life: int
    """Seconds until a job id expires."""
    max_in_flight: int
    typical_seconds: float | None
    """Median run time in seconds, from which the poll schedule starts."""
    wait_timeout: float
    """Default seconds to wait for a result."""
    tool_name: str
    purpose: str
    """First sentence of the tool's description."""
    purpose_zh: str


@dataclass(frozen=True, kw_only=True)
class MediaModel(MediaKind):
    """A row of media_models.toml, completed with the defaults of its kind."""

    id: str
    display: str
    price: Price | None
    source: str


@dataclass(frozen=True, kw_only=True)
class FxTemplate:
    """One effect of yt-video-fx."""

    id: str
    name_zh: str | None = None
    images_min: int = 1
    images_max: int = 1
    images_known: bool = False
    """False if one image is an assumption."""
    credits: Mapping[str, float] = field(default_factory=dict)
    """Credits by resolution; empty if not known."""
    per_extra_image: bool = False
    """True if the credits are due for each image after the first."""


def media_model(model: str) -> MediaModel | None:
    """Return the row of `model` in any letter case, None for an unknown or `ep-…` id."""
    return _by_id().get(model.lower())


def similar_media_model(model: str, kind: Kind | None = None) -> MediaModel | None:
    """Return the model that `model` may be a misspelling of; other versions do not count."""
    near = similar_id(model, [row.id for row in media_models() if kind in {None, row.kind}])
    return media_model(near) if near else None


def media_models() -> tuple[MediaModel, ...]:
    """Return the nine media models: image, video, 3D."""
    return tuple(_by_id().values())


@functools.cache
def media_kind(kind: str) -> MediaKind:
    """Return the defaults of "image", "video" or "3d"."""
    kinds: dict[str, dict[str, Any]] = rows("media_models")["kind"]
    if kind not in kinds:
        raise ValueError(f"kind: {kind!r} is not known; choose one of {', '.join(kinds)}")
    return MediaKind(**{"kind": kind, **kinds[kind]})


@functools.cache
def fx_templates() -> tuple[FxTemplate, ...]:
    """Return the effect templates of yt-video-fx as read on 2026-07-23."""
    return tuple(_fx_template(row) for row in rows("fx_templates")["template"])


def fx_template(name: str) -> FxTemplate | None:
    """Return the effect called `name`, None if it is not listed."""
    return next((template for template in fx_templates() if template.id == name), None)


@functools.cache
def _by_id() -> dict[str, MediaModel]:
    tables = rows("media_models")
    return {
        name: _media_model({"id": name} | tables["kind"][row["kind"]] | row)
        for name, row in tables["model"].items()
    }


def _media_model(row: dict[str, Any]) -> MediaModel:
    # TOML has no null: "" and 0 stand for None
    optional = {key: row[key] or None for key in ("query_path", "typical_seconds")}
    price = Price(**row["price"]) if "price" in row else None
    return MediaModel(**{**row, **optional, "price": price})


def _fx_template(row: dict[str, Any]) -> FxTemplate:
    least, most = row.get("images", (1, 1))
    rest = {key: value for key, value in row.items() if key != "images"}
    return FxTemplate(images_min=least, images_max=most, images_known="images" in row, **rest)


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
