"""Files: their types by content, portable names, and writing that never replaces another file."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import struct
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from langchain_tokenhub.errors import InvalidRequestError

MAX_NAME_BYTES = 80
"""Bytes of the prompt in a stem, to which `_`, `-`, 12 characters of the job id, a number and the
suffix may be added. Linux allows 255 bytes a name, eCryptfs 143."""
MAX_UNPACKED_FILES = 1000
MAX_UNPACKED_BYTES = 2 * 1024**3
MAX_GROWTH = 200
"""Compression ratio allowed beyond the first 100 MB; meshes as text compress about tenfold."""
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Device names of Windows."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal or change the reading direction of a name."""


# --- names ----------------------------------------------------------------------------------------


def stem_of(text: str, job_id: str | None = None) -> str:
    """Return a file name without suffix, made from a prompt and the end of the job's id."""
    plain = unicodedata.normalize("NFC", text)
    plain = re.sub(r"[\s_]+|[^\w.\-]", "_", plain, flags=re.ASCII if plain.isascii() else 0)
    short = re.sub(r"_+", "_", plain).encode("utf-8", "ignore")[:MAX_NAME_BYTES]
    stem = short.decode("utf-8", "ignore").strip("._- ")
    if _is_reserved(stem):
        stem = f"_{stem}"
    return "-".join(part for part in (stem, tail_of(job_id or "")) if part) or "tokenhub"


def tail_of(job_id: str) -> str:
    """Return the end of a job id as used in file names."""
    return re.sub(r"[^A-Za-z0-9-]", "", job_id)[-12:].strip("-")


def _make_encodable(stem: str) -> str:
    """Return `stem` in the file system's encoding, which may lack Chinese."""
    coding = sys.getfilesystemencoding()
    try:
        os.fsencode(stem)
    except UnicodeEncodeError:
        return stem.encode(coding, "ignore").decode(coding).strip("._- ") or "tokenhub"
    return stem


def _candidate_stems(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}-{count}" for count in range(2, 10_000))


def _is_portable(name: str) -> bool:
    """Return True if every system accepts `name` as a file name and displays it as it is."""
    if len(name.encode("utf-8", "replace")) > 255 or name != name.rstrip(". "):
        return False
    return not _is_reserved(name) and not _CONTROL.search(name)


def _is_reserved(name: str) -> bool:
    """Return True if Windows treats `name` as a device; it reads COM¹ as COM1."""
    device = unicodedata.normalize("NFKC", name.partition(".")[0]).rstrip().lower()
    return device in _RESERVED


# --- files ----------------------------------------------------------------------------------------


def create_part(folder: Path, stem: str) -> Path:
    """Create a temporary file for `stem`, and `folder` if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{_make_encodable(stem)}.part-{secrets.token_hex(4)}"
    part.open("xb").close()
    return part


def move_to_free_name(part: Path, suffix: str) -> Path:
    """Move a complete file to the first free name, atomically, and return the new path."""
    for stem in _candidate_stems(part.stem):
        target = part.with_name(f"{stem}.{suffix}")
        if target.with_name(f"{target.name}.json").exists():
            continue  # the name of the sidecar is in use
        with suppress(FileExistsError):
            return move(part, target)
    raise FileExistsError(f"no free name for {part.stem!r}")


def move(part: Path, target: Path) -> Path:
    """Move a file, atomically, or raise `FileExistsError` if the name is in use."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError):  # no hard links: claim the name with an empty file
        target.open("xb").close()
        try:
            return part.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
    part.unlink()
    return target


# --- archives -------------------------------------------------------------------------------------


def unpack(archive: Path) -> tuple[Path, list[str]]:
    """Unpack a ZIP into a new folder; return the folder, and why members are missing.

    `zipfile` may raise anything for a broken archive.
    """
    folder = _new_folder(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            _check_size(opened, archive.stat().st_size)
            return folder, _extract_all(opened, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _new_folder(archive: Path) -> Path:
    for stem in _candidate_stems(archive.stem):
        folder = archive.with_name(stem)
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise FileExistsError(f"no free name next to {archive.name!r}")


def _check_size(opened: zipfile.ZipFile, packed: int) -> None:
    """Raise if the archive is too large; of a member no more is read than its header states."""
    if len(opened.infolist()) > MAX_UNPACKED_FILES:
        raise InvalidRequestError(f"the archive holds more than {MAX_UNPACKED_FILES} files")
    unpacked = sum(member.file_size for member in opened.infolist())
    if unpacked > min(MAX_UNPACKED_BYTES, 100 * 1024**2 + packed * MAX_GROWTH):
        raise InvalidRequestError("the archive exceeds the limit for unpacked bytes")


def _extract_all(opened: zipfile.ZipFile, folder: Path) -> list[str]:
    skipped = []
    for member in opened.infolist():
        text = member.filename.replace("\\", "/")
        name = PurePosixPath(text)
        if not name.parts or text.endswith("/"):
            continue  # nameless, or a folder
        reason = _unsafe_reason(name, member)
        if reason is None:
            target = folder.joinpath(*name.parts)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink)
            except (FileExistsError, NotADirectoryError):
                reason = "occurs twice"
        if reason is not None:
            skipped.append(f"the archive holds {member.filename!r}, which {reason}")
    if not any(folder.iterdir()):
        raise InvalidRequestError("; ".join(skipped) or "the archive is empty")
    return skipped


def _unsafe_reason(name: PurePosixPath, member: zipfile.ZipInfo) -> str | None:
    """Return why a member is not written, or None."""
    outside = name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts)
    if outside or (member.external_attr >> 28) == 0xA:  # a symbolic link
        return "leads outside"
    return None if all(map(_is_portable, name.parts)) else "is not a portable file name"


# --- types ----------------------------------------------------------------------------------------

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
TYPES = IMAGES | VIDEOS | {"glb", "gltf", "obj", "fbx", "stl", "usdz", "zip", "mp3", "wav"}
"""File types of results and inputs."""

HEAD = 64
"""Bytes that `file_type_of` needs."""
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


def file_type_of(head: bytes) -> str | None:
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
    match file_type_of(head):
        case "glb":
            return size < int.from_bytes(head[8:12], "little")
        case str() as name if name in _ENDS:
            return _ENDS[name] not in tail
        case _:
            return False


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels for formats with a simple header, else None."""
    try:
        match file_type_of(data[:HEAD]):
            case "png":
                return struct.unpack(">II", data[16:24])
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
