"""The files of finished jobs: pictures and meshes that follow the prompt, and films. Pure."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from string import Template
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from langchain_tokenhub.testing.media_validation import MediaRefusedError, size_of
from langchain_tokenhub.testing.tables import blob

Body = Mapping[str, Any]


@dataclass(frozen=True)
class SampleFile:
    """A file of a job.

    Args:
        type: `png`, `mp4`, `glb`, `obj` ...
        name: Its name in a link; pictures have no ending there.
        make: Makes the bytes.
    """

    type: str
    name: str
    make: Callable[[], bytes]


Picture = SampleFile | str
"""A file, or base64 with or without the head of a data URL."""


def image_of(job_id: str, body: Body) -> SampleFile:
    """Return the picture of an image job."""
    try:
        width, height = size_of(str(body.get("resolution") or "1024:1024"))
    except MediaRefusedError:  # an `ep-...` model may write sizes in another form
        width, height = 1024, 1024
    draw = partial(draw_picture, subject_of(body), width, height)
    return SampleFile("png", _name(job_id, "png"), draw)


def video_of(job_id: str, body: Body, pictures: Sequence[Picture] = ()) -> SampleFile:
    """Return a film, which shows the first readable picture, else one drawn from the prompt."""
    return _film(job_id, pictures, subject_of(body))


def _film(job_id: str, pictures: Sequence[Picture], subject: str) -> SampleFile:
    return SampleFile("mp4", f"{_name(job_id, 'mp4')}.mp4", partial(film_of, pictures, subject))


def models_of(job_id: str, body: Body) -> list[tuple[SampleFile, SampleFile]]:
    """Return the files of a 3D job, each with its preview picture."""
    white = body.get("generate_type") == "Geometry" or bool(body.get("enable_geometry"))
    segments = 10 if body.get("generate_type") == "LowPoly" else 32
    mesh = partial(mesh_of, subject_of(body), white=white, segments=segments)
    preview = SampleFile("png", _name(job_id, "preview"), lambda: draw_preview(mesh()))
    return [(_model(job_id, kind, mesh, preview), preview) for kind in _formats(body)]


def _model(job_id: str, kind: str, mesh: Callable[[], Mesh], preview: SampleFile) -> SampleFile:
    if kind == "mp4":
        return _film(job_id, [preview], "")
    ending = {"obj": "zip"}.get(kind, kind)
    return SampleFile(kind, f"{_name(job_id, kind)}.{ending}", lambda: WRITERS[kind](mesh()))


def _formats(body: Body) -> Iterator[str]:
    """List the file types: two for the large models, one for express, and the one asked for."""
    asked = str(body.get("result_format") or "").lower()
    if body["model"] == "hy-3d-express":
        yield asked or ("glb" if body.get("enable_geometry") else "obj")
        return
    if body.get("generate_type") != "Geometry":
        yield "obj"
    yield "glb"
    if asked in WRITERS and asked not in {"obj", "glb"}:
        yield asked


_LINK_DETAILS = re.compile(r"https?://[^/'\"]+(/files/[0-9a-f]{32})?|[?][^'\"]*")
"""How two runs' links to one file differ: port, name, signature."""


def subject_of(body: Body) -> str:
    """Return the prompt, or a text that stands for the pictures given instead."""
    given = body.get("prompt") or body.get("template")
    inputs = _LINK_DETAILS.sub("", repr(sorted(body.items()))).encode(errors="replace")
    text = str(given or hashlib.sha256(inputs).hexdigest()[:12])
    return text.encode(errors="replace").decode()


def _name(job_id: str, kind: str) -> str:
    return hashlib.sha256(f"{job_id}/{kind}".encode()).hexdigest()[:32]


def revised_prompt(prompt: str) -> str:
    """Wrap a rewritten prompt in the raw markup that the service leaves in it."""
    return (
        f"<think>用户希望得到：{prompt}。先想好构图、主体和光线。</think>"
        f"<recaption>{prompt}，构图完整，层次分明，细节清晰。</recaption>"
        "<answer><boi><img_size_1024><img_ratio_34>"
    )


# -- pictures -----------------------------------------------------------------------------------

Colour = tuple[int, ...]
_LONGEST_SIDE = 4096
_PAPER: Colour = (247, 243, 232)


def _palette(text: str) -> list[Colour]:
    """Choose five colours that go together."""
    rng = random.Random(text)
    hue = rng.randrange(360)
    return [
        ImageColor.getrgb(f"hsv({(hue + 29 * k) % 360},{rng.randint(35, 65)}%,{45 + 10 * k}%)")
        for k in range(5)
    ]


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(int(x + (y - x) * share) for x, y in zip(a, b, strict=True))


@lru_cache(maxsize=64)
def draw_picture(prompt: str, width: int, height: int) -> bytes:
    """Draw hills under a sun as PNG; the prompt is written into an iTXt chunk."""
    scale = min(1.0, _LONGEST_SIDE / max(width, height))
    note = PngInfo()
    note.add_itxt("prompt", prompt, lang="zh", tkey="prompt")
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _png(_landscape(prompt, size), note)


def _png(image: Image.Image, note: PngInfo | None = None) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=note, compress_level=1)
    return out.getvalue()


def _landscape(prompt: str, size: tuple[int, int]) -> Image.Image:
    rng, colours, (width, height) = random.Random(prompt), _palette(prompt), size
    sky = Image.linear_gradient("L").resize((1, height))
    image = ImageOps.colorize(sky, colours[4], _PAPER).resize(size)
    draw = ImageDraw.Draw(image)
    x, y, r = rng.uniform(0.2, 0.8) * width, rng.uniform(0.15, 0.35) * height, 0.09 * width
    draw.ellipse([x - r, y - r, x + r, y + r], fill=_mix(colours[0], (255, 90, 60), 0.6))
    for layer in range(4):
        ridge = _ridge(rng, width, height * (0.45 + 0.13 * layer))
        shade = _mix(colours[3 - layer], _PAPER, 0.5 - 0.15 * layer)
        draw.polygon([(0, height), *ridge, (width, height)], fill=shade)
    return image


def _ridge(rng: random.Random, width: int, level: float) -> list[tuple[float, float]]:
    waves = [(rng.uniform(1, 6), rng.uniform(0, 6.3), rng.uniform(0.02, 0.07)) for _ in range(4)]
    return [
        (x, level - sum(a * level * math.sin(f * 6.3 * x / width + p) for f, p, a in waves))
        for x in [*range(0, width, max(1, width // 64)), width]
    ]


# -- films --------------------------------------------------------------------------------------

_FILM = (208, 112)
_UNREADABLE = (ValueError, OSError, Image.DecompressionBombError)


def film_of(pictures: Sequence[Picture], subject: str) -> bytes:
    """Make an H.264 film of 3 s that shows one picture.

    No encoder is needed: in `still.mp4` the first frame takes plain samples (macroblocks of the
    type I_PCM, which begin with 0D 00), and all others repeat it.
    """
    picture = next(filter(None, map(_read_picture, pictures)), None) or _landscape(subject, _FILM)
    y, cb, cr = ImageOps.pad(picture, _FILM).convert("YCbCr").split()
    luma = y.point([16 + v * 219 // 255 for v in range(256)])
    scale = [16 + v * 224 // 255 for v in range(256)]
    chroma = [band.reduce(2).point(scale) for band in (cb, cr)]
    bands = [(16, luma), *((8, band) for band in chroma)]
    blocks = [
        b"".join(
            band.crop((side * x, side * y, side * x + side, side * y + side)).tobytes()
            for side, band in bands
        )
        for y in range(_FILM[1] // 16)
        for x in range(_FILM[0] // 16)
    ]
    return blob("still.mp4").replace(b"PICTURE", b"\x0d\x00".join(blocks))


def _read_picture(source: Picture) -> Image.Image | None:
    """Return a picture; `None` for what is none, as a link to elsewhere."""
    try:
        if isinstance(source, str):
            raw = base64.b64decode(source.rpartition(",")[2], validate=True)
        else:
            raw = source.make()
        return Image.open(io.BytesIO(raw)).convert("RGB")
    except _UNREADABLE:
        return None


# -- meshes -------------------------------------------------------------------------------------

Point = tuple[float, float, float]
Face = tuple[int, int, int]


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour for each corner."""

    points: tuple[Point, ...]
    faces: tuple[Face, ...]
    colours: tuple[Colour, ...]

    def normal(self, face: Face) -> Point:
        """Return the direction that a triangle faces."""
        a, b, c = (self.points[i] for i in face)
        u, v = ([q - p for p, q in zip(a, end, strict=True)] for end in (b, c))
        x, y, z = (u[i - 2] * v[i - 1] - u[i - 1] * v[i - 2] for i in range(3))
        length = math.hypot(x, y, z) or 1.0
        return x / length, y / length, z / length


@lru_cache(maxsize=64)
def mesh_of(prompt: str, *, white: bool = False, segments: int = 32) -> Mesh:
    """Build a vessel whose shape follows the prompt."""
    rng = random.Random(prompt)
    profile = [(0.0, 0.0), *((rng.uniform(0.35, 0.9), k / 6) for k in range(8)), (0.0, 7 / 6)]
    angles = [2 * math.pi * k / segments for k in range(segments)]
    circle = [(math.cos(angle), math.sin(angle)) for angle in angles]
    points = [(r * c, height, r * s) for r, height in profile for c, s in circle]
    colours = [(235, 235, 235)] if white else _palette(prompt)
    paint = tuple(colours[int(y / 1.2 * len(colours))] for _, y, _ in points)
    return Mesh(tuple(points), tuple(_faces(segments, len(profile))), paint)


def _faces(sides: int, rings: int) -> Iterator[Face]:
    """Join each ring of points with the next."""
    for ring, k in product(range(rings - 1), range(sides)):
        a, b = ring * sides + k, ring * sides + (k + 1) % sides
        yield a, a + sides, b
        yield b, a + sides, b + sides


@lru_cache(maxsize=64)
def draw_preview(mesh: Mesh, side: int = 256) -> bytes:
    """Draw a mesh as PNG, seen a little from above, the far triangles first."""
    image = Image.new("RGB", (side, side), _PAPER)
    draw = ImageDraw.Draw(image)
    seen = [(x, 0.9 * y - 0.43 * z, 0.43 * y + 0.9 * z) for x, y, z in mesh.points]
    for face in sorted(mesh.faces, key=lambda f: sum(seen[i][2] for i in f)):
        light = 0.35 + 0.65 * abs(mesh.normal(face)[2])
        flat = [(side * (0.5 + seen[i][0] / 3.4), side * (0.7 - seen[i][1] / 2.8)) for i in face]
        draw.polygon(flat, fill=_mix((0, 0, 0), mesh.colours[face[0]], light))
    return _png(image)


# -- formats of meshes --------------------------------------------------------------------------


def glb(mesh: Mesh) -> bytes:
    """Write binary glTF 2.0: positions, colours and indices."""
    chunks = [
        b"".join(struct.pack("<3f", *p) for p in mesh.points),
        b"".join(struct.pack("<4B", *c, 255) for c in mesh.colours),
        b"".join(struct.pack("<3I", *f) for f in mesh.faces),
    ]
    gltf, start = json.loads(blob("model.gltf")), 0
    for view, chunk in zip(gltf["bufferViews"], chunks, strict=True):
        view |= {"byteOffset": start, "byteLength": len(chunk)}
        start += len(chunk)
    counts = len(mesh.points), len(mesh.points), 3 * len(mesh.faces)
    for accessor, count in zip(gltf["accessors"], counts, strict=True):
        accessor["count"] = count
    bounds = {"min": list(map(min, *mesh.points)), "max": list(map(max, *mesh.points))}
    gltf["accessors"][0] |= bounds
    gltf["buffers"] = [{"byteLength": start}]
    text = json.dumps(gltf, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + start, len(text), b"JSON")
    return head + text + struct.pack("<I4s", start, b"BIN\0") + b"".join(chunks)


def stl(mesh: Mesh) -> bytes:
    """Write binary STL."""
    rows = [
        struct.pack("<12fH", *mesh.normal(f), *(x for i in f for x in mesh.points[i]), 0)
        for f in mesh.faces
    ]
    return b"TokenHub emulator".ljust(80) + struct.pack("<I", len(rows)) + b"".join(rows)


def obj(mesh: Mesh) -> bytes:
    """Write a ZIP of OBJ and MTL, as the service does under the type `obj`."""
    lines = ["mtllib model.mtl", "usemtl body"]
    for (x, y, z), colour in zip(mesh.points, mesh.colours, strict=True):
        r, g, b = (c / 255 for c in colour)
        lines.append(f"v {x:.5f} {y:.5f} {z:.5f} {r:.3f} {g:.3f} {b:.3f}")
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in mesh.faces]
    red, green, blue = (c / 255 for c in mesh.colours[0])
    material = f"newmtl body\nKd {red:.3f} {green:.3f} {blue:.3f}\nillum 1\n"
    return _zip({"model.obj": "\n".join(lines) + "\n", "model.mtl": material})


def _zip(members: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Write an archive whose bytes depend on its members alone.

    Stored members begin at a multiple of 64 bytes, as USDZ requires.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, text in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if method == zipfile.ZIP_STORED:
                padding = -(34 + out.tell() + len(name)) % 64
                info.extra = struct.pack("<HH", 0x1986, padding) + bytes(padding)
            archive.writestr(info, text)
    return out.getvalue()


def usdz(mesh: Mesh) -> bytes:
    """Write USDZ: an uncompressed archive of one USDA file."""
    text = _fill_template(
        "model.usda",
        points=", ".join(f"({x:.5f}, {y:.5f}, {z:.5f})" for x, y, z in mesh.points),
        corners=", ".join(str(i) for face in mesh.faces for i in face),
        counts=", ".join("3" for _ in mesh.faces),
    )
    return _zip({"model.usda": text}, zipfile.ZIP_STORED)


def fbx(mesh: Mesh) -> bytes:
    """Write ASCII FBX 7.4 with one mesh."""
    return _fill_template(
        "model.fbx",
        points=",".join(f"{x:.5f}" for p in mesh.points for x in p),
        corners=",".join(f"{a},{b},{-c - 1}" for a, b, c in mesh.faces),
        numbers=str(3 * len(mesh.points)),
        indices=str(3 * len(mesh.faces)),
    ).encode()


def _fill_template(name: str, **values: str) -> str:
    return Template(blob(name).decode()).substitute(values)


WRITERS: dict[str, Callable[[Mesh], bytes]] = {
    "glb": glb,
    "obj": obj,
    "stl": stl,
    "usdz": usdz,
    "fbx": fbx,
}
