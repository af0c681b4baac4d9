"""The parameters of the image models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.params.base import Logo, LogoAdd, MediaParams, ResumedJob
from langchain_tokenhub.params.validators import MB, Choice, FileField, Integer, PixelSize, String

_LITE_LONG_SIDES = (
    *(160, 200, 225, 258, 512, 520, 608, 768, 1024, 1080, 1280, 1600, 1620, 1920, 2048, 2400),
    *(2560, 2592, 3440, 3840, 4096),
)
_IMAGES = ("jpg", "jpeg", "png", "bmp", "tiff", "webp")
_V3_IMAGES = FileField(
    shape="string_list",
    formats=_IMAGES,
    least=0,
    most=3,
    max_bytes_base64=6 * MB,
    side_min=50,
    side_max=5000,
)
_ANY_IMAGES = FileField(shape="string_list", formats=_IMAGES, least=0, most=10)


class HyImageLite(MediaParams):
    """hy-image-lite: one image from text, in one request (aiart TextToImageLite, 1668/120721)."""

    model: ClassVar[str] = "hy-image-lite"
    # the service's default is base64; the guide's example uses a link
    defaults: ClassVar[dict[str, Any]] = {"rsp_img_type": "url"}

    prompt: Annotated[str | None, String(1024)]
    negative_prompt: Annotated[str | None, String(1024)] = None
    # some documented pairs do not divide exactly, so the ratio is not checked
    resolution: Annotated[str | None, PixelSize(long_sides=_LITE_LONG_SIDES)] = None
    seed: Annotated[int | None, Integer(0)] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    rsp_img_type: Annotated[str | None, Choice(("url", "base64"))] = None


class HyImageV3(MediaParams):
    """hy-image-v3.0: from text and up to 3 images (SubmitTextToImageJob, 1668/124632)."""

    model: ClassVar[str] = "hy-image-v3.0"

    prompt: Annotated[str | None, String(8192)]
    images: Annotated[list[Any] | None, _V3_IMAGES] = None
    resolution: Annotated[str | None, PixelSize(least=512, most=2048, pixels=1_048_576)] = None
    seed: Annotated[int | None, Integer(1, 4_294_967_295)] = None
    revise: Annotated[int | None, Choice((0, 1))] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        if self.seed is not None and self.revise != 0:
            warn_user("seed has no effect while revise is on; set revise=0")


class ImageParams(MediaParams):
    """Image models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String()]
    images: Annotated[list[Any] | None, _ANY_IMAGES] = None
    resolution: Annotated[str | None, String()] = None
    seed: Annotated[int | None, Integer(0)] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None
