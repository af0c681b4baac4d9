"""The parameters of the image models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.params.base import Logo, LogoAdd, MediaParams, ResumedJob
from langchain_tokenhub.params.validators import (
    EN_SOURCES,
    MB,
    ZH_SOURCES,
    Choice,
    FileField,
    IntChoice,
    Integer,
    PixelSize,
    String,
)

_LITE_LONG_SIDES = (
    *(160, 200, 225, 258, 512, 520, 608, 768, 1024, 1080, 1280, 1600, 1620, 1920, 2048, 2400),
    *(2560, 2592, 3440, 3840, 4096),
)
_IMAGES = ("jpg", "jpeg", "png", "bmp", "tiff", "webp")


class HyImageLite(MediaParams):
    """hy-image-lite: one image from text, in one request (aiart TextToImageLite, 1668/120721)."""

    model: ClassVar[str] = "hy-image-lite"
    # the service's default is base64; the guide's example uses a link
    defaults: ClassVar[dict[str, Any]] = {"rsp_img_type": "url"}

    prompt: Annotated[
        str | None,
        String(
            1024,
            en="What the image shows, best in Chinese; at most 1024 characters.",
            zh="画面描述，建议用中文，最多 1024 个字符。",
        ),
    ]
    negative_prompt: Annotated[
        str | None,
        String(
            1024,
            en="What it must not show; at most 1024 characters.",
            zh="不希望出现的内容，最多 1024 个字符。",
        ),
    ] = None
    # some documented pairs do not divide exactly, so the ratio is not checked
    resolution: Annotated[
        str | None,
        PixelSize(
            long_sides=_LITE_LONG_SIDES,
            en="width:height in pixels, ratio 1:1, 3:4, 4:3, 9:16 or 16:9, such as 1280:720. "
            "Default 1024:1024.",
            zh="宽:高（像素），比例 1:1、3:4、4:3、9:16、16:9，如 1280:720。默认 1024:1024。",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Integer(
            0,
            en="The same seed repeats an image; 0 is random. Default random.",
            zh="相同种子可复现图片，0 为随机。默认随机。",
        ),
    ] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    rsp_img_type: Annotated[
        str | None,
        Choice(
            ("url", "base64"),
            en="How the image comes back: url (good for 1 hour) or base64. Default url.",
            zh="返回方式：url（1 小时有效）或 base64。默认 url。",
        ),
    ] = None


class HyImageV3(MediaParams):
    """hy-image-v3.0: from text and up to 3 images (SubmitTextToImageJob, 1668/124632)."""

    model: ClassVar[str] = "hy-image-v3.0"

    prompt: Annotated[
        str | None,
        String(
            8192,
            en="What the image shows, style included, best in Chinese; at most 8192 characters.",
            zh="画面描述（可写风格），建议用中文，最多 8192 个字符。",
        ),
    ]
    images: Annotated[
        list[Any] | None,
        FileField(
            shape="string_list",
            formats=_IMAGES,
            least=0,
            most=3,
            max_bytes_base64=6 * MB,
            side_min=50,
            side_max=5000,
            en=f"Up to 3 images to edit or follow: {EN_SOURCES}; sides 50 to 5000 px, below 6 MB.",
            zh=f"最多 3 张参考图：{ZH_SOURCES}；边长 50–5000 像素，小于 6 MB。",
        ),
    ] = None
    resolution: Annotated[
        str | None,
        PixelSize(
            least=512,
            most=2048,
            pixels=1_048_576,
            en="width:height in pixels, each 512 to 2048, together at most 1048576, such as "
            "1280:720. With images it only guides. Default 1024:1024.",
            zh="宽:高（像素），各 512–2048，乘积不超过 1048576，如 1280:720；有参考图时仅供参考。"
            "默认 1024:1024。",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Integer(
            1,
            4_294_967_295,
            en="The same seed repeats an image, only with revise=0. Default random.",
            zh="相同种子可复现图片，仅在 revise=0 时有效。默认随机。",
        ),
    ] = None
    revise: Annotated[
        int | None,
        IntChoice(
            (0, 1),
            en="1 lets the service rewrite the prompt (about 20 s more), 0 takes it as it is. "
            "Default 1.",
            zh="1 由服务改写提示词（约多 20 秒），0 不改写。默认 1。",
        ),
    ] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        if self.seed is not None and self.revise != 0:
            warn_user("seed has no effect while revise is on; set revise=0")


class ImageParams(MediaParams):
    """Image models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String(en="What the image shows.", zh="画面描述。")]
    images: Annotated[
        list[Any] | None,
        FileField(
            shape="string_list",
            formats=_IMAGES,
            least=0,
            most=10,
            en=f"Images to edit or follow: {EN_SOURCES}.",
            zh=f"参考图：{ZH_SOURCES}。",
        ),
    ] = None
    resolution: Annotated[
        str | None,
        String(en="width:height in pixels, such as 1024:1024.", zh="宽:高（像素），如 1024:1024。"),
    ] = None
    seed: Annotated[
        int | None, Integer(0, en="The same seed repeats an image.", zh="相同种子可复现图片。")
    ] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None
