"""The parameters of the video models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.catalogue import FxTemplate, fx_template
from langchain_tokenhub.params.base import (
    ApprovedLogoAdd,
    HideNull,
    Logo,
    LogoAdd,
    MediaParams,
    ParamObject,
    ResumedJob,
)
from langchain_tokenhub.params.validators import (
    EN_SOURCES,
    MB,
    ZH_SOURCES,
    Base64,
    Boolean,
    Choice,
    FileField,
    IntChoice,
    String,
    param_error,
)

_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tiff")
_FACES = ("jpg", "jpeg", "png", "bmp", "webp")


class HyVideo15(MediaParams):
    """hy-video-1.5: from text, or text and a first image (vclm, 1616/126160)."""

    model: ClassVar[str] = "hy-video-1.5"

    prompt: Annotated[
        str | None,
        String(
            200,
            en="What happens in the video (about 5 s), best in Chinese; at most 200 characters.",
            zh="视频内容（约 5 秒），建议用中文，最多 200 个字符。",
        ),
    ]
    image: Annotated[
        Any,
        FileField(
            shape="url_or_base64_object",
            formats=_IMAGES,
            max_bytes_url=10 * MB,
            max_bytes_base64=8 * MB,
            side_min=50,
            side_max=5000,
            ratio_max=4.0,
            en=f"First image: {EN_SOURCES}; sides 50 to 5000 px, ratio up to 4:1, at most 10 MB.",
            zh=f"首帧图片：{ZH_SOURCES}；边长 50–5000 像素，比例不超过 4:1，不超过 10 MB。",
        ),
    ] = None
    resolution: Annotated[
        str | None, Choice(("720p",), en="Only 720p, the default.", zh="仅支持 720p（默认）。")
    ] = None
    logo_add: ApprovedLogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None


class YtVideo2(MediaParams):
    """yt-video-2.0: from an image (vclm SubmitImageToVideoGeneralJob)."""

    model: ClassVar[str] = "yt-video-2.0"

    prompt: Annotated[
        str | None,
        String(
            200,
            en="How the image moves, best in Chinese; at most 200 characters.",
            zh="画面如何运动，建议用中文，最多 200 个字符。",
        ),
    ] = None
    image: Annotated[
        Any,
        FileField(
            shape="url_or_base64_object",
            formats=_IMAGES,
            max_bytes_url=8 * MB,
            side_min=50,
            side_max=5000,
            ratio_max=4.0,
            en=f"The image to animate: {EN_SOURCES}; sides 50 to 5000 px, ratio up to 4:1, at "
            "most 8 MB.",
            zh=f"要生成视频的图片：{ZH_SOURCES}；边长 50–5000 像素，比例不超过 4:1，不超过 8 MB。",
        ),
    ]
    resolution: Annotated[
        str | None,
        Choice(
            ("480p", "720p", "1080p"),
            en="480p (about 2 credits), 720p or 1080p (about 5). The default is the service's.",
            zh="480p（约 2 积分）、720p 或 1080p（约 5 积分）。默认由服务决定。",
        ),
    ] = None
    fps: Annotated[
        int | None,
        IntChoice(
            (16, 24, 30),
            en="Frames per second: 16, 24 or 30. Default 30.",
            zh="帧率：16、24、30。默认 30。",
        ),
    ] = None
    logo_add: ApprovedLogoAdd = None
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

    template: Annotated[
        str | None,
        String(
            en="Effect, such as hug (1-2 images), kissing (1-2), hearting (1-2), befigure, fuzzy, "
            "bloom, balloonfly, petdance, birthdayme, livephoto, zoomin, oilpainting; 141 in the "
            "docs.",
            zh="特效模板，如 hug 拥抱（1–2 张图）、kissing 亲吻（1–2）、hearting 比心（1–2）、"
            "befigure 变手办风、fuzzy 毛茸茸、bloom 万物生花、balloonfly 飞走了、petdance 萌宠草裙"
            "舞、birthdayme 一起庆生、livephoto 图片live、zoomin 镜头推近、oilpainting；文档中共 "
            "141 个。",
        ),
    ]
    images: Annotated[
        list[Any] | None,
        FileField(
            shape="object_list",
            formats=_IMAGES,
            most=10,
            max_bytes_base64=10 * MB,
            side_min=300,
            side_max=4096,
            ratio_max=4.0,
            en=f"1 to 10 images, mostly 1, by template: {EN_SOURCES}; sides 300 to 4096 px, ratio "
            "up to 4:1, at most 10 MB.",
            zh=f"1–10 张图片，张数由模板决定，多为 1 张：{ZH_SOURCES}；边长 300–4096 像素，比例不"
            "超过 4:1，不超过 10 MB。",
        ),
    ]
    resolution: Annotated[
        str | None,
        Choice(
            ("360p", "540p", "720p"),
            en="360p (mostly 1 credit) or 720p (mostly 2); 540p for a few templates. Default 360p.",
            zh="360p（多为 1 积分）或 720p（多为 2 积分）；少数模板支持 540p。默认 360p。",
        ),
    ] = None
    bgm: Annotated[
        bool | None,
        Boolean(en="Adds background music. Default false.", zh="添加背景音乐。默认 false。"),
    ] = None
    logo_add: ApprovedLogoAdd = None
    logo_param: Logo = None
    extra_param: Annotated[
        FxExtraParam | None,
        HideNull(
            en="Rarely needed: user_designated_url (upload target), callback_url, bgm_text.",
            zh="很少需要：user_designated_url（上传地址）、callback_url、bgm_text。",
        ),
    ] = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        template = fx_template(self.template or "")
        if template:
            _check_images(template, len(self.images or ()))


class YtVideoHumanactor(MediaParams):
    """yt-video-humanactor: a speaking face, from an image and a recording (vclm, 1616/125458)."""

    model: ClassVar[str] = "yt-video-humanactor"
    most_bytes: ClassVar[int | None] = 10 * MB

    prompt: Annotated[
        str | None,
        String(
            5000,
            en="How the person acts, best in Chinese; #3#text holds from second 3. At most 5000 "
            "characters.",
            zh="人物表现，建议用中文；#3#文字 表示从第 3 秒起。最多 5000 个字符。",
        ),
    ]
    audio_url: Annotated[
        Any,
        FileField(
            shape="url",
            formats=("mp3", "wav"),
            max_bytes_url=10 * MB,
            seconds_min=2.0,
            seconds_max=60.0,
            en="Public link to speech: mp3 or wav, 2 to 60 s, at most 10 MB. Each second costs.",
            zh="语音的公网链接：mp3 或 wav，2–60 秒，不超过 10 MB。按秒计费。",
        ),
    ]
    image_url: Annotated[
        Any,
        FileField(
            shape="url",
            formats=_FACES,
            base64_field="image_base64",
            max_bytes_url=10 * MB,
            max_bytes_base64=10 * MB,
            side_min=192,
            side_max=4096,
            ratio_max=4.0,
            en=f"Image with one clear human or pet face, mouth free: {EN_SOURCES}; sides 192 to "
            "4096 px, at most 10 MB. This or image_base64.",
            zh=f"含一张清晰人脸或宠物脸（嘴部无遮挡）的图片：{ZH_SOURCES}；边长 192–4096 像素，不"
            "超过 10 MB。与 image_base64 二选一。",
        ),
    ] = None
    image_base64: Annotated[
        str | None,
        Base64(
            10 * MB,
            en="The image as base64; prefer image_url.",
            zh="图片的 base64；建议使用 image_url。",
        ),
    ] = None
    resolution: Annotated[
        str | None,
        Choice(
            ("720p", "1080p"),
            en="720p, or 1080p at double the price. Default 1080p.",
            zh="720p，或价格翻倍的 1080p。默认 1080p。",
        ),
    ] = None
    frame_rate: Annotated[
        int | None,
        IntChoice(
            (25, 50), en="Frames per second: 25 or 50. Default 50.", zh="帧率：25 或 50。默认 50。"
        ),
    ] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        given = self.given("image_url", "image_base64")
        if not given:
            raise param_error(
                "face", "image_url, image_base64: none given, one is needed", "give one"
            )
        if len(given) > 1:
            warn_user("image_base64 has no effect beside image_url; leave one out")


class VideoParams(MediaParams):
    """Video models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String(en="What happens in the video.", zh="视频内容。")] = None
    image: Annotated[
        Any,
        FileField(
            shape="url_or_base64_object",
            formats=_IMAGES,
            en=f"First image: {EN_SOURCES}.",
            zh=f"首帧图片：{ZH_SOURCES}。",
        ),
    ] = None
    resolution: Annotated[str | None, String(en="Such as 720p.", zh="如 720p。")] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None


def _check_images(template: FxTemplate, count: int) -> None:
    least, most = template.images_min, template.images_max
    if least <= count <= most:
        return
    wanted = f"{least}" if least == most else f"{least} to {most}"
    what = f"images: {count} given, template {template.id} takes {wanted}"
    if template.images_known:
        raise param_error("images", what, "change their number")
    warn_user(f"{what} as far as known")
