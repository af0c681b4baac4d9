"""The parameter class of each media model, and its schema with descriptions.

These classes are the table of parameters. Sources: the guide (2026-04-03); the docstrings of the
official SDKs aiart, vclm and ai3d; the product pages named beside each class. A class without
`model` has the common parameters of its kind, for models that are not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.catalogue import FxTemplate, Kind, fx_template
from langchain_tokenhub.params.base import (
    MB,
    Base64,
    Boolean,
    Choice,
    FileField,
    Integer,
    JobId,
    Language,
    MediaParams,
    ParamObject,
    PixelSize,
    String,
    localize,
    param_error,
)

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import core_schema

# --- for several models ---------------------------------------------------------------------------


class HideNull:
    """Omits the alternative null from an optional object's JSON schema."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        shown: dict[str, Any] = handler(schema)["anyOf"][0]
        return shown


class LogoRect(ParamObject):
    """Position of the mark in pixels; negative x and y count from the right and bottom (video)."""

    x: Annotated[int | None, Integer()] = None
    y: Annotated[int | None, Integer()] = None
    width: Annotated[int | None, Integer(1)] = None
    height: Annotated[int | None, Integer(1)] = None


class LogoParam(ParamObject):
    """A custom mark; `logo_url` takes precedence over `logo_image`."""

    logo_url: Annotated[str | None, String()] = None
    logo_image: Annotated[str | None, Base64(10 * MB)] = None
    logo_rect: Annotated[LogoRect | None, HideNull()] = None


# Generated content must carry a mark in mainland China (GB 45438-2025): on by default.
LogoAdd = Annotated[int | None, Choice((0, 1))]
Logo = Annotated[LogoParam | None, HideNull()]
ResumedJob = Annotated[str | None, JobId()]

# --- images ---------------------------------------------------------------------------------------

_LITE_LONG_SIDES = (
    *(160, 200, 225, 258, 512, 520, 608, 768, 1024, 1080, 1280, 1600, 1620, 1920, 2048, 2400),
    *(2560, 2592, 3440, 3840, 4096),
)
_FORMATS = ("jpg", "jpeg", "png", "bmp", "tiff", "webp")
_V3_IMAGES = FileField(
    shape="string_list",
    formats=_FORMATS,
    least=0,
    most=3,
    max_bytes_base64=6 * MB,
    side_min=50,
    side_max=5000,
)
_ANY_IMAGES = FileField(shape="string_list", formats=_FORMATS, least=0, most=10)


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


# --- videos ---------------------------------------------------------------------------------------

_FRAME_FORMATS = ("jpg", "jpeg", "png", "webp", "bmp", "tiff")
_HY_IMAGE = FileField(
    shape="url_or_base64_object",
    formats=_FRAME_FORMATS,
    max_bytes_url=10 * MB,
    max_bytes_base64=8 * MB,
    side_min=50,
    side_max=5000,
    ratio_max=4.0,
)
_YT_IMAGE = replace(_HY_IMAGE, max_bytes_url=8 * MB, max_bytes_base64=None)
_FX_IMAGES = FileField(
    shape="object_list",
    formats=_FRAME_FORMATS,
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
        raise param_error(what, "change their number")
    warn_user(f"{what} as far as known")


class YtVideoHumanactor(MediaParams):
    """yt-video-humanactor: a speaking face, from an image and a recording (vclm, 1616/125458)."""

    model: ClassVar[str] = "yt-video-humanactor"
    max_bytes: ClassVar[int | None] = 10 * MB

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
        given = self.names_set("image_url", "image_base64")
        if not given:
            raise param_error("image_url, image_base64: none given, one is needed", "pass one")
        if len(given) > 1:
            warn_user("image_base64 has no effect together with image_url; leave one out")


class VideoParams(MediaParams):
    """Video models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String()] = None
    image: Annotated[Any, FileField(shape="url_or_base64_object", formats=_FRAME_FORMATS)] = None
    resolution: Annotated[str | None, String()] = None
    logo_add: LogoAdd = None
    logo_param: Logo = None
    job_id: ResumedJob = None


# --- 3D models ------------------------------------------------------------------------------------

_SOURCES = ("prompt", "image_url", "image_base64")
_FRONT_FORMATS = ("jpg", "jpeg", "png", "webp")
_FRONT = FileField(
    shape="url",
    formats=_FRONT_FORMATS,
    base64_field="image_base64",
    max_bytes_url=8 * MB,
    max_bytes_base64=8 * MB,  # holds the 6 MB file that the pages name
    side_min=128,
    side_max=5000,
)
_VIEW = FileField(
    shape="url",
    formats=("jpg", "jpeg", "png"),
    base64_field="view_image_base64",
    max_bytes_url=8 * MB,
    max_bytes_base64=8 * MB,
    side_min=129,  # "more than 128 and less than 5000", unlike the front image
    side_max=4999,
)
_ANY_IMAGE = FileField(shape="url", formats=_FRONT_FORMATS, base64_field="image_base64")


class _View(ParamObject):
    view_type: Annotated[str, String()]
    view_image_url: Annotated[Any, _VIEW] = None
    view_image_base64: Annotated[str | None, Base64(8 * MB)] = None


class ViewImage(_View):
    """One more side of the object."""

    view_type: Annotated[str, Choice(("left", "right", "back"))]


class ViewImage31(_View):
    """One more side of the object, with the seven view types of 3.1."""

    view_type: Annotated[
        str, Choice(("left", "right", "back", "top", "bottom", "left_front", "right_front"))
    ]


_ImageBase64 = Annotated[str | None, Base64(8 * MB)]
_ResultFormat = Annotated[str | None, Choice(("STL", "USDZ", "FBX"))]


class Hy3D(MediaParams):
    """The fields of all listed 3D models."""

    prompt: Annotated[str | None, String(1024)] = None
    image_url: Annotated[Any, _FRONT] = None
    image_base64: _ImageBase64 = None

    def _check_rules(self) -> None:
        self._check_sources()

    def _check_sources(self) -> None:
        given = self.names_set(*_SOURCES)
        if len(given) != 1:
            what = f"{', '.join(_SOURCES)}: {len(given)} given, exactly one is needed"
            advice = f"keep one of {', '.join(given)}" if given else "pass one"
            raise param_error(what, advice)


class Hy3DPro(Hy3D):
    """The further fields of 3.0 and 3.1."""

    multi_view_images: Annotated[list[Any] | None, HideNull()] = None
    enable_pbr: Annotated[bool | None, Boolean()] = None
    face_count: Annotated[int | None, Integer(3000, 1_500_000)] = None
    generate_type: Annotated[str | None, Choice(("Normal", "Geometry"))] = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.multi_view_images is not None:
            _check_views(self, self.multi_view_images)
        if self.enable_pbr and self.generate_type == "Geometry":
            warn_user("enable_pbr has no effect with Geometry; leave it out")


def _check_views(params: MediaParams, views: Sequence[_View]) -> None:
    if params.names_set("prompt") or not params.names_set("image_url", "image_base64"):
        what = "multi_view_images needs a front image and no prompt"
        raise param_error(what, "pass image_url and leave prompt out")
    types = [view.view_type for view in views]
    if not types or len(set(types)) < len(types):
        what = f"multi_view_images: {', '.join(types) or 'empty'}, each view_type once"
        raise param_error(what, "change the list")
    if any(view.view_image_url is None and view.view_image_base64 is None for view in views):
        what = "multi_view_images: a view without an image"
        raise param_error(what, "pass view_image_url or view_image_base64")


class Hy3D30(Hy3DPro):
    """hy-3d-3.0 (ai3d SubmitHunyuanTo3DProJob, 1823/137181)."""

    model: ClassVar[str] = "hy-3d-3.0"

    multi_view_images: Annotated[list[ViewImage] | None, HideNull()] = None
    # the page prints lower case, which the service refuses: PascalCase is sent for any spelling
    generate_type: Annotated[str | None, Choice(("Normal", "LowPoly", "Geometry", "Sketch"))] = None
    polygon_type: Annotated[str | None, Choice(("triangle", "quadrilateral"))] = None
    result_format: _ResultFormat = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.polygon_type and self.generate_type != "LowPoly":
            what = "polygon_type is only accepted with generate_type=LowPoly"
            raise param_error(what, "set generate_type, or leave polygon_type out")
        if self.face_count and self.generate_type == "LowPoly":
            warn_user("face_count has no effect with LowPoly; leave it out")

    def _check_sources(self) -> None:
        """Allow a drawing, a text, or both for a sketch; exactly one source for the rest."""
        if self.generate_type != "Sketch":
            super()._check_sources()
        elif not self.names_set(*_SOURCES):
            raise param_error(f"{', '.join(_SOURCES)}: none given", "pass an image, a text or both")
        elif len(self.names_set("image_url", "image_base64")) > 1:
            raise param_error("image_url, image_base64: 2 given, one is needed", "leave one out")


class Hy3D31(Hy3DPro):
    """hy-3d-3.1: better shape and texture, seven further views (ai3d, 1823/137181, 1804/126189)."""

    model: ClassVar[str] = "hy-3d-3.1"

    multi_view_images: Annotated[list[ViewImage31] | None, HideNull()] = None
    result_format: _ResultFormat = None
    job_id: ResumedJob = None


class Hy3DExpress(Hy3D):
    """hy-3d-express: a plain model within 90 s (ai3d SubmitHunyuanTo3DRapidJob, 1823/137175)."""

    model: ClassVar[str] = "hy-3d-express"

    result_format: Annotated[str | None, Choice(("OBJ", "GLB", "STL", "USDZ", "FBX", "MP4"))] = None
    enable_pbr: Annotated[bool | None, Boolean()] = None
    enable_geometry: Annotated[bool | None, Boolean()] = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        super()._check_rules()
        # the TokenHub page takes 1024 characters, the SDK names 200
        if (length := len(self.prompt or "")) > 200:
            warn_user(f"{length} characters; the service may refuse more than 200")
        if self.enable_geometry and self.result_format == "OBJ":
            what = "result_format OBJ is refused with enable_geometry"
            raise param_error(what, "choose another format or leave it out for GLB")


class ThreeDParams(MediaParams):
    """3D models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String()] = None
    image_url: Annotated[Any, _ANY_IMAGE] = None
    image_base64: _ImageBase64 = None
    enable_pbr: Annotated[bool | None, Boolean()] = None
    result_format: Annotated[str | None, String()] = None
    job_id: ResumedJob = None


# --- by model and kind ----------------------------------------------------------------------------

_MODELS: tuple[type[MediaParams], ...] = (
    *(HyImageLite, HyImageV3),
    *(HyVideo15, YtVideo2, YtVideoFx, YtVideoHumanactor),
    *(Hy3D30, Hy3D31, Hy3DExpress),
)
_BY_MODEL = {cls.model: cls for cls in _MODELS}
_BY_KIND: dict[Kind, type[MediaParams]] = {
    "image": ImageParams,
    "video": VideoParams,
    "3d": ThreeDParams,
}


def params_class(model: str, kind: Kind | None = None) -> type[MediaParams]:
    """Return the parameter class of `model` in any letter case.

    Args:
        model: Model id; an unknown or `ep-…` id has the common parameters of its kind.
        kind: Kind of the model; needed only for ids that are not listed.

    Raises:
        ValueError: The id is not listed, and no kind was given.
    """
    if known := _BY_MODEL.get(model.lower()):
        return known
    if kind is None:
        raise ValueError(f"model: {model!r} is not listed; give its kind: {', '.join(_BY_KIND)}")
    return _BY_KIND[kind]


def schema_class(model: str, language: Language, kind: Kind | None = None) -> type[MediaParams]:
    """Return `model`'s parameter class with the descriptions of `language`, for `args_schema`."""
    return localize(params_class(model, kind), language)
