"""Characters that were cut in two. Pure.

A server that counts in UTF-16 may send one half of an emoji in one delta and the other half in the
next. Joined they are the character; alone they have no UTF-8 and would break whoever writes them.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


class Mender:
    """Holds the first half of a character back until the second has come."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what is whole of all that came."""
        if not self._held and (text.isascii() or not _SURROGATE.search(text)):
            return text
        text = self._held + text
        self._held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return whole(text.removesuffix(self._held) if self._held else text)

    def finish(self) -> str:
        """Return what is left: a half that found no other is the replacement character."""
        held, self._held = self._held, ""
        return "\N{REPLACEMENT CHARACTER}" if held else ""


def whole(text: str) -> str:
    """Return `text` with its pairs joined and its lone halves replaced."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
