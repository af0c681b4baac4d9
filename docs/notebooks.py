"""Notebooks, made of text by jupytext: the text is the truth, a notebook holds no output. Pure."""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

FORMATS = {".md": "md", ".py": "py:percent"}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_INSTALL = "%%bash\npip install"


def notebook(path: Path) -> str:
    """Return a text as a notebook; what it installs is shown, and skipped by a test."""
    made = jupytext.reads(path.read_text("utf-8"), fmt=FORMATS[path.suffix])
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # jupytext's are random
        if cell.source.startswith(_INSTALL):
            cell["source"] = cell.source.replace(_INSTALL, "%pip install")
            cell["metadata"] = {"tags": ["skip-execution"]}
    made["metadata"] = {"kernelspec": KERNEL}
    return f"{nbformat.writes(made)}\n"
