"""The import rules of docs/architecture.md, over all imports, for types alone too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import langchain_tokenhub

PACKAGE = "langchain_tokenhub"
ROOT = Path(langchain_tokenhub.__file__).parent
LEAVES = {"_lazy", "_version", "_warnings", "catalogue"}
MAY_IMPORT = {
    "catalogue": set(),
    "errors": {"catalogue"},
    "telemetry": {"_version"},
    "transport": LEAVES | {"errors", "telemetry"},
    "settings": LEAVES | {"errors", "transport"},
    "params": LEAVES,
    "chat": LEAVES | {"errors"},
    "jobs": LEAVES | {"errors", "params", "telemetry", "transport"},
    "chat_models": LEAVES | {"chat", "errors", "settings", "telemetry", "transport"},
    "embeddings": LEAVES | {"errors", "settings", "telemetry", "transport"},
    "tools": LEAVES | {"errors", "jobs", "params", "settings", "transport"},
    "mcp": LEAVES | {"errors", "jobs", "tools"},
    "gallery": LEAVES | {"errors", "jobs", "params"},
    "bulk": LEAVES | {"errors", "gallery", "jobs", "params", "settings", "tools", "transport"},
    "cli": LEAVES
    | {"bulk", "chat_models", "errors", "gallery", "jobs", "mcp", "params", "testing", "tools"},
    "testing": set(),
}
"""What each part may import beside itself; the package's `__init__` exports all of it."""


def module_of(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in ROOT.rglob("*.py")}


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return found


GRAPH = {name: imports_of(path) for name, path in MODULES.items()}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_module_imports_itself_over_others():
    inside = {name: found & MODULES.keys() - {name} for name, found in GRAPH.items()}
    exporting = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {name: found for name, found in inside.items() if name not in exporting}
    TopologicalSorter(graph).prepare()


def test_each_part_imports_only_what_it_may():
    for name, found in GRAPH.items():
        if part := part_of(name):
            parts = {part_of(other) for other in found if other.startswith(f"{PACKAGE}.")}
            assert parts - {part} <= MAY_IMPORT.get(part, LEAVES), name


def test_http_libraries_are_imported_in_transport_alone():
    http = {"httpx", "httpcore", "httptools", "httpx2", "aiohappyeyeballs"}
    for name, found in GRAPH.items():
        used = {module.split(".")[0] for module in found} & http
        assert not used or part_of(name) in {"transport", "settings"}, name
