"""The parameters of the 3D models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Generic, TypeVar

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
    MB,
    Base64,
    Boolean,
    Choice,
    FileField,
    Integer,
    String,
    param_error,
)

_SOURCES = ("prompt", "image_url", "image_base64")
_IMAGES = ("jpg", "jpeg", "png", "webp")
_FRONT = FileField(
    shape="url",
    formats=_IMAGES,
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
_ANY_IMAGE = FileField(shape="url", formats=_IMAGES, base64_field="image_base64")


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


_V = TypeVar("_V", bound=_View)
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
        require_one(self, *_SOURCES)


class Hy3DPro(Hy3D, Generic[_V]):
    """The further fields of 3.0 and 3.1."""

    multi_view_images: Annotated[list[_V] | None, HideNull()] = None
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
    if params.given("prompt") or not params.given("image_url", "image_base64"):
        what = "multi_view_images needs a front image and no prompt"
        raise param_error("views", what, "pass image_url and leave prompt out")
    types = [view.view_type for view in views]
    if not types or len(set(types)) < len(types):
        what = f"multi_view_images: {', '.join(types) or 'empty'}, each view_type once"
        raise param_error("views", what, "change the list")
    if any(view.view_image_url is None and view.view_image_base64 is None for view in views):
        what = "multi_view_images: a view without an image"
        raise param_error("views", what, "pass view_image_url or view_image_base64")


class Hy3D30(Hy3DPro[ViewImage]):
    """hy-3d-3.0 (ai3d SubmitHunyuanTo3DProJob, 1823/137181)."""

    model: ClassVar[str] = "hy-3d-3.0"

    # the page prints lower case, which the service refuses: PascalCase is sent for any spelling
    generate_type: Annotated[str | None, Choice(("Normal", "LowPoly", "Geometry", "Sketch"))] = None
    polygon_type: Annotated[str | None, Choice(("triangle", "quadrilateral"))] = None
    result_format: _ResultFormat = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.polygon_type and self.generate_type != "LowPoly":
            what = "polygon_type is only accepted with generate_type=LowPoly"
            raise param_error("polygon", what, "set generate_type, or leave polygon_type out")
        if self.face_count and self.generate_type == "LowPoly":
            warn_user("face_count has no effect with LowPoly; leave it out")

    def _check_sources(self) -> None:
        """Allow a drawing, a text, or both for a sketch; exactly one source for the rest."""
        if self.generate_type != "Sketch":
            super()._check_sources()
        elif not self.given(*_SOURCES):
            what = f"{', '.join(_SOURCES)}: none given"
            raise param_error("sketch", what, "pass an image, a text or both")
        elif len(self.given("image_url", "image_base64")) > 1:
            what = "image_url, image_base64: 2 given, one is needed"
            raise param_error("sketch", what, "leave one out")


class Hy3D31(Hy3DPro[ViewImage31]):
    """hy-3d-3.1: better shape and texture, seven further views (ai3d, 1823/137181, 1804/126189)."""

    model: ClassVar[str] = "hy-3d-3.1"

    result_format: _ResultFormat = None
    job_id: ResumedJob = None


class Hy3DExpress(Hy3D):
    """hy-3d-express: a plain model within 90 s (ai3d SubmitHunyuanTo3DRapidJob, 1823/137175)."""

    model: ClassVar[str] = "hy-3d-express"

    # the TokenHub page takes 1024 characters, the SDK names 200
    prompt: Annotated[str | None, String(1024, warn_above=200)] = None
    result_format: Annotated[str | None, Choice(("OBJ", "GLB", "STL", "USDZ", "FBX", "MP4"))] = None
    enable_pbr: Annotated[bool | None, Boolean()] = None
    enable_geometry: Annotated[bool | None, Boolean()] = None
    job_id: ResumedJob = None

    def _check_rules(self) -> None:
        super()._check_rules()
        if self.enable_geometry and self.result_format == "OBJ":
            what = "result_format OBJ is refused with enable_geometry"
            raise param_error("geometry", what, "choose another format or leave it out for GLB")


class ThreeDParams(MediaParams):
    """3D models that are not listed: the common parameters, and any other."""

    model_config = ConfigDict(extra="allow")

    prompt: Annotated[str | None, String()] = None
    image_url: Annotated[Any, _ANY_IMAGE] = None
    image_base64: _ImageBase64 = None
    enable_pbr: Annotated[bool | None, Boolean()] = None
    result_format: Annotated[str | None, String()] = None
    job_id: ResumedJob = None
