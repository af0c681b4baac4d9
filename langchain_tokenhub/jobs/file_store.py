"""Writes files with portable names: complete or not at all, and never over other files."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from langchain_tokenhub.errors import InvalidRequestError

MAX_NAME_BYTES = 80
"""Bytes of a stem. Linux allows 255 bytes a name, eCryptfs 143; suffix and number are added."""
MAX_UNPACKED_FILES = 1000
MAX_UNPACKED_BYTES = 2 * 1024**3
MAX_GROWTH = 200
"""Compression ratio allowed beyond the first 100 MB; meshes as text compress about tenfold."""
_CHUNK = 1024 * 1024
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Device names of Windows."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal or change the reading direction of a name."""


# --- names ----------------------------------------------------------------------------------------


def stem_of(text: str, job_id: str | None = None) -> str:
    """Return a file name without suffix, made from a prompt and the job's id.

    Args:
        text: The prompt; truncated to `MAX_NAME_BYTES` at a character.
        job_id: Its end distinguishes two results of one prompt.
    """
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


def _encodable(stem: str) -> str:
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
    part = folder / f"{_encodable(stem)}.part-{secrets.token_hex(4)}"
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
    """Move a file to a name that is not in use, atomically.

    Raises:
        FileExistsError: The name is in use.
    """
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
    """Unpack a ZIP into a new folder next to it, without members that have no safe name.

    Returns:
        The folder, and why members are missing.

    Raises:
        InvalidRequestError: No member can be unpacked, or the archive exceeds a limit.
        Exception: Whatever `zipfile` raises for a broken archive.
    """
    folder = _new_folder(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            return folder, _extract_all(opened, folder, _budget(archive, opened))
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


def _budget(archive: Path, opened: zipfile.ZipFile) -> int:
    """Return the number of bytes that may be unpacked."""
    if len(opened.infolist()) > MAX_UNPACKED_FILES:
        raise InvalidRequestError(f"the archive holds more than {MAX_UNPACKED_FILES} files")
    return min(MAX_UNPACKED_BYTES, 100 * 1024**2 + archive.stat().st_size * MAX_GROWTH)


def _extract_all(opened: zipfile.ZipFile, folder: Path, budget: int) -> list[str]:
    skipped = []
    for member in opened.infolist():
        text = member.filename.replace("\\", "/")
        name = PurePosixPath(text)
        if not name.parts or text.endswith("/"):
            continue  # nameless, or a folder
        reason = _unsafe(name, member)
        if reason is None:
            target = folder.joinpath(*name.parts)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                budget -= _extract(opened, member, target, budget)
            except (FileExistsError, NotADirectoryError):
                reason = "occurs twice"
        if reason is not None:
            skipped.append(f"the archive holds {member.filename!r}, which {reason}")
    if not any(folder.iterdir()):
        raise InvalidRequestError("; ".join(skipped) or "the archive is empty")
    return skipped


def _unsafe(name: PurePosixPath, member: zipfile.ZipInfo) -> str | None:
    """Return why a member is not written, or None."""
    outside = name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts)
    if outside or (member.external_attr >> 28) == 0xA:  # a symbolic link
        return "leads outside"
    return None if all(map(_is_portable, name.parts)) else "is not a portable file name"


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, budget: int) -> int:
    """Write one member and return its size; the sizes in the archive's index are not trusted."""
    size = 0
    with opened.open(member) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > budget:
                raise InvalidRequestError("the archive exceeds the limit for unpacked bytes")
            sink.write(chunk)
    return size
