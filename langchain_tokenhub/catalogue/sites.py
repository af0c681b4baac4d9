"""The sites of TokenHub. A key belongs to one of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from langchain_tokenhub.catalogue.toml import rows

SITE_NAMES = ("mainland", "overseas", "international", "international-guangzhou")


@dataclass(frozen=True)
class Site:
    """The https origins of a site, the default host first."""

    name: str
    hosts: tuple[str, ...]


@functools.cache
def site(name: str) -> Site:
    """Return the site called `name`.

    Raises:
        ValueError: There is no site of that name.
    """
    if name not in SITE_NAMES:
        raise ValueError(f"site: {name!r} is not known; choose one of {', '.join(SITE_NAMES)}")
    return Site(name=name, hosts=tuple(rows("sites")[name]["hosts"]))
