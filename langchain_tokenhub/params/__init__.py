"""The parameters of the media models, one pydantic class each."""

from __future__ import annotations

from langchain_tokenhub.params.base import (
    FileField,
    Language,
    MediaParams,
    ParamObject,
    description,
    encode_params,
    explain,
    file_fields,
    has_files,
    short_repr,
    strip_query,
)
from langchain_tokenhub.params.models import params_class, schema_class

__all__ = ["FileField", "Language", "MediaParams", "ParamObject", "description", "encode_params"]
__all__ += ["explain", "file_fields", "has_files", "params_class", "schema_class", "short_repr"]
__all__ += ["strip_query"]
