"""Colours that depend on a text alone. Pure."""

from __future__ import annotations

import colorsys
import random

Colour = tuple[int, int, int]


def palette(text: str, size: int = 5) -> list[Colour]:
    """Choose colours that go together."""
    dice = random.Random(text)
    hue = dice.random()
    return [
        _rgb(hue + 0.08 * k, dice.uniform(0.35, 0.65), 0.45 + 0.5 * k / size) for k in range(size)
    ]


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Mix two colours."""
    red, green, blue = (int(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue
