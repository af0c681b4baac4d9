"""Values that are made once: `functools.cached_property` without its lock.

Before Python 3.12 one lock guards the property of all objects. A process that is forked while
another thread holds it would wait for that thread for ever, in the child, where it is not.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["cached_property"]

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property:  # noqa: N801 - as in functools
        """A property that is made when first asked for."""

        def __init__(self, make: Any) -> None:
            self._make = make
            self.__doc__ = make.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            """Make the value, and leave it where the next look finds it."""
            if instance is None:
                return self
            return instance.__dict__.setdefault(self._name, self._make(instance))
