"""The parameters of the video models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.catalogue import FxTemplate, fx_template
from langchain_tokenhub.params.base import (
    HideNull,
    Logo,
    LogoAdd,
    MediaParams,
    ParamObject,
    ResumedJob,
)
from langchain_tokenhub.params.validators import (
    MB,
    Base64,
    Boolean,
    Choice,
    FileField,
    String,
    param_error,
)

_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tiff")
_HY_IMAGE = FileField(
    shape="url_or_base64_object",
    formats=_IMAGES,
    max_bytes_url=10 * MB,
    max_bytes_base64=8 * MB,
    side_min=50,
    side_max=5000,
    ratio_max=4.0,
)
_YT_IMAGE = FileField(
    shape="url_or_base64_object",
    formats=_IMAGES,
    max_bytes_url=8 * MB,
    side_min=50,
    side_max=5000,
    ratio_max=4.0,
)
_FX_IMAGES = FileField(
    shape="object_list",
    formats=_IMAGES,
    most=10,
    max_bytes_base64=10 * MB,
    side_min=300,
    side_max=4096,
    ratio_max=4.0,
)
_SPEECH = FileField(
    shape="url",
    formats=("mp3", "wav"),
    max_bytes_url=10 * MB,
    seconds_min=2.0,
    seconds_max=60.0,
)
_FACE = FileField(
    shape="url",
    formats=("jpg", "jpeg", "png", "bmp", "webp"),
    base64_field="image_base64",
    max_bytes_url=10 * MB,
    max_bytes_base64=10 * MB,
    side_min=192,
    side_max=4096,
    ratio_max=4.0,
)


class HyVideo15(MediaParams):
    """hy-video-1.5: from text, or text and a first image (vclm, 1616/126160)."""

    model: ClassVar[str] = "hy-video-1.5"

    prompt: Annotated[str | None, String(200)]
    image: Annotated[Any, _HY_IMAGE] = None
    resolution: Annotated[str | None, Choice(("720p",))] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None


class YtVideo2(MediaParams):
    """yt-video-2.0: from an image (vclm SubmitImageToVideoGeneralJob)."""

    model: ClassVar[str] = "yt-video-2.0"

    prompt: Annotated[str | None, String(200)] = None
    image: Annotated[Any, _YT_IMAGE]
    resolution: Annotated[str | None, Choice(("480p", "720p", "1080p"))] = None
    fps: Annotated[int | None, Choice((16, 24, 30))] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None


class FxExtraParam(ParamObject):
    """Further settings of the upstream API; whether TokenHub forwards them is not known."""

    model_config = ConfigDict(extra="allow")

    user_designated_url: Annotated[str | None, String()] = None
    callback_url: Annotated[str | None, String()] = None
    bgm_text: Annotated[str | None, String()] = None


class YtVideoFx(MediaParams):
    """yt-video-fx: from images and an effect template (vclm, 1616/119001)."""

    model: ClassVar[str] = "yt-video-fx"

    template: Annotated[str | None, String()]
    images: Annotated[list[Any] | None, _FX_IMAGES]
    resolution: Annotated[str | None, Choice(("360p", "540p", "720p"))] = None
    bgm: Annotated[bool | None, Boolean()] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    extra_param: Annotated[FxExtraParam | None, HideNull()] = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        if template := fx_template(self.template or ""):
            _check_count(template, len(self.images or ()))


def _check_count(template: FxTemplate, count: int) -> None:
    least, most = template.images_min, template.images_max
    if least <= count <= most:
        return
    wanted = f"{least}" if least == most else f"{least} to {most}"
    what = f"images: {count} given, template {template.id} needs {wanted}"
    if template.images_known:
        raise param_error("images", what, "change their number")
    warn_user(f"{what} as far as known")


class YtVideoHumanactor(MediaParams):
    """yt-video-humanactor: a speaking face, from an image and a recording (vclm, 1616/125458)."""

    model: ClassVar[str] = "yt-video-humanactor"
    most_bytes: ClassVar[int | None] = 10 * MB

    prompt: Annotated[str | None, String(5000)]
    audio_url: Annotated[Any, _SPEECH]
    image_url: Annotated[Any, _FACE] = None
    image_base64: Annotated[str | None, Base64(10 * MB)] = None
    resolution: Annotated[str | None, Choice(("720p", "1080p"))] = None
    frame_rate: Annotated[int | None, Choice((25, 50))] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        given = self.given("image_url", "image_base64")
        if not given:
            what = "image_url, image_base64: none given, one is needed"
            raise param_error("face", what, "pass one")
        if len(given) > 1:
            warn_user("image_base64 has no effect together with image_url; leave one out")


class VideoParams(MediaParams):
    """Video models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String()] = None
    image: Annotated[Any, FileField(shape="url_or_base64_object", formats=_IMAGES)] = None
    resolution: Annotated[str | None, String()] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None
