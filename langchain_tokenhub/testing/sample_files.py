"""What a finished job delivers: names, kinds and bytes of files. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_tokenhub.testing.media_validation import size_of
from langchain_tokenhub.testing.mesh_files import WRITERS
from langchain_tokenhub.testing.pictures import picture, preview
from langchain_tokenhub.testing.refusals import MediaRefusedError
from langchain_tokenhub.testing.shapes import Mesh, mesh_of
from langchain_tokenhub.testing.tables import blob

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """One file of a job.

    Args:
        type: `png`, `mp4`, `glb`, `obj` ...
        name: Its name in a link; pictures have none of the usual endings there.
        make: Draws or builds the bytes.
    """

    type: str
    name: str
    make: Callable[[], bytes]


def image_of(job_id: str, body: Body) -> Result:
    """Draw an image job's picture."""
    width, height = _size(body)
    return Result("png", _name(job_id, "png"), partial(picture, prompt_of(body), width, height))


def _size(body: Body) -> tuple[int, int]:
    """Read the size; of models that are not listed it may have another form."""
    try:
        return size_of(str(body.get("resolution") or "1024:1024"))
    except MediaRefusedError:
        return 1024, 1024


def video_of(job_id: str) -> Result:
    """Deliver a film; it is the same for all jobs."""
    return Result("mp4", _name(job_id, "mp4") + ".mp4", _clip)


def _clip() -> bytes:
    return blob("clip.mp4")


def models_of(job_id: str, body: Body) -> list[tuple[Result, Result]]:
    """Deliver 3D files, each with its preview picture."""
    mesh = partial(_mesh, body)
    shown = Result("png", _name(job_id, "preview"), lambda: preview(mesh()))
    return [(_model(job_id, kind, mesh), shown) for kind in _formats(body)]


def _model(job_id: str, kind: str, mesh: Callable[[], Mesh]) -> Result:
    if kind == "mp4":
        return Result("mp4", _name(job_id, kind) + ".mp4", _clip)
    ending = {"obj": "zip"}.get(kind, kind)
    return Result(kind, f"{_name(job_id, kind)}.{ending}", lambda: WRITERS[kind](mesh()))


def _mesh(body: Body) -> Mesh:
    white = body.get("generate_type") == "Geometry" or bool(body.get("enable_geometry"))
    fine = 10 if body.get("generate_type") == "LowPoly" else 32
    return mesh_of(prompt_of(body), white=white, fine=fine)


def _formats(body: Body) -> Iterator[str]:
    """List the file kinds: two for the large models, one for express, and the one asked for."""
    asked = str(body.get("result_format") or "").lower()
    if body["model"] == "hy-3d-express":
        yield asked or ("glb" if body.get("enable_geometry") else "obj")
        return
    if body.get("generate_type") != "Geometry":
        yield "obj"
    yield "glb"
    if asked in WRITERS and asked not in {"obj", "glb"}:
        yield asked


_WHERE = re.compile(r"https?://[^/'\"]+(/files/[0-9a-f]{32})?|[?][^'\"]*")
"""What two runs' links to one file differ in: port, name (its job's id has the time), signature."""


def prompt_of(body: Body) -> str:
    """Return the prompt, or something that stands for the pictures given instead."""
    given = body.get("prompt") or body.get("template")
    seen = _WHERE.sub("", repr(sorted(body.items()))).encode(errors="replace")
    text = str(given or hashlib.sha256(seen).hexdigest()[:12])
    return text.encode(errors="replace").decode()


def _name(job_id: str, kind: str) -> str:
    return hashlib.sha256(f"{job_id}/{kind}".encode()).hexdigest()[:32]


def revised(prompt: str) -> str:
    """Wrap a rewritten prompt in the raw markup the service leaves in it."""
    return (
        f"<think>用户希望得到：{prompt}。先想好构图、主体和光线。</think>"
        f"<recaption>{prompt}，构图完整，层次分明，细节清晰。</recaption>"
        "<answer><boi><img_size_1024><img_ratio_34>"
    )
