"""Reads and writes sidecars: the JSON file beside each saved file that describes its job."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from langchain_tokenhub.jobs.decode import revised_text
from langchain_tokenhub.jobs.file_store import tail_of
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaFile, request_from_record

_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    ValidationError,
)
"""What reading a JSON file that is no sidecar may raise."""


def write_note(job: Job, file: MediaFile, index: int, request: JobRequest) -> None:
    """Write the sidecar of a saved file, which is number `index` of the job's files."""
    assert file.path is not None  # noqa: S101 - it was saved
    facts = {
        "type": file.type,
        "kind": job.kind,
        "model": job.model,
        **request.as_record(),
        "revised_prompt": revised_text(job.raw_revised_prompt),
        "unpacked": file.unpacked and file.unpacked.name,
        "preview": file.preview_path and file.preview_path.name,
        "number": index + 1,
        "files": len(job.files),
        "job": job.model_copy(update={"files": [file]}).model_dump(mode="json"),
    }
    write_sidecar(file.path, facts)


def write_sidecar(path: Path, facts: Mapping[str, Any]) -> None:
    """Write `facts` beside a saved file, as `<name>.json`."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    content = {
        "schema": 1,
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": digest,
        "saved_at": datetime.now(UTC).isoformat(),
        **facts,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1, default=str)
    part = path.with_name(f"{path.name}.json.part-{secrets.token_hex(4)}")
    part.write_text(text, "utf-8", errors="backslashreplace")  # JSON escapes for lone surrogates
    part.replace(path.with_name(f"{path.name}.json"))


def sidecar_job(folder: Path, job_id: str) -> tuple[Job, JobRequest | None] | None:
    """Return the job of that id and its request, from the sidecars in `folder`.

    A file without a sidecar is listed without path and link, so that it is queried.
    """
    found = [one for one in _sidecars(folder, tail_of(job_id)) if one.job.id == job_id]
    return _merge(found) if found else None


def source_of(path: Path, data: bytes) -> str | None:
    """Return which job's file was saved as `path` and still is: its `MediaFile.source`."""
    sidecar = path.with_name(f"{path.name}.json")
    with suppress(*_UNREADABLE):
        facts = json.loads(sidecar.read_text("utf-8"))
        if facts["sha256"] == hashlib.sha256(data).hexdigest():
            return _read(sidecar, facts).job.files[0].source
    return None


def sidecar_jobs(folder: Path) -> list[Job]:
    """Return every job with a saved file in `folder`."""
    by_id: dict[str, list[_Sidecar]] = {}
    for one in _sidecars(folder):
        by_id.setdefault(one.job.id, []).append(one)
    return [_merge(found)[0] for found in by_id.values()]


def _merge(found: list[_Sidecar]) -> tuple[Job, JobRequest | None]:
    saved = {one.number: one.job.files[0] for one in found}
    numbers = range(1, max(*saved, *(one.files for one in found)) + 1)
    files = [saved.get(number) or MediaFile(type="") for number in numbers]
    return found[0].job.model_copy(update={"files": files}), found[0].request


@dataclass(frozen=True)
class _Sidecar:
    """The content of a sidecar: a job with one file, the number of that file, and the request."""

    job: Job
    number: int
    files: int
    request: JobRequest | None


def _sidecars(folder: Path, tail: str = "") -> Iterator[_Sidecar]:
    """Yield the sidecars with `tail` in their names; the others are not opened."""
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - a path for each name is slow
    for name in sorted(name for name in names if name.endswith(".json") and tail in name):
        sidecar = folder / name
        with suppress(*_UNREADABLE):
            yield _read(sidecar, json.loads(sidecar.read_text("utf-8")))


def _read(sidecar: Path, facts: Mapping[str, Any]) -> _Sidecar:
    number, files = int(facts.get("number", 1)), int(facts.get("files", 1))
    (file,) = map(MediaFile.model_validate, facts["job"]["files"])
    file = file._of_job(str(facts["job"]["id"]), number - 1)
    job = Job.model_validate({**facts["job"], "files": [file]})
    (file,) = job.files
    paths = {name: sidecar.with_name(p.name) for name, p in file if isinstance(p, Path)}
    paths["path"] = sidecar.with_name(str(facts["file"]))  # the folder may have been moved
    job = job.model_copy(update={"files": [file.model_copy(update=paths)]})
    return _Sidecar(job, number, files, request_from_record(facts))
