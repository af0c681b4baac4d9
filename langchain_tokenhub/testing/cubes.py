"""3D models: a cube with an image on its sides, in the formats of the service. Pure.

Its points and faces are in the folder `data`, ready in the formats that hold no image.
"""

from __future__ import annotations

import io
import struct
import zipfile
from string import Template

from PIL import Image, ImageEnhance

from langchain_tokenhub.testing.cards import open_image, png
from langchain_tokenhub.testing.tables import blob

Pair = tuple[float, float]
_PREVIEW = 512
_PAPER = (247, 243, 232)
_SHOWN = (
    ((0.12, 0.30), (0.38, 0.20), (0.0, 0.42), 0.85),
    ((0.50, 0.50), (0.38, -0.20), (0.0, 0.42), 0.65),
    ((0.12, 0.30), (0.38, -0.20), (0.38, 0.20), 1.0),
)
"""Left, right and top side of the preview: a corner, two edges, and the brightness."""


def draw_preview(texture: bytes) -> bytes:
    """Draw a cube with an image on its sides as PNG, seen from above."""
    source = open_image(texture)
    image = Image.new("RGB", (_PREVIEW, _PREVIEW), _PAPER)
    for corner, across, down, light in _SHOWN:
        side = ImageEnhance.Brightness(source).enhance(light).convert("RGBA")
        place = _to_side(corner, across, down, source.width)
        seen = side.transform(image.size, Image.Transform.AFFINE, place, Image.Resampling.BICUBIC)
        image.paste(seen, mask=seen)
    return png(image)


def _to_side(corner: Pair, across: Pair, down: Pair, side: int) -> tuple[float, ...]:
    """Return the affine map from the preview to the image of a side."""
    (ax, ay), (dx, dy) = across, down
    scale = side / (ax * dy - ay * dx) / _PREVIEW
    rows = (dy * scale, -dx * scale), (-ay * scale, ax * scale)
    x, y = (_PREVIEW * c for c in corner)
    return tuple(v for p, q in rows for v in (p, q, -p * x - q * y))


def encode_model(kind: str, texture: bytes) -> bytes:
    """Return a cube in one of the formats, with a PNG on its sides where the format holds it."""
    match kind:
        case "glb":
            return _glb(texture)
        case "obj":
            return _obj(texture)
        case _:
            return blob(f"cube.{kind}")


def _glb(texture: bytes) -> bytes:
    binary = blob("cube.bin") + texture + bytes(-len(texture) % 4)
    gltf = Template(blob("cube.gltf").decode())
    text = gltf.substitute(image=len(texture), buffer=len(binary)).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def _obj(texture: bytes) -> bytes:
    """Write a ZIP of OBJ, MTL and the image, as the service does; its bytes hold no time."""
    out = io.BytesIO()
    members = {"model.obj": blob("cube.obj"), "model.mtl": blob("cube.mtl"), "texture.png": texture}
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()
