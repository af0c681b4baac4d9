"""Unpack an OBJ that came as a ZIP: nowhere else, nothing odd, not without end."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.names import awkward

MOST_FILES = 1000
MOST_BYTES = 2 * 1024**3
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
    return min(MOST_BYTES, 100 * 1024**2 + archive.stat().st_size * MOST_GROWTH)


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
