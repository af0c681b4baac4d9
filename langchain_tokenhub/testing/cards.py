"""The images of the emulator: cards that show the prompt on colours of its own. Pure."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from functools import cache, lru_cache

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

Size = tuple[int, int]
Colour = tuple[int, ...]
Font = ImageFont.FreeTypeFont

UNREADABLE = (ValueError, OSError, SyntaxError, EOFError, Image.DecompressionBombError)
"""Errors that Pillow raises for bytes that are not an image."""
_MAX_CHARACTERS = 400
_MARGIN = 0.1
"""Share of a side that stays free of text: a video does not show all of its edges."""
_LEADING = 1.3
_LABEL = "TokenHub emulator · sample"
_FONTS = {
    "NotoSansCJK-Regular.ttc": 2,
    "NotoSansCJKsc-Regular.otf": 0,
    "NotoSansSC-Regular.otf": 0,
    "SourceHanSansSC-Regular.otf": 0,
    "wqy-microhei.ttc": 0,
    "wqy-zenhei.ttc": 0,
    "DroidSansFallbackFull.ttf": 0,
    "PingFang.ttc": 0,
    "Hiragino Sans GB.ttc": 0,
    "STHeiti Medium.ttc": 0,
    "msyh.ttc": 0,
    "simhei.ttf": 0,
    "DejaVuSans.ttf": 0,
}
"""Fonts for what Pillow's own lacks, with the face in each file; Pillow searches for them."""


def png(image: Image.Image, prompt: str = "") -> bytes:
    """Encode an image as PNG; a prompt is written into an iTXt chunk."""
    note, out = PngInfo(), io.BytesIO()
    if prompt:
        note.add_itxt("prompt", prompt, lang="zh", tkey="prompt")
    image.save(out, "PNG", pnginfo=note, compress_level=1)
    return out.getvalue()


def open_image(raw: bytes) -> Image.Image:
    """Decode an image, or raise one of UNREADABLE."""
    return Image.open(io.BytesIO(raw)).convert("RGB")


def draw_card(
    text: str, caption: str, size: Size, reference: Image.Image | None = None
) -> Image.Image:
    """Draw a card: a reference image above the text, the caption below."""
    colours, (width, height) = _palette(text), size
    left, top, small = width * _MARGIN, height * _MARGIN, max(7, round(min(size) / 30))
    image, head = _draw_background(text, colours, size), top + 2.5 * small
    if reference is not None:
        inset = ImageOps.contain(reference, (max(1, width // 2), max(1, height // 3)))
        image.paste(inset, (round(width - left - inset.width), round(head)))
        head += inset.height
    foot = height - top - 2 * small
    font, lines = _fit(text, (width - 2 * left, foot - head), min(size))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        y = (head + foot) / 2 + (number - len(lines) / 2) * _LEADING * font.size
        draw.text((left, y), line, "white", font)
    fine = ImageFont.load_default(small)
    draw.rectangle((left, top, left + 3 * small, top + small // 4), colours[2])
    draw.text((left, top + small * 0.7), _LABEL, colours[3], fine)
    draw.text((left, height - top), caption, colours[3], fine, anchor="ls")
    return image


def show_image(source: Image.Image, caption: str, size: Size) -> Image.Image:
    """Cut an image to a size, and write a caption on a dark bar below."""
    image, small = ImageOps.fit(source, size), max(7, round(min(size) / 30))
    font, at = ImageFont.load_default(small), (size[0] * _MARGIN, size[1] * (1 - _MARGIN))
    draw = ImageDraw.Draw(image, "RGBA")
    draw.rectangle((0, at[1] - 1.8 * small, *size), (16, 18, 22))
    draw.text(at, caption, "white", font, anchor="ls")
    return image


def _palette(text: str) -> list[Colour]:
    """Return colours that go together: dark, middle, accent and pale."""
    hue = random.Random(text).randrange(360)
    shades = ((0, 58, 30), (32, 52, 58), (64, 60, 92), (20, 14, 96))
    return [ImageColor.getrgb(f"hsv({(hue + turn) % 360},{s}%,{v}%)") for turn, s, v in shades]


def _draw_background(text: str, colours: Sequence[Colour], size: Size) -> Image.Image:
    """Draw a gradient with circles."""
    rng, (width, height) = random.Random(text), size
    ramp = Image.linear_gradient("L").resize((1, height)).resize(size)
    image = ImageOps.colorize(ramp, colours[0], colours[1])
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(4):
        x, y = rng.uniform(0.45, 1.05) * width, rng.uniform(0, 1) * height
        r = rng.uniform(0.15, 0.45) * max(size)
        draw.ellipse((x - r, y - r, x + r, y + r), (*colours[2], 26))
    return image


# -- text ---------------------------------------------------------------------------------------


def _fit(text: str, box: tuple[float, float], side: int) -> tuple[Font, list[str]]:
    """Return the largest font in which a text fits into a box, and its lines."""
    text = " ".join(text.split())
    font = _font_for(text)
    if font is None:
        count = f"a prompt of {len(text)} characters"
        font, text = _fonts()[0], f"{count} (this machine has no font for them)"
    shown = text[:_MAX_CHARACTERS] + "…" * (len(text) > _MAX_CHARACTERS)
    lines: list[str] = []
    for part in (8, 10, 12, 15, 19, 24, 30):
        font = font.font_variant(size=max(8, side / part))
        lines = _wrap(shown, font, box[0])
        if len(lines) * font.size * _LEADING <= box[1]:
            return font, lines
    room = max(0, int(box[1] / (font.size * _LEADING)))
    return font, [*lines[: room - 1], "…"] if room else []


def _wrap(text: str, font: Font, width: float) -> list[str]:
    """Break a text between words, and between Chinese characters but before no punctuation."""
    words = re.findall(
        r"[^\s\u2e80-\uffff]{1,24}\s*|\s|[\u2e80-\uffff][，。、！？：；”’》）…]*", text
    )
    lines = [""]
    for word in words:
        if lines[-1] and font.getlength(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _font_for(text: str) -> Font | None:
    """Return the font that has most of the characters, or None if none has half of them."""
    characters = set(text[:_MAX_CHARACTERS]) - {" "}
    counts = [sum(_has(font, one) for one in characters) for font in _fonts()]
    best = max(counts)
    return _fonts()[counts.index(best)] if 2 * best >= len(characters) else None


@cache
def _fonts() -> list[Font]:
    """Return Pillow's font, and those of the system."""
    own = ImageFont.load_default(24)
    found = [own] if isinstance(own, Font) else []
    for name, face in _FONTS.items():
        try:
            found.append(ImageFont.truetype(name, 24, index=face))
        except OSError:
            continue
    return found


@lru_cache(maxsize=10_000)
def _has(font: Font, character: str) -> bool:
    glyphs = []
    for drawn in (character, "\U0010fffe"):
        image = Image.new("L", (32, 32))
        ImageDraw.Draw(image).text((0, 0), drawn, 255, font)
        glyphs.append(image.tobytes())
    return glyphs[0] != glyphs[1]
