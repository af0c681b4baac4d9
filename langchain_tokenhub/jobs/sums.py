"""Compare what came with the checksums that a file host told. Pure."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable

from langchain_tokenhub.transport.fetch import Sums

_POLYNOMIAL = 0xC96C5795D7870F42
_ALL = 0xFFFF_FFFF_FFFF_FFFF


def differing(pieces: Iterable[bytes], told: Sums) -> str | None:
    """Return the name of a checksum in `told` that the bytes do not have, or None."""
    md5, crc64 = hashlib.md5(usedforsecurity=False), 0
    for piece in pieces:
        md5.update(piece)
        crc64 = crc64_of(piece, crc64) if told.crc64 is not None else 0
    if told.md5 is not None and told.md5 != base64.b64encode(md5.digest()).decode():
        return "MD5"
    if told.crc64 is not None and told.crc64 != str(crc64):
        return "CRC-64"
    return None


def crc64_of(data: bytes, before: int = 0) -> int:
    """Return the CRC-64 of ECMA-182 (as in xz) of `data` after bytes whose CRC-64 is `before`."""
    table, crc = _table(), before ^ _ALL
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _ALL


@functools.cache
def _table() -> tuple[int, ...]:
    return tuple(_entry(byte) for byte in range(256))


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value
