"""The keywords of `generate` and `submit` for type checkers: every parameter of a kind's models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from langchain_tokenhub.params.base import LogoParam
from langchain_tokenhub.params.three_d import ViewImage, ViewImage31
from langchain_tokenhub.params.video import FxExtraParam

FileInput: TypeAlias = Any
"""A link, data URL, path, job ID, bytes, PIL image, or the result of another tool."""


class ImageKeywords(TypedDict, total=False):
    """Parameters of the image models."""

    prompt: str | None
    negative_prompt: str | None
    images: FileInput | Sequence[FileInput] | None
    resolution: str | None
    seed: int | None
    revise: int | None
    logo_add: int | None
    logo_param: LogoParam | Mapping[str, Any] | None
    rsp_img_type: str | None
    job_id: str | int | None


class VideoKeywords(TypedDict, total=False):
    """Parameters of the video models."""

    prompt: str | None
    image: FileInput | None
    images: FileInput | Sequence[FileInput] | None
    image_url: FileInput | None
    image_base64: str | None
    audio_url: FileInput | None
    template: str | None
    resolution: str | None
    fps: int | None
    frame_rate: int | None
    bgm: bool | None
    logo_add: int | None
    logo_param: LogoParam | Mapping[str, Any] | None
    extra_param: FxExtraParam | Mapping[str, Any] | None
    job_id: str | int | None


class ThreeDKeywords(TypedDict, total=False):
    """Parameters of the 3D models."""

    prompt: str | None
    image_url: FileInput | None
    image_base64: str | None
    multi_view_images: Sequence[ViewImage | ViewImage31 | Mapping[str, Any]] | None
    enable_pbr: bool | None
    enable_geometry: bool | None
    face_count: int | None
    generate_type: str | None
    polygon_type: str | None
    result_format: str | None
    job_id: str | int | None
