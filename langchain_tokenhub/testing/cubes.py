"""3D models: cubes with a picture on each side, in the formats of the service. Pure."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from string import Template

from PIL import Image, ImageEnhance

from langchain_tokenhub.testing.cards import open_picture, png
from langchain_tokenhub.testing.tables import blob

Point = tuple[float, float, float]
Pair = tuple[float, float]
Face = tuple[int, int, int]
_TURNS: tuple[Callable[[float, float, float], Point], ...] = (
    lambda x, y, z: (x, y, z),
    lambda x, y, z: (z, y, -x),
    lambda x, y, z: (-x, y, -z),
    lambda x, y, z: (-z, y, x),
    lambda x, y, z: (x, z, -y),
    lambda x, y, z: (x, -z, y),
)
"""Rotations from the front to each side."""
_PREVIEW = 512
_PAPER = (247, 243, 232)
_SHOWN = (
    ((0.12, 0.30), (0.38, 0.20), (0.0, 0.42), 0.85),
    ((0.50, 0.50), (0.38, -0.20), (0.0, 0.42), 0.65),
    ((0.12, 0.30), (0.38, -0.20), (0.38, 0.20), 1.0),
)
"""Left, right and top side of the preview: a corner, two edges, and the brightness."""


@dataclass(frozen=True)
class Mesh:
    """Triangles, and the place of each corner in the picture."""

    points: tuple[Point, ...]
    places: tuple[Pair, ...]
    faces: tuple[Face, ...]


@cache
def cube(cells: int) -> Mesh:
    """Build a cube of side 1, whose sides have `cells` times `cells` squares."""
    grid = [(i / cells, j / cells) for j, i in product(range(cells + 1), repeat=2)]
    points = [turn(a - 0.5, 0.5 - b, 0.5) for turn in _TURNS for a, b in grid]
    return Mesh(tuple(points), tuple(grid * 6), tuple(_faces(cells)))


def _faces(cells: int) -> Iterator[Face]:
    for side, j, i in product(range(6), range(cells), range(cells)):
        a = (side * (cells + 1) + j) * (cells + 1) + i
        b = a + cells + 1
        yield a, b, b + 1
        yield a, b + 1, a + 1


def draw_preview(texture: bytes) -> bytes:
    """Draw a cube with a picture on its sides as PNG, seen from above."""
    picture = open_picture(texture)
    image = Image.new("RGB", (_PREVIEW, _PREVIEW), _PAPER)
    for corner, across, down, light in _SHOWN:
        side = ImageEnhance.Brightness(picture).enhance(light).convert("RGBA")
        place = _to_side(corner, across, down, picture.width)
        seen = side.transform(image.size, Image.Transform.AFFINE, place, Image.Resampling.BICUBIC)
        image.paste(seen, mask=seen)
    return png(image)


def _to_side(corner: Pair, across: Pair, down: Pair, side: int) -> tuple[float, ...]:
    """Return the affine map from the preview to the picture of a side."""
    (ax, ay), (dx, dy) = across, down
    scale = side / (ax * dy - ay * dx) / _PREVIEW
    rows = (dy * scale, -dx * scale), (-ay * scale, ax * scale)
    x, y = (_PREVIEW * c for c in corner)
    return tuple(v for p, q in rows for v in (p, q, -p * x - q * y))


# -- formats ------------------------------------------------------------------------------------


def glb(mesh: Mesh, texture: bytes) -> bytes:
    """Write binary glTF 2.0."""
    chunks = [
        b"".join(struct.pack("<3f", *p) for p in mesh.points),
        b"".join(struct.pack("<2f", *p) for p in mesh.places),
        b"".join(struct.pack("<3I", *f) for f in mesh.faces),
        texture + bytes(-len(texture) % 4),
    ]
    gltf, start = json.loads(blob("model.gltf")), 0
    for view, chunk in zip(gltf["bufferViews"], chunks, strict=True):
        view |= {"byteOffset": start, "byteLength": len(chunk)}
        start += len(chunk)
    for accessor in gltf["accessors"]:
        accessor["count"] = len(mesh.points)
    gltf["accessors"][2]["count"] = 3 * len(mesh.faces)
    gltf["buffers"] = [{"byteLength": start}]
    text = json.dumps(gltf, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + start, len(text), b"JSON")
    return head + text + struct.pack("<I4s", start, b"BIN\0") + b"".join(chunks)


def stl(mesh: Mesh, _: bytes) -> bytes:
    """Write binary STL, which has no picture; readers compute the normals."""
    corners = [[x for corner in face for x in mesh.points[corner]] for face in mesh.faces]
    rows = [struct.pack("<12fH", 0, 0, 0, *numbers, 0) for numbers in corners]
    return b"TokenHub emulator".ljust(80) + struct.pack("<I", len(rows)) + b"".join(rows)


def obj(mesh: Mesh, texture: bytes) -> bytes:
    """Write a ZIP of OBJ, MTL and the picture, as the service does under the type `obj`."""
    lines = ["mtllib model.mtl", "usemtl body"]
    lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.points]
    lines += [f"vt {a:.5f} {1 - b:.5f}" for a, b in mesh.places]
    lines += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in mesh.faces]
    material = "newmtl body\nKd 1 1 1\nillum 1\nmap_Kd texture.png\n"
    model = "\n".join(lines) + "\n"
    members: dict[str, str | bytes] = {"model.obj": model, "model.mtl": material}
    return _zip(members | {"texture.png": texture}, zipfile.ZIP_DEFLATED)


def _zip(members: dict[str, str | bytes], method: int) -> bytes:
    """Write an archive whose bytes depend on its members alone.

    Stored members begin at a multiple of 64 bytes, as USDZ requires.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if method == zipfile.ZIP_STORED:
                padding = -(34 + out.tell() + len(name)) % 64
                info.extra = struct.pack("<HH", 0x1986, padding) + bytes(padding)
            archive.writestr(info, data)
    return out.getvalue()


def usdz(mesh: Mesh, _: bytes) -> bytes:
    """Write USDZ without the picture: an uncompressed archive of one USDA file."""
    text = _fill_template(
        "model.usda",
        points=", ".join(f"({x:.5f}, {y:.5f}, {z:.5f})" for x, y, z in mesh.points),
        corners=", ".join(str(i) for face in mesh.faces for i in face),
        counts=", ".join("3" for _ in mesh.faces),
    )
    return _zip({"model.usda": text}, zipfile.ZIP_STORED)


def fbx(mesh: Mesh, _: bytes) -> bytes:
    """Write ASCII FBX 7.4 with one mesh, without the picture."""
    return _fill_template(
        "model.fbx",
        points=",".join(f"{x:.5f}" for p in mesh.points for x in p),
        corners=",".join(f"{a},{b},{-c - 1}" for a, b, c in mesh.faces),
        numbers=str(3 * len(mesh.points)),
        indices=str(3 * len(mesh.faces)),
    ).encode()


def _fill_template(name: str, **values: str) -> str:
    return Template(blob(name).decode()).substitute(values)


WRITERS: dict[str, Callable[[Mesh, bytes], bytes]] = {
    "glb": glb,
    "obj": obj,
    "stl": stl,
    "usdz": usdz,
    "fbx": fbx,
}
