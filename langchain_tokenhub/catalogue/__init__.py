"""What is known about TokenHub, as rows: sites, models, templates, errors.

Each TOML file is read once, when it is first asked for; so is what reads it. The rows are hints: a
model that is not listed works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader

if TYPE_CHECKING:
    from langchain_tokenhub.catalogue._chat import ChatModel, chat_model, chat_models, profile
    from langchain_tokenhub.catalogue._errors import ErrorRow, error_row
    from langchain_tokenhub.catalogue._media import (
        FxTemplate,
        Kind,
        MediaKind,
        MediaModel,
        Price,
        fx_template,
        fx_templates,
        media_kind,
        media_model,
        media_models,
    )
    from langchain_tokenhub.catalogue._sites import SITE_NAMES, Site, site

__all__ = [
    "SITE_NAMES",
    "ChatModel",
    "ErrorRow",
    "FxTemplate",
    "Kind",
    "MediaKind",
    "MediaModel",
    "Price",
    "Site",
    "chat_model",
    "chat_models",
    "error_row",
    "fx_template",
    "fx_templates",
    "media_kind",
    "media_model",
    "media_models",
    "profile",
    "site",
]

__getattr__ = loader(
    __name__,
    {
        "_chat": ("ChatModel", "chat_model", "chat_models", "profile"),
        "_errors": ("ErrorRow", "error_row"),
        "_media": (
            "FxTemplate",
            "Kind",
            "MediaKind",
            "MediaModel",
            "Price",
            "fx_template",
            "fx_templates",
            "media_kind",
            "media_model",
            "media_models",
        ),
        "_sites": ("SITE_NAMES", "Site", "site"),
    },
)
