"""The parameters of the media models, one pydantic class each."""

from __future__ import annotations

from langchain_tokenhub.params.base import (
    LogoParam,
    LogoRect,
    MediaParams,
    ParamObject,
    encode_params,
    file_fields,
)
from langchain_tokenhub.params.image import HyImageLite, HyImageV3, ImageParams
from langchain_tokenhub.params.registry import Language, explain, params_class, schema_class
from langchain_tokenhub.params.three_d import (
    Hy3D30,
    Hy3D31,
    Hy3DExpress,
    ThreeDParams,
    ViewImage,
    ViewImage31,
)
from langchain_tokenhub.params.validators import (
    Description,
    FileField,
    short_repr,
    strip_query,
)
from langchain_tokenhub.params.video import (
    HyVideo15,
    VideoParams,
    YtVideo2,
    YtVideoFx,
    YtVideoHumanactor,
)

__all__ = [
    "Description",
    "FileField",
    "Hy3D30",
    "Hy3D31",
    "Hy3DExpress",
    "HyImageLite",
    "HyImageV3",
    "HyVideo15",
    "ImageParams",
    "Language",
    "LogoParam",
    "LogoRect",
    "MediaParams",
    "ParamObject",
    "ThreeDParams",
    "VideoParams",
    "ViewImage",
    "ViewImage31",
    "YtVideo2",
    "YtVideoFx",
    "YtVideoHumanactor",
    "encode_params",
    "explain",
    "file_fields",
    "params_class",
    "schema_class",
    "short_repr",
    "strip_query",
]
