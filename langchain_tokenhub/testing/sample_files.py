"""The files of finished jobs: what each shows, and its bytes. Pure.

A video is a view that moves over each image and comes back. A 3D model is a cube with an image on
its sides; its points and faces are in the folder `data`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from string import Template

import av
from av.filter import Graph
from PIL import Image, ImageEnhance, ImageOps

from langchain_tokenhub.testing.cards import (
    UNREADABLE,
    Size,
    draw_card,
    open_image,
    png,
    show_image,
)
from langchain_tokenhub.testing.errors import MediaRefusedError
from langchain_tokenhub.testing.media_validation import size_of
from langchain_tokenhub.testing.tables import Body, Row, blob

_TEXTURE = (512, 512)
_MAX_SIDE = 4096
_MAX_RATIO = 4
_MAX_FPS = 60
_WHITE = (235, 235, 235)


@dataclass(frozen=True)
class SampleFile:
    """A file of a job: its type (`png`, `glb` ...), its name in a link, and how it is made."""

    type: str
    name: str
    make: Callable[[], bytes]


Source = SampleFile | str
"""An image that was sent: a file of the emulator, or base64 with or without a data URL's head."""


@dataclass(frozen=True)
class _Scene:
    """What the files of a job show, with the encoded images that were sent."""

    text: str
    caption: str
    size: Size
    images: tuple[bytes, ...]
    fps: int
    is_white: bool


def file_of(kind: str, job_id: str, row: Row, body: Body, sources: Sequence[Source]) -> SampleFile:
    """Return a file of a job: `png`, `mp4`, `preview` or a format of a 3D model."""
    name = hashlib.sha256(f"{job_id}/{kind}".encode()).hexdigest()[:32]
    ending = {"png": "", "preview": "", "obj": ".zip"}.get(kind, f".{kind}")
    shown = "turntable" if kind == "mp4" and row["object"] == "3d_job" else kind
    make = partial(_make, shown, row, body, sources)
    return SampleFile("png" if kind == "preview" else kind, f"{name}{ending}", make)


def formats_of(body: Body) -> Iterator[str]:
    """List the files of a 3D job: two for the large models, one for express, one asked for."""
    asked = str(body.get("result_format") or "").lower()
    if body["model"] == "hy-3d-express":
        yield asked or ("glb" if body.get("enable_geometry") else "obj")
        return
    if body.get("generate_type") != "Geometry":
        yield "obj"
    yield "glb"
    if asked in {"stl", "usdz", "fbx"}:
        yield asked


def text_of(body: Body) -> str:
    """Return the prompt, or what stands for it: the template, else the model."""
    text = str(body.get("prompt") or body.get("template") or body["model"])
    return text.encode(errors="replace").decode()


def _make(kind: str, row: Row, body: Body, sources: Sequence[Source]) -> bytes:
    images = tuple(filter(None, map(_read_image, sources)))
    size = _size_of(row, body, images)
    fps = body.get("fps") or body.get("frame_rate")
    scene = _Scene(
        text=text_of(body),
        caption=_caption(row, body, size),
        size=size,
        images=images,
        fps=fps if type(fps) is int and 0 < fps <= _MAX_FPS else 24,
        is_white=body.get("generate_type") == "Geometry" or bool(body.get("enable_geometry")),
    )
    return _render(kind, scene)


def _read_image(source: Source) -> bytes:
    """Return an image, or nothing if it is not one, such as a link to another host."""
    try:
        if isinstance(source, str):
            raw = base64.b64decode(source.rpartition(",")[2], validate=True)
        else:
            raw = source.make()
        open_image(raw)
    except UNREADABLE:
        return b""
    return raw


def _size_of(row: Row, body: Body, images: Sequence[bytes]) -> Size:
    asked = str(body.get("resolution") or row.get("resolution", ""))
    if row["object"] == "3d_job":
        return _TEXTURE
    if row["object"] == "video":
        lines = re.fullmatch(r"(\d{3,4})p", asked)
        return _video_size(int(lines[1]) if lines else 720, images)
    try:
        width, height = size_of(asked or "1024:1024")
    except MediaRefusedError:  # an `ep-...` model may write sizes in another form
        return 1024, 1024
    return min(width, _MAX_SIDE), min(height, _MAX_SIDE)


def _video_size(lines: int, images: Sequence[bytes]) -> Size:
    """Return the size of a video of the first image's shape, else 16:9, by its short side."""
    width, height = open_image(images[0]).size if images else (16, 9)
    ratio = min(max(width / height, 1 / _MAX_RATIO), _MAX_RATIO)
    wide, high = lines * max(ratio, 1), lines * max(1 / ratio, 1)
    return 2 * round(wide / 2), 2 * round(high / 2)


def _caption(row: Row, body: Body, size: Size) -> str:
    shape = "3D" if row["object"] == "3d_job" else f"{size[0]} x {size[1]}"
    details = [f"{name} {body[name]}" for name in ("seed", "template") if body.get(name)]
    speech = ["human actor, without its voice"] if body.get("audio_url") else []
    text = " · ".join([str(body["model"]), shape, *details, *speech, "emulator"])
    return text.encode("latin-1", "replace").decode("latin-1")[:120]


@lru_cache(maxsize=64)
def _render(kind: str, scene: _Scene) -> bytes:
    images = map(open_image, scene.images)
    match kind:
        case "png":
            image = draw_card(scene.text, scene.caption, scene.size, next(images, None))
            return png(image, scene.text)
        case "mp4":
            shown = [show_image(image, scene.caption, scene.size) for image in images]
            return encode_video(
                shown or [draw_card(scene.text, scene.caption, scene.size)], scene.fps
            )
        case "turntable":
            return encode_video([open_image(_render("preview", scene))], scene.fps)
        case "preview":
            return draw_preview(_texture(scene))
        case _:
            return encode_model(kind, png(_texture(scene)))


def _texture(scene: _Scene) -> Image.Image:
    """Return what the sides of a cube show: nothing, the whole image that was sent, or a card."""
    if scene.is_white:
        return Image.new("RGB", _TEXTURE, _WHITE)
    if scene.images:
        return ImageOps.pad(open_image(scene.images[0]), _TEXTURE, color=_WHITE)
    return draw_card(scene.text, scene.caption, _TEXTURE)


# -- videos -------------------------------------------------------------------------------------

_SECONDS = 3
_ENLARGED = 1.08
"""How much larger an image is than the view."""
_ENCODER = {"preset": "ultrafast", "crf": "22", "threads": "1", "colorspace": "smpte170m"}


def encode_video(images: Sequence[Image.Image], fps: int) -> bytes:
    """Encode an MP4 with three seconds of each image; their common width and height are even."""
    count, out = _SECONDS * fps, io.BytesIO()
    options = {"moov_size": str(4096 + 16 * count * len(images))}  # the index before the frames
    with av.open(out, "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", fps, options=_ENCODER | {"g": str(count)})
        stream.width, stream.height = images[0].size
        view = _moving_view(images[0].size, fps)
        for number, image in enumerate([*images, images[-1]]):  # the repeat sets the last duration
            frame = av.VideoFrame.from_bytes(image.convert("RGBA").tobytes(), *image.size)
            frame.pts, frame.time_base = number, Fraction(_SECONDS)
            view.vpush(frame)
        for _ in range(count * len(images)):
            container.mux(stream.encode(view.vpull()))
        container.mux(stream.encode())
    return out.getvalue()


def _moving_view(size: Size, fps: int) -> Graph:
    """Return filters that turn each image into three seconds of a view on it."""
    width, height = size
    share = f"(1-cos(2*PI*n/{_SECONDS * fps}))/2"
    graph = Graph()
    filters = {
        "buffer": f"video_size={width}x{height}:pix_fmt=rgba:time_base={_SECONDS}",
        "scale": f"ceil(iw*{_ENLARGED}/2)*2:ceil(ih*{_ENLARGED}/2)*2:flags=lanczos",
        "format": "yuv420p",
        "fps": str(fps),
        "crop": f"{width}:{height}:(iw-ow)*{share}:(ih-oh)*{share}",
        "buffersink": None,
    }
    graph.link_nodes(*(graph.add(name, options) for name, options in filters.items())).configure()
    return graph


# -- 3D models ----------------------------------------------------------------------------------

_PREVIEW = 512
_PAPER = (247, 243, 232)
_SIDES = (
    ((0.12, 0.30), (0.38, 0.20), (0.0, 0.42), 0.85),
    ((0.50, 0.50), (0.38, -0.20), (0.0, 0.42), 0.65),
    ((0.12, 0.30), (0.38, -0.20), (0.38, 0.20), 1.0),
)
"""Left, right and top side of the preview: a corner, two edges, and the brightness."""


def draw_preview(texture: Image.Image) -> bytes:
    """Draw a cube with an image on its sides as PNG, seen from above."""
    image = Image.new("RGB", (_PREVIEW, _PREVIEW), _PAPER)
    for (x, y), (ax, ay), (dx, dy), light in _SIDES:
        scale = texture.width / (ax * dy - ay * dx)
        rows = (dy * scale, -dx * scale), (-ay * scale, ax * scale)
        to_side = [v for p, q in rows for v in (p / _PREVIEW, q / _PREVIEW, -p * x - q * y)]
        side = ImageEnhance.Brightness(texture).enhance(light).convert("RGBA")
        seen = side.transform(image.size, Image.Transform.AFFINE, to_side, Image.Resampling.BICUBIC)
        image.paste(seen, mask=seen)
    return png(image)


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
