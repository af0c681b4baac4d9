"""Pictures drawn from a prompt. Pure."""

from __future__ import annotations

import io
import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from langchain_tokenhub.testing.colours import Colour, mix, palette
from langchain_tokenhub.testing.shapes import Mesh, Point, normal_of

_LONGEST = 512
_PAPER: Colour = (247, 243, 232)


@lru_cache(maxsize=64)
def picture(prompt: str, width: int, height: int) -> bytes:
    """Draw hills under a sun as PNG; the prompt stands in an iTXt chunk.

    Width and height give the shape; the drawing is no larger than 512 pixels.
    """
    scale = min(1.0, _LONGEST / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.new("RGB", size, _PAPER)
    _landscape(image, prompt)
    note = PngInfo()
    note.add_itxt("prompt", prompt, lang="zh", tkey="prompt")
    return _png(image, note)


def _png(image: Image.Image, note: PngInfo | None = None) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=note, compress_level=3)
    return out.getvalue()


def _landscape(image: Image.Image, prompt: str) -> None:
    dice, colours = random.Random(prompt), palette(prompt)
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for row in range(height):
        draw.line([(0, row), (width, row)], fill=mix(colours[4], _PAPER, row / height))
    x, y, r = dice.uniform(0.2, 0.8) * width, dice.uniform(0.15, 0.35) * height, 0.09 * width
    draw.ellipse([x - r, y - r, x + r, y + r], fill=mix(colours[0], (255, 90, 60), 0.6))
    for layer in range(4):
        ridge = _ridge(dice, width, height * (0.45 + 0.13 * layer))
        shade = mix(colours[3 - layer], _PAPER, 0.5 - 0.15 * layer)
        draw.polygon([(0, height), *ridge, (width, height)], fill=shade)


def _ridge(dice: random.Random, width: int, level: float) -> list[tuple[float, float]]:
    waves = [(dice.uniform(1, 6), dice.uniform(0, 6.3), dice.uniform(0.02, 0.07)) for _ in range(4)]
    step = max(1, width // 64)
    return [
        (x, level - sum(a * level * math.sin(f * 6.3 * x / width + p) for f, p, a in waves))
        for x in [*range(0, width, step), width]
    ]


@lru_cache(maxsize=64)
def preview(mesh: Mesh, side: int = 256) -> bytes:
    """Draw a mesh as PNG, the far triangles first."""
    image = Image.new("RGB", (side, side), _PAPER)
    draw = ImageDraw.Draw(image)
    seen = [_tilted(p) for p in mesh.points]
    for face in sorted(mesh.faces, key=lambda f: sum(seen[i][2] for i in f)):
        light = 0.35 + 0.65 * abs(normal_of(mesh, face)[2])
        red, green, blue = (int(c * light) for c in mesh.colours[face[0]])
        flat = [(side * (0.5 + seen[i][0] / 3.4), side * (0.7 - seen[i][1] / 2.8)) for i in face]
        draw.polygon(flat, fill=(red, green, blue))
    return _png(image)


def _tilted(point: Point) -> Point:
    """Look a little from above."""
    x, y, z = point
    return x, 0.9 * y - 0.43 * z, 0.43 * y + 0.9 * z
