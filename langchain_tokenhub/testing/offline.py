"""Run programs without a key, against the emulator."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from langchain_tokenhub.testing import Emulator

_KEYS = ("TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY")


@contextmanager
def emulator_unless_key(*, speed: float = 20.0) -> Iterator[Emulator | None]:
    """Use the service when a key is set, else an emulator, with a note on stderr.

    Args:
        speed: Divides every wait of the emulator.

    Yields:
        The emulator, or None if the service is used.
    """
    if any(os.environ.get(name) for name in _KEYS):
        yield None
        return
    with Emulator(speed=speed) as hub:
        sys.stderr.write(
            f"No {_KEYS[0]}: using the emulator at {hub.url}, not charged.\n"
            f"未设置 {_KEYS[0]}：使用本机模拟器，不产生费用。\n\n"
        )
        with patch.dict(os.environ, {_KEYS[0]: "emulator", "TOKENHUB_BASE_URL": hub.url}):
            yield hub
