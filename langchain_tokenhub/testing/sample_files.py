"""The files of finished jobs: what each shows, and its bytes. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from PIL import Image, ImageOps

from langchain_tokenhub.testing import cards, cubes
from langchain_tokenhub.testing.cards import Size
from langchain_tokenhub.testing.errors import MediaRefusedError
from langchain_tokenhub.testing.media_validation import size_of
from langchain_tokenhub.testing.tables import Body, Row
from langchain_tokenhub.testing.videos import encode_video

_TEXTURE = (512, 512)
_MAX_SIDE = 4096
_MAX_RATIO = 4
_MAX_FPS = 60
_WHITE = (235, 235, 235)


@dataclass(frozen=True)
class SampleFile:
    """A file of a job.

    Args:
        type: `png`, `mp4`, `glb`, `obj` ...
        name: Its name in a link; images have no ending there.
        make: Makes the bytes.
    """

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
    white: bool


def file_of(kind: str, job_id: str, row: Row, body: Body, sources: Sequence[Source]) -> SampleFile:
    """Return a file of a job.

    Args:
        kind: `png`, `mp4`, `preview` or a format of a 3D model.
        job_id: The id of the job, from which the file's name is made.
        row: The row of the model.
        body: The submit.
        sources: The images that were sent.
    """
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
        white=body.get("generate_type") == "Geometry" or bool(body.get("enable_geometry")),
    )
    return _render(kind, scene)


def _read_image(source: Source) -> bytes:
    """Return an image, or nothing if it is not one, such as a link to another host."""
    try:
        if isinstance(source, str):
            raw = base64.b64decode(source.rpartition(",")[2], validate=True)
        else:
            raw = source.make()
        cards.open_image(raw)
    except cards.UNREADABLE:
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
    width, height = cards.open_image(images[0]).size if images else (16, 9)
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
    images = map(cards.open_image, scene.images)
    match kind:
        case "png":
            image = cards.draw_card(scene.text, scene.caption, scene.size, next(images, None))
            return cards.png(image, scene.text)
        case "mp4":
            shown = [cards.show_image(image, scene.caption, scene.size) for image in images]
            card = shown or [cards.draw_card(scene.text, scene.caption, scene.size)]
            return encode_video(card, scene.fps)
        case "turntable":
            return encode_video([cards.open_image(_render("preview", scene))], scene.fps)
        case "preview":
            return cubes.draw_preview(_texture(scene))
        case _:
            return cubes.encode_model(kind, _texture(scene))


def _texture(scene: _Scene) -> bytes:
    """Return what the sides of a cube show: nothing, the whole image that was sent, or a card."""
    if scene.white:
        image = Image.new("RGB", _TEXTURE, _WHITE)
    elif scene.images:
        image = ImageOps.pad(cards.open_image(scene.images[0]), _TEXTURE, color=_WHITE)
    else:
        image = cards.draw_card(scene.text, scene.caption, _TEXTURE)
    return cards.png(image)
