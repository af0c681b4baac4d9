"""Warnings that never become errors."""

from __future__ import annotations

import logging
import warnings

logger = logging.getLogger("langchain_tokenhub")


def warn_user(text: str) -> None:
    """Warn, and never raise: a filter that turns warnings into errors must not lose a result."""
    try:
        warnings.warn(text, UserWarning, stacklevel=3)
    except UserWarning:
        logger.warning("%s", text)
