"""Recognises file types by their first bytes. Pure."""

from __future__ import annotations

import struct

MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "glb": "model/gltf-binary",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
IMAGES = frozenset({"png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff"})
VIDEOS = frozenset({"mp4", "webm", "mov"})
MESHES = frozenset({"glb", "gltf", "obj", "fbx", "stl", "usdz"})
TYPES = IMAGES | VIDEOS | MESHES | {"zip", "mp3", "wav"}
"""File types of results and inputs."""

HEAD = 64
"""Bytes that `media_type_of` needs."""
TAIL = 1024
"""Bytes that `is_truncated` needs: an archive may end with a comment."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpg"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (8, b"WEBP", "webp"),
    (8, b"WAVE", "wav"),
    (4, b"ftypqt", "mov"),
    *((4, b"ftyp" + brand, "heic") for brand in (b"heic", b"heix", b"mif1", b"msf1")),
    (4, b"ftypavif", "avif"),
    (4, b"ftyp", "mp4"),
    (0, b"glTF", "glb"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"Kaydara FBX Binary", "fbx"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (0, b"\xff\xf3", "mp3"),
    (0, b"\x1aE\xdf\xa3", "webm"),
)
_KNOWN_BY_MAGIC = frozenset({"jpeg", *(name for _, _, name in _MAGIC)})
_ENDS = {"png": b"IEND", "jpg": b"\xff\xd9", "zip": b"PK\x05\x06"}


def media_type_of(head: bytes) -> str | None:
    """Return the type of a file that begins with `head`, or None if it is unknown."""
    return next((name for at, magic, name in _MAGIC if head[at : at + len(magic)] == magic), None)


def is_error_page(head: bytes, declared: str) -> bool:
    """Return True if a file host sent an error page instead of a file of the type `declared`."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<?xml", b"<error", b"<!doctype html", b"<html")):
        return True
    return text.startswith(b"{") and declared in _KNOWN_BY_MAGIC


def is_truncated(head: bytes, tail: bytes, size: int) -> bool:
    """Return True if the end of a file is missing, as far as its format shows it."""
    match media_type_of(head):
        case "glb":
            return size < int.from_bytes(head[8:12], "little")
        case str() as name if name in _ENDS:
            return _ENDS[name] not in tail
        case _:
            return False


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels for formats with a simple header, else None."""
    try:
        match media_type_of(data[:HEAD]):
            case "png":
                return struct.unpack(">II", data[16:24])
            case "gif":
                return struct.unpack("<HH", data[6:10])
            case "bmp":
                width, height = struct.unpack("<ii", data[18:26])
                return width, abs(height)
            case "jpg":
                return _jpeg_size(data)
            case "webp":
                return _webp_size(data)
            case _:
                return None
    except (struct.error, IndexError):
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = struct.unpack("<I", data[21:25])[0]
            return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        case b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            return width, int.from_bytes(data[27:30], "little") + 1
        case _:
            return None
