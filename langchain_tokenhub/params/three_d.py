"""The parameters of the 3D models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.params.base import (
    HideNull,
    MediaParams,
    ParamObject,
    ResumedJob,
    require_one,
)
from langchain_tokenhub.params.validators import (
    EN_SOURCES,
    MB,
    ZH_SOURCES,
    Base64,
    Boolean,
    Choice,
    FileField,
    Integer,
    String,
    param_error,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOURCES = ("prompt", "image_url", "image_base64")
_IMAGES = ("jpg", "jpeg", "png", "webp")

_ImageBase64 = Annotated[
    str | None,
    Base64(
        8 * MB,
        en="The image as base64; prefer image_url.",
        zh="图片的 base64；建议使用 image_url。",
    ),
]
_VIEW_FILE = FileField(
    shape="url",
    formats=("jpg", "jpeg", "png"),
    base64_field="view_image_base64",
    max_bytes_url=8 * MB,
    max_bytes_base64=8 * MB,
    side_min=129,  # "more than 128 and less than 5000", unlike the front image
    side_max=4999,
)


class _View(ParamObject):
    view_type: Annotated[str, String()]
    view_image_url: Annotated[Any, _VIEW_FILE] = None
    view_image_base64: Annotated[str | None, Base64(8 * MB)] = None


class ViewImage(_View):
    """One more side of the object."""

    view_type: Annotated[str, Choice(("left", "right", "back"))]


class ViewImage31(_View):
    """One more side of the object, with the seven view types of 3.1."""

    view_type: Annotated[
        str, Choice(("left", "right", "back", "top", "bottom", "left_front", "right_front"))
    ]


_V = TypeVar("_V", bound=_View)
_Views = Annotated[
    list[_V] | None,
    HideNull(
        en="Further sides beside the front image, each view_type once, +10 credits; not with "
        "prompt.",
        zh="除正面图外的其他视角，每个 view_type 一张，加 10 积分；不能与 prompt 同用。",
    ),
]
_ResultFormat = Annotated[
    str | None,
    Choice(
        ("STL", "USDZ", "FBX"),
        en="One further format, +5 credits. Default: obj and glb (Geometry: glb).",
        zh="另加一种格式，加 5 积分。默认 obj 和 glb（Geometry 为 glb）。",
    ),
]


class _Hy3D(MediaParams):
    """The fields of all listed 3D models."""

    prompt: Annotated[
        str | None,
        String(
            1024,
            en="The object in words, best in Chinese; at most 1024 characters.",
            zh="用文字描述物体，建议用中文，最多 1024 个字符。",
        ),
    ] = None
    # 8 MB of base64 hold the 6 MB file that the pages name
    image_url: Annotated[
        Any,
        FileField(
            shape="url",
            formats=_IMAGES,
            base64_field="image_base64",
            max_bytes_url=8 * MB,
            max_bytes_base64=8 * MB,
            side_min=128,
            side_max=5000,
            en=f"Image of the object, front view: {EN_SOURCES}; sides 128 to 5000 px, at most 8 "
            "MB. Exactly one of prompt, image_url, image_base64.",
            zh=f"物体的正面图片：{ZH_SOURCES}；边长 128–5000 像素，不超过 8 MB。prompt、"
            "image_url、image_base64 三选一。",
        ),
    ] = None
    image_base64: _ImageBase64 = None

    def _check_rules(self) -> None:
        self._check_sources()

    def _check_sources(self) -> None:
        require_one(self, *_SOURCES)


class _Hy3DPro(_Hy3D, Generic[_V]):
    """The further fields of 3.0 and 3.1."""

    multi_view_images: _Views[_V] = None
    enable_pbr: Annotated[
        bool | None,
        Boolean(
            en="PBR material, +10 credits; no effect with Geometry. Default false.",
            zh="PBR 材质，加 10 积分；对 Geometry 无效。默认 false。",
        ),
    ] = None
    face_count: Annotated[
        int | None,
        Integer(
            3000,
            1_500_000,
            en="Faces, 3000 to 1500000, +10 credits; no effect with LowPoly. Default 500000.",
            zh="面数，3000–1500000，加 10 积分；对 LowPoly 无效。默认 500000。",
        ),
    ] = None
    generate_type: Annotated[
        str | None,
        Choice(
            ("Normal", "Geometry"),
            en="Normal (20 credits) or Geometry (15, no texture). Default Normal.",
            zh="Normal（20 积分）或 Geometry 白模（15 积分）。默认 Normal。",
        ),
    ] = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.multi_view_images is not None:
            _check_views(self, self.multi_view_images)
        if self.enable_pbr and self.generate_type == "Geometry":
            warn_user("enable_pbr has no effect with Geometry; leave it out")


class Hy3D30(_Hy3DPro[ViewImage]):
    """hy-3d-3.0 (ai3d SubmitHunyuanTo3DProJob, 1823/137181)."""

    model: ClassVar[str] = "hy-3d-3.0"

    # the page prints lower case, which the service refuses: PascalCase is sent for any spelling
    generate_type: Annotated[
        str | None,
        Choice(
            ("Normal", "LowPoly", "Geometry", "Sketch"),
            en="Normal (20 credits), LowPoly (25), Geometry (15, no texture), Sketch (25, a "
            "drawing, prompt allowed beside it). Default Normal.",
            zh="Normal（20 积分）、LowPoly 低面（25）、Geometry 白模（15）、Sketch 草图（25，可同"
            "时给 prompt）。默认 Normal。",
        ),
    ] = None
    polygon_type: Annotated[
        str | None,
        Choice(
            ("triangle", "quadrilateral"),
            en="Only with LowPoly: triangle or quadrilateral (mixed). Default triangle.",
            zh="仅用于 LowPoly：triangle 或 quadrilateral（混合）。默认 triangle。",
        ),
    ] = None
    result_format: _ResultFormat = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.polygon_type and self.generate_type != "LowPoly":
            what = "polygon_type is only taken with generate_type=LowPoly"
            raise param_error("polygon", what, "set generate_type, or leave polygon_type out")
        if self.face_count and self.generate_type == "LowPoly":
            warn_user("face_count has no effect with LowPoly; leave it out")

    def _check_sources(self) -> None:
        """Allow a drawing, a text, or both for a sketch; exactly one source for the rest."""
        if self.generate_type != "Sketch":
            super()._check_sources()
        elif not self.given(*_SOURCES):
            what = f"{', '.join(_SOURCES)}: none given"
            raise param_error("sketch", what, "give an image, a text or both")
        elif len(self.given("image_url", "image_base64")) > 1:
            what = "image_url, image_base64: 2 given, one is taken"
            raise param_error("sketch", what, "leave one out")


class Hy3D31(_Hy3DPro[ViewImage31]):
    """hy-3d-3.1: better shape and texture, seven further views (ai3d, 1823/137181, 1804/126189)."""

    model: ClassVar[str] = "hy-3d-3.1"

    result_format: _ResultFormat = None
    job_id: ResumedJob = None


class Hy3DExpress(_Hy3D):
    """hy-3d-express: a plain model within 90 s (ai3d SubmitHunyuanTo3DRapidJob, 1823/137175)."""

    model: ClassVar[str] = "hy-3d-express"

    # the TokenHub page takes 1024 characters, the SDK names 200
    prompt: Annotated[
        str | None,
        String(
            1024,
            warn_above=200,
            en="The object in words, best in Chinese; best within 200 characters, at most 1024.",
            zh="用文字描述物体，建议用中文，建议 200 个字符以内，最多 1024。",
        ),
    ] = None
    result_format: Annotated[
        str | None,
        Choice(
            ("OBJ", "GLB", "STL", "USDZ", "FBX", "MP4"),
            en="File format. Default OBJ; with enable_geometry GLB, and OBJ is refused.",
            zh="文件格式。默认 OBJ；enable_geometry 时默认 GLB，且不支持 OBJ。",
        ),
    ] = None
    enable_pbr: Annotated[
        bool | None, Boolean(en="PBR material. Default false.", zh="PBR 材质。默认 false。")
    ] = None
    enable_geometry: Annotated[
        bool | None,
        Boolean(
            en="A white model without texture. Default false.",
            zh="生成不带纹理的白模。默认 false。",
        ),
    ] = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.enable_geometry and self.result_format == "OBJ":
            what = "result_format OBJ is refused with enable_geometry"
            raise param_error("geometry", what, "choose another format or leave it out for GLB")


class ThreeDParams(MediaParams):
    """3D models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String(en="The object in words.", zh="用文字描述物体。")] = None
    image_url: Annotated[
        Any,
        FileField(
            shape="url",
            formats=_IMAGES,
            base64_field="image_base64",
            en=f"Image of the object: {EN_SOURCES}.",
            zh=f"物体图片：{ZH_SOURCES}。",
        ),
    ] = None
    image_base64: _ImageBase64 = None
    enable_pbr: Annotated[bool | None, Boolean(en="PBR material.", zh="PBR 材质。")] = None
    result_format: Annotated[
        str | None, String(en="File format, such as GLB.", zh="文件格式，如 GLB。")
    ] = None
    job_id: ResumedJob = None


def _check_views(params: MediaParams, views: Sequence[_View]) -> None:
    if params.given("prompt") or not params.given("image_url", "image_base64"):
        what = "multi_view_images needs a front image and no prompt"
        raise param_error("views", what, "give image_url and leave prompt out")
    types = [view.view_type for view in views]
    if not types or len(set(types)) < len(types):
        what = f"multi_view_images: {', '.join(types) or 'empty'}, each view_type once"
        raise param_error("views", what, "change the list")
    if any(view.view_image_url is None and view.view_image_base64 is None for view in views):
        what = "multi_view_images: a view without an image"
        raise param_error("views", what, "give view_image_url or view_image_base64")
