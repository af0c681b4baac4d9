"""What lies beside each saved file: how it was made, and by which job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from langchain_tokenhub.jobs.decode import revised_text
from langchain_tokenhub.jobs.files import write_sidecar
from langchain_tokenhub.jobs.job import Job, MediaFile
from langchain_tokenhub.jobs.order import Order, order_noted


def note(job: Job, file: MediaFile, index: int, order: Order) -> None:
    """Write beside a saved file what made it, and which of the job's files it is."""
    assert file.path is not None  # noqa: S101 - it was saved
    facts = {
        "type": file.type,
        "kind": job.kind,
        "model": job.model,
        **order.noted(),
        "revised_prompt": revised_text(job.raw_revised_prompt),
        "unpacked": file.unpacked and file.unpacked.name,
        "preview": file.preview_path and file.preview_path.name,
        "number": index + 1,
        "files": len(job.files),
        "job": job.model_copy(update={"files": [file]}).model_dump(mode="json"),
    }
    write_sidecar(file.path, facts)


def sidecar_job(folder: Path, job_id: str) -> tuple[Job, Order | None] | None:
    """Return the job of that id and its order, put together from the sidecars in `folder`.

    A file that is not there any more, or never was, has neither path nor link: it is asked for.
    """
    found = list(_sidecars(folder, job_id))
    if not found:
        return None
    saved = {one.number: one.job.files[0] for one in found}
    numbers = range(1, max(*saved, *(one.files for one in found)) + 1)
    files = [saved.get(number) or MediaFile(type="") for number in numbers]
    return found[0].job.model_copy(update={"files": files}), found[0].order


@dataclass(frozen=True)
class _Sidecar:
    """What one says: a job of one file, which of how many it is, and what was asked for."""

    job: Job
    number: int
    files: int
    order: Order | None


def _sidecars(folder: Path, job_id: str) -> Iterator[_Sidecar]:
    for sidecar in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with suppress(OSError, ValueError, KeyError, TypeError, ValidationError):
            text = sidecar.read_text("utf-8")
            if job_id in text and (found := _read(sidecar, json.loads(text))).job.id == job_id:
                yield found


def _read(sidecar: Path, facts: Mapping[str, Any]) -> _Sidecar:
    job = Job.model_validate(facts["job"])
    (file,) = job.files
    path = sidecar.with_name(str(facts["file"]))  # the folder may have been moved
    job = job.model_copy(update={"files": [file.with_path(path, unpacked=file.unpacked)]})
    number, files = int(facts.get("number", 1)), int(facts.get("files", 1))
    return _Sidecar(job, number, files, order_noted(facts))
