"""The parameters of the media models, one pydantic class each."""

from __future__ import annotations

from langchain_tokenhub.params.base import (
    Language,
    MediaParams,
    ParamObject,
    description,
    encode_params,
    explain,
    file_fields,
)
from langchain_tokenhub.params.models import params_class, schema_class
from langchain_tokenhub.params.validators import FileField, short_repr, strip_query

__all__ = ["FileField", "Language", "MediaParams", "ParamObject", "description", "encode_params"]
__all__ += ["explain", "file_fields", "params_class", "schema_class", "short_repr", "strip_query"]
