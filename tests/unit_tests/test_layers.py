"""The import rules of docs/architecture.md: who may know whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import langchain_tokenhub

ROOT = Path(langchain_tokenhub.__file__).parent
PACKAGE = "langchain_tokenhub"
VALUES = {"_lazy", "_version", "catalogue", "errors"}
MAY_IMPORT = {
    "__init__": None,  # re-exports all of it, lazily
    "catalogue": {"_lazy", "catalogue"},
    "errors": {"catalogue"},
    "transport": VALUES | {"transport"},
    "settings": VALUES | {"transport"},
    "chat": VALUES | {"chat"},
    "media": VALUES | {"media"},
    "jobs": VALUES | {"media", "jobs", "transport"},
    "chat_models": VALUES | {"chat", "settings", "transport"},
    "tools": VALUES | {"jobs", "media", "settings", "tools", "transport"},
    "gallery": VALUES | {"jobs", "media"},
    "cli": VALUES
    | {"chat_models", "cli", "gallery", "jobs", "media", "tools"}
    | {"testing"},  # `tokenhub emulator` alone, which nobody imports
    "testing": {"testing"},
}


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, those for types alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            if node.module == PACKAGE:
                found |= {f"{PACKAGE}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_room_imports_only_what_it_may(path):
    allowed = MAY_IMPORT.get(room_of(path), VALUES)
    inside = {name.split(".")[1] for name in imports_of(path) if name.startswith(f"{PACKAGE}.")}
    assert allowed is None or inside <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_httpx_is_imported_in_transport_alone(path):
    names = {name.split(".")[0] for name in imports_of(path)}
    assert room_of(path) == "transport" or not names & {"httpx", "httpcore"}
