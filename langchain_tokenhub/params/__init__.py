"""The parameters of the media models, one pydantic class each."""

from __future__ import annotations

from langchain_tokenhub.params.base import MediaParams, ParamObject, encode_params, file_fields
from langchain_tokenhub.params.registry import (
    Language,
    description,
    explain,
    params_class,
    schema_class,
)
from langchain_tokenhub.params.validators import FileField, short_repr, strip_query

__all__ = [
    "FileField",
    "Language",
    "MediaParams",
    "ParamObject",
    "description",
    "encode_params",
    "explain",
]
__all__ += ["file_fields", "params_class", "schema_class", "short_repr", "strip_query"]
