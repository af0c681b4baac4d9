"""Load the names of a package on first use (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def loader(
    package: str, names: Iterable[str], default: str, modules: Mapping[str, str]
) -> Callable[[str], Any]:
    """Return the `__getattr__` of `package`, which loads its submodules too.

    Args:
        package: Full name of the package.
        names: Its public names.
        default: Submodule that defines those of `names` that `modules` does not list.
        modules: Names by the submodule that defines them, separated by spaces.
    """
    listed = {name: module for module, found in modules.items() for name in found.split()}
    sources = dict.fromkeys(names, default) | listed

    def load(name: str) -> Any:
        if name == default or name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{sources[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
