"""The parameters of the nine media models: a pydantic class each, checked before sending."""

from __future__ import annotations

from langchain_tokenhub.media.base import (
    LogoParam,
    LogoRect,
    MediaParams,
    Part,
    file_fields,
    wire,
)
from langchain_tokenhub.media.checks import FileField, Text, shown, told_already, without_query
from langchain_tokenhub.media.explain import explain
from langchain_tokenhub.media.image import HyImageLite, HyImageV3, ImageParams
from langchain_tokenhub.media.table import Language, params_class, schema_class
from langchain_tokenhub.media.three_d import (
    Hy3D30,
    Hy3D31,
    Hy3DExpress,
    ThreeDParams,
    ViewImage,
    ViewImage31,
)
from langchain_tokenhub.media.video import (
    HyVideo15,
    VideoParams,
    YtVideo2,
    YtVideoFx,
    YtVideoHumanactor,
)

__all__ = [
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
    "Part",
    "Text",
    "ThreeDParams",
    "VideoParams",
    "ViewImage",
    "ViewImage31",
    "YtVideo2",
    "YtVideoFx",
    "YtVideoHumanactor",
    "explain",
    "file_fields",
    "params_class",
    "schema_class",
    "shown",
    "told_already",
    "wire",
    "without_query",
]
