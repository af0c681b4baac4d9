"""Facts about TokenHub as rows of TOML files: sites, models, effect templates, errors.

Each file is read once, on first use. Models that are not listed work too.
"""

from __future__ import annotations

from langchain_tokenhub.catalogue.media import (
    FxTemplate,
    Kind,
    MediaKind,
    MediaModel,
    Price,
    estimate_price,
    fx_template,
    fx_templates,
    media_kind,
    media_model,
    media_models,
    similar_media_model,
)
from langchain_tokenhub.catalogue.tables import (
    SITE_NAMES,
    ErrorRow,
    SiteName,
    error_row,
    similar_id,
    site_hosts,
)
from langchain_tokenhub.catalogue.text import (
    ChatModel,
    EmbeddingModel,
    chat_model,
    chat_models,
    embedding_model,
    embedding_models,
    profile,
)

__all__ = ["SITE_NAMES", "ChatModel", "EmbeddingModel", "ErrorRow", "FxTemplate", "Kind"]
__all__ += ["MediaKind", "MediaModel", "Price", "SiteName", "chat_model", "chat_models"]
__all__ += ["embedding_model", "embedding_models", "error_row", "estimate_price"]
__all__ += ["fx_template", "fx_templates", "media_kind", "media_model", "media_models"]
__all__ += ["profile", "similar_id", "similar_media_model", "site_hosts"]
