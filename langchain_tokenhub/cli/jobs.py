"""`tokenhub jobs`, and the records of jobs in a folder: sidecars and a ledger.

A call stays in the folder's ledger until its files are saved, so that the same command after Ctrl-C
or a crash resumes its job, and a later one submits a new job.
"""

from __future__ import annotations

import argparse
import functools
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.cli.parser import FOLDER, Parser, add_connection, add_output, connection
from langchain_tokenhub.errors import JobNotFoundError
from langchain_tokenhub.jobs.history import sidecar_job, sidecar_jobs
from langchain_tokenhub.jobs.ledger import Entry, read_entries, remove_entries
from langchain_tokenhub.jobs.ledger_backends import FolderBackend
from langchain_tokenhub.jobs.live_lines import Bar
from langchain_tokenhub.jobs.models import Job

if TYPE_CHECKING:
    from langchain_tokenhub.tools.media_tools import MediaTool


SHORT_ID = 12
"""Length of the end of a job's id in file names."""
_LONG_ID = 20
_WIDE = 130
"""Columns of a terminal in which long ids are shown whole."""


def add_jobs(parser: Parser) -> None:
    """Add the options of `tokenhub jobs`."""
    translate = parser.translate
    folder = translate("folder", default=f"./{FOLDER}")
    parser.add_argument(
        "save_to", nargs="?", type=Path, default=FOLDER, metavar="FOLDER", help=folder
    )
    parser.add_argument("--live", action="store_true", help=translate("live"))
    add_output(parser)
    add_connection(parser)
    parser.set_defaults(run=list_jobs)


def list_jobs(options: argparse.Namespace, console: Console) -> int:
    """List the jobs recorded in a folder; `--live` queries the unfinished ones."""
    folder, translate = options.save_to, console.translate
    known, unanswered = known_jobs(folder), unanswered_submits(folder)
    if options.live:
        known = [_refresh(job, options) for job in known]
    if console.as_json:
        console.write_json([job.model_dump(mode="json") for job in known])
        return 0
    if not known and not unanswered:
        console.write_message(translate("no-jobs", folder=folder))
        return 0
    heads = [translate(f"col-{name}") for name in ("status", "id", "job", "when", "files")]
    rows = [_job_row(console, job) for job in known]
    charged = translate("may-be-charged")
    lost = [
        [charged, entry.key.rpartition("-")[0], "", _local_time(entry.at), ""]
        for entry in unanswered
    ]
    console.write_table([heads, *rows, *lost])
    return 0


def _refresh(job: Job, options: argparse.Namespace) -> Job:
    """Query an unfinished job; its status is `unknown` if the service does not know it."""
    if job.ended:
        return job
    try:
        return media_tool(options, job.model, job.kind, options.save_to).query(job)
    except JobNotFoundError:
        return job.model_copy(update={"status": "unknown"})


def _job_row(console: Console, job: Job) -> list[str]:
    files = ", ".join(file.path.name for file in job.files if file.path)
    is_long = len(job.id) > _LONG_ID and console.columns < _WIDE
    job_id = f"…{job.id[-SHORT_ID:]}" if is_long else job.id
    return [
        console.status_text(job.status),
        job.model,
        job_id,
        _local_time(job.submitted_at),
        files,
    ]


def _local_time(time: datetime | None) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else ""


def media_tool(
    options: argparse.Namespace,
    model: str,
    kind: Kind,
    folder: Path,
    progress: Bar | None = None,
) -> MediaTool:
    """Return the tool of a kind, with the fields from the options."""
    from langchain_tokenhub.tools.media_tools import TOOLS

    return TOOLS[kind](
        model=model,
        save_to=folder,
        ledger=ledger_path(folder),
        progress=progress,
        wait_timeout=getattr(options, "wait_timeout", None),
        **connection(options),
    )


def ledger_path(folder: Path) -> Path:
    """Return where a folder's unfinished calls are recorded."""
    return folder / ".tokenhub-jobs"


def unfinished_jobs(folder: Path) -> list[Job]:
    """Return the jobs whose files are not saved yet."""
    return [entry.job for entry in _entries(folder) if entry.job is not None]


def unanswered_submits(folder: Path) -> list[Entry]:
    """Return the submits without an answer, which may have been charged."""
    return [entry for entry in _entries(folder) if entry.job is None]


def known_jobs(folder: Path) -> list[Job]:
    """Return every job recorded in a folder, the newest first."""
    jobs = {job.id: job for job in [*unfinished_jobs(folder), *sidecar_jobs(folder)]}
    return sorted(jobs.values(), key=_timestamp, reverse=True)


def find_job(folder: Path, job_id: str) -> Job | None:
    """Return the folder's job of that id, or the only one whose id ends with it."""
    if (found := sidecar_job(folder, job_id)) is not None:
        return found[0]
    known, ending = known_jobs(folder), job_id.removeprefix("…")
    same = [job for job in known if job.id == job_id]
    short = [job for job in known if len(ending) >= SHORT_ID and job.id.endswith(ending)]
    return same[0] if same else short[0] if len(short) == 1 else None


def remove_entry(folder: Path, job_id: str) -> None:
    """Remove a finished job from the ledger; other calls under its key stay."""
    backend = FolderBackend(ledger_path(folder))
    for entry in _entries(folder):
        if (job := entry.job) is not None and job.id == job_id:
            remove_entries(backend, entry.key, functools.partial(Entry.is_about, job=job, token=""))


def _timestamp(job: Job) -> float:
    time = job.submitted_at or job.completed_at
    return time.timestamp() if time else 0.0


def _entries(folder: Path) -> list[Entry]:
    """Return the entries of a folder's ledger; other files have no key."""
    return [
        entry for entry in read_entries(FolderBackend(ledger_path(folder)).texts()) if entry.key
    ]
