"""File names that every system takes. Pure."""

from __future__ import annotations

import lzma
import re
import shutil
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from langchain_tokenhub.errors import InvalidRequestError

MOST_NAME_BYTES = 80
"""Of a stem: Linux takes 255 bytes a name, eCryptfs 143, and a suffix and a number come behind."""
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
"""Names that Windows takes for devices."""
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that steer a terminal, or turn the direction in which a name is read."""


def stem_of(text: str, job_id: str | None = None) -> str:
    """Return a file name without suffix, from a prompt and the job's id.

    Args:
        text: What the file shows; cut at a character, counted in bytes.
        job_id: Its end tells two pictures of one prompt apart.
    """
    plain = unicodedata.normalize("NFC", text)
    plain = re.sub(r"[\s_]+|[^\w.\-]", "_", plain, flags=re.ASCII if plain.isascii() else 0)
    plain = re.sub(r"_+", "_", plain)
    plain = (
        plain.encode("utf-8", "ignore")[:MOST_NAME_BYTES].decode("utf-8", "ignore").strip("._- ")
    )
    if _reserved(plain):
        plain = f"_{plain}"
    return "-".join(part for part in (plain, tail_of(job_id or "")) if part) or "tokenhub"


def tail_of(job_id: str) -> str:
    """Return how the name of a job's file ends, before its number and suffix."""
    return re.sub(r"[^A-Za-z0-9-]", "", job_id)[-12:].strip("-")


def numbered(stem: str, count: int) -> str:
    """Return `stem`, with a number where it is not the first."""
    return stem if count < 2 else f"{stem}-{count}"


def awkward(name: str) -> bool:
    """Say whether some system refuses `name`, takes it for a device, or shows it as another."""
    return name != name.rstrip(". ") or _reserved(name) or bool(_STEERING.search(name))


def _reserved(name: str) -> bool:
    """Say whether Windows takes `name` for a device; it reads COM¹ as COM1."""
    device = unicodedata.normalize("NFKC", name.partition(".")[0]).rstrip().lower()
    return device in _RESERVED


MOST_FILES = 1000
MOST_UNPACKED = 2 * 1024**3
MOST_GROWTH = 200
"""Times that an archive may grow beyond its first 100 MB; meshes as text grow about tenfold."""
_PIECE = 1024 * 1024
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What a ZIP raises that is cut, locked, wrongly packed or oddly named."""


def unpack(archive: Path) -> Path:
    """Unpack `archive` into a new folder beside it, and return the folder.

    Raises:
        InvalidRequestError: It holds what an archive of a model never holds.
    """
    folder = _new_folder(archive)
    try:
        with zipfile.ZipFile(archive) as whole:
            budget = _budget(archive, whole)
            for member in whole.infolist():
                budget -= _extract(whole, member, folder, budget)
    except _BROKEN as problem:
        shutil.rmtree(folder, ignore_errors=True)
        raise InvalidRequestError(f"the archive is broken: {problem}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _new_folder(archive: Path) -> Path:
    for count in range(1, 10_000):
        folder = archive.with_name(archive.stem if count < 2 else f"{archive.stem}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"no free name beside {archive.name!r}")


def _budget(archive: Path, whole: zipfile.ZipFile) -> int:
    if len(whole.infolist()) > MOST_FILES:
        raise InvalidRequestError(f"the archive holds more than {MOST_FILES} files")
    return min(MOST_UNPACKED, 100 * 1024**2 + archive.stat().st_size * MOST_GROWTH)


def _extract(whole: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, budget: int) -> int:
    """Write one member, and return its size; sizes in the archive's index are not believed."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    odd = name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts)
    if odd or (member.external_attr >> 28) == 0xA:  # a symbolic link
        raise InvalidRequestError(f"the archive holds {member.filename!r}, which leads outside")
    if any(awkward(part) for part in name.parts):
        what = f"the archive holds {member.filename!r}, which is no name for every system"
        raise InvalidRequestError(what)
    target = folder.joinpath(*name.parts)
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with whole.open(member) as source, target.open("xb") as sink:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > budget:
                raise InvalidRequestError("the archive grows beyond all measure when unpacked")
            sink.write(piece)
    return size
