"""A TokenHub on loopback, for tests and for use without a key.

It shares no code with the package that it tests, so that a mistake cannot be in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_tokenhub.testing.server import Emulator

__all__ = ["Emulator"]

_EXTRA = {"starlette", "uvicorn", "PIL", "av"}


def __getattr__(name: str) -> Any:
    """Import the server on first use: the pytest plugin is loaded by every run of pytest."""
    if name != "Emulator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from langchain_tokenhub.testing.server import Emulator
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in _EXTRA:
            raise
        text = f'The emulator needs {missing}: pip install "langchain-tokenhub[emulator]"'
        raise ImportError(text) from error
    globals()[name] = Emulator
    return Emulator
