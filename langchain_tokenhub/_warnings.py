"""Warnings that point at the user's line and never raise."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LIBRARIES = ("langchain_tokenhub", "langchain_core", "pydantic", "asyncio")
_suppressed: ContextVar[bool] = ContextVar("tokenhub_warnings_suppressed", default=False)


def warn_user(text: str) -> None:
    """Warn, or log if a filter turns warnings into errors: raising could lose a paid job."""
    if _suppressed.get():
        return
    try:
        warnings.warn(text, UserWarning, stacklevel=_user_level())
    except UserWarning:
        logging.getLogger("langchain_tokenhub").warning("%s", text)


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Drop the warnings of a block whose input was checked before."""
    token = _suppressed.set(True)
    try:
        yield
    finally:
        _suppressed.reset(token)


def _user_level() -> int:
    """Return the `stacklevel` of the nearest frame outside this package and those that call it."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - warnings.skip_file_prefixes is 3.12's
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    return level
