"""The keywords of constructors, `generate` and `submit`, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from langchain_core.callbacks import Callbacks
from langchain_core.stores import BaseStore
from langchain_core.tools import ArgsSchema

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.jobs.ledger_backends import LedgerBackend
from langchain_tokenhub.jobs.progress import Progress
from langchain_tokenhub.params import Language
from langchain_tokenhub.params.models import FxExtraParam, LogoParam, ViewImage, ViewImage31
from langchain_tokenhub.settings import ConnectionOptions
from langchain_tokenhub.tools.budget import Budget

FileInput: TypeAlias = Any
"""A link, data URL, path, job ID, bytes, PIL image, or the result of another tool."""


class SubmitOptions(TypedDict, total=False):
    """What `submit` takes beside the parameters of a model."""

    extra: Mapping[str, Any] | None
    again: bool


class GenerateOptions(TypedDict, total=False):
    """What `generate` takes beside the keywords of `submit`."""

    wait_timeout: float | None


class ImageKeywords(SubmitOptions, total=False):
    """Keywords of the image tool's `submit`: the parameters of its models, and the options."""

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


class VideoKeywords(SubmitOptions, total=False):
    """Keywords of the video tool's `submit`."""

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


class ThreeDKeywords(SubmitOptions, total=False):
    """Keywords of the 3D tool's `submit`."""

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


class ImageGenerate(ImageKeywords, GenerateOptions):
    """Keywords of the image tool's `generate`."""


class VideoGenerate(VideoKeywords, GenerateOptions):
    """Keywords of the video tool's `generate`."""


class ThreeDGenerate(ThreeDKeywords, GenerateOptions):
    """Keywords of the 3D tool's `generate`."""


class JobOptions(ConnectionOptions, total=False):
    """Constructor keywords of `JobSettings`."""

    wait_timeout: float | None
    save_to: str | Path | None
    ledger: str | Path | BaseStore[str, Any] | LedgerBackend | None


class MediaOptions(JobOptions, total=False):
    """Constructor keywords of `MediaSettings`."""

    progress: Progress
    max_in_flight: int | None
    allow_local_files: Sequence[str | Path]


class ToolOptions(TypedDict, total=False):
    """Constructor keywords of LangChain's `BaseTool`."""

    name: str
    description: str
    args_schema: ArgsSchema | None
    return_direct: bool
    verbose: bool
    callbacks: Callbacks
    tags: list[str] | None
    metadata: dict[str, Any] | None
    handle_tool_error: bool | str | Callable[..., Any] | None
    handle_validation_error: bool | str | Callable[..., Any] | None
    response_format: Literal["content", "content_and_artifact"]
    extras: dict[str, Any] | None


class MediaToolOptions(MediaOptions, ToolOptions, total=False):
    """Constructor keywords of the image, video and 3D tools."""

    model: str
    language: Language
    shared_folders: Sequence[str | Path]
    shared_budget: Budget | None


class ImageToolOptions(MediaToolOptions, total=False):
    """Constructor keywords of the image tool."""

    show_result: bool


class JobToolOptions(JobOptions, ToolOptions, total=False):
    """Constructor keywords of `TokenHubJobTool`."""


class ToolkitOptions(MediaOptions, total=False):
    """Constructor keywords of `TokenHubToolkit`."""

    models: Mapping[str, Kind] | Sequence[str]
    language: Language
    options: Mapping[Kind, Mapping[str, Any]]
    budget_cny: float | None
