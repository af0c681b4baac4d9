"""`tokenhub image`, `video`, `3d` and `resume`: paid jobs, and their records in a folder.

A call stays in the folder's ledger until its files are saved: after Ctrl-C or a crash the same
command resumes its job.
"""

from __future__ import annotations

import argparse
import functools
import json
import mimetypes
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import Kind, media_kind, media_model
from langchain_tokenhub.cli.console import (
    INTERRUPTED,
    NOT_SAVED,
    Console,
    UsageError,
    join_words,
    resume_command,
    resume_text,
)
from langchain_tokenhub.cli.messages import Translator
from langchain_tokenhub.cli.parser import (
    FOLDER,
    KINDS,
    Parser,
    argument_after,
    connection,
)
from langchain_tokenhub.jobs.history import sidecar_jobs
from langchain_tokenhub.jobs.ledger import Entry, read_entries, remove_entries
from langchain_tokenhub.jobs.ledger_backends import FolderBackend
from langchain_tokenhub.jobs.live_lines import Bar
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.params import file_fields, params_class, schema_class

if TYPE_CHECKING:
    from langchain_tokenhub.tools.media_tools import MediaTool

SHORT_ID = 12
"""Length of the end of a job's id in file names."""
_UNAVAILABLE = (errors.JobFailedError, errors.JobNotFoundError, errors.ResultExpiredError)


def add_media(kind: Kind, parser: Parser) -> None:
    """Add the options of `tokenhub image`, `video` or `3d`."""
    default = media_kind(kind).default_model
    model = argument_after(parser.arguments, "--model", "-m") or default
    text = parser.translate("model", default=default)
    parser.add_argument("-m", "--model", default=model, metavar="MODEL", help=text)
    parser.add_folder("-o", "--save-to", text="save-to")
    parser.add_wait()
    parser.add("--no-wait", action="store_true")
    parser.add("--again", action="store_true")
    parser.add("--extra", type=json_object, metavar="JSON")
    _add_params(parser, model, kind)
    parser.add_connection()
    parser.set_defaults(run=run, kind=kind)


def add_resume(parser: Parser) -> None:
    """Add the options of `tokenhub resume`."""
    parser.add("job_id", metavar="JOB_ID", text="job-id")
    parser.add("-m", "--model", metavar="MODEL", text="model-resume")
    parser.add("--kind", choices=KINDS)
    parser.add_folder("-o", "--save-to", text="save-to")
    parser.add_wait()
    parser.add_connection()
    parser.set_defaults(run=resume)


def run(options: argparse.Namespace, console: Console) -> int:
    """Submit a job and wait for it, or resume the same call where it was left unfinished."""
    folder = _folder(options, console.translate)
    params = read_params(options)
    bar = _bar(console, options.model, options.kind)
    tool = media_tool(options, options.model, options.kind, folder, bar)
    started_at = datetime.now(UTC)
    try:
        with closing(bar):
            if options.no_wait:
                job = tool.submit(**params, extra=options.extra, again=options.again)
                return _report_submitted(console, job, options)
            result = tool.generate(**params, extra=options.extra, again=options.again)
    except KeyboardInterrupt as interrupt:
        known = unfinished_jobs(folder)
        new = [job for job in known if (job.submitted_at or started_at) >= started_at]
        running = [bar.job] if bar.job else new
        return _report_interrupted(console, interrupt, running, options)
    return _report_result(console, result, folder)


def resume(options: argparse.Namespace, console: Console) -> int:
    """Collect a job that was submitted earlier."""
    folder = _folder(options, console.translate)
    job = _find_job(options, folder, console.translate)
    bar = _bar(console, job.model, job.kind)
    tool = media_tool(options, job.model, job.kind, folder, bar)
    try:
        with closing(bar):
            result = tool.result(job)
    except _UNAVAILABLE:
        remove_entry(folder, job.id)
        raise
    except KeyboardInterrupt as interrupt:
        return _report_interrupted(console, interrupt, [job], options)
    return _report_result(console, result, folder)


def _find_job(options: argparse.Namespace, folder: Path, translate: Translator) -> Job:
    if (known := find_job(folder, options.job_id)) is not None:
        return known
    if options.model is None:
        raise UsageError(translate("no-job", id=options.job_id, folder=folder))
    model = media_model(options.model)
    kind = model.kind if model else options.kind
    if kind is None:
        raise UsageError(translate("kind-needed", model=options.model))
    return Job(kind=kind, model=options.model.lower(), id=options.job_id)


def _folder(options: argparse.Namespace, translate: Translator) -> Path:
    """Return where to save; refuse a name that looks like a file's."""
    folder: Path = options.save_to or FOLDER
    media = (mimetypes.guess_type(folder.name)[0] or "").partition("/")[0]
    if folder.is_file() or (media in {"image", "video", "model"} and not folder.is_dir()):
        raise UsageError(translate("folder-needed", name=folder.name))
    return folder


def _bar(console: Console, model: str, kind: Kind) -> Bar:
    facts = media_model(model) or media_kind(kind)
    return Bar(
        f"{console.translate(f'kind-{kind}')}  {model}",
        facts.typical_seconds or 15.0,
        status_text=lambda status: console.translate(f"status-{status}"),
        quiet=console.quiet,
    )


def _report_submitted(console: Console, job: Job, options: argparse.Namespace) -> int:
    if console.as_json:
        console.write_json(job.model_dump(mode="json"))
    else:
        console.write_line(job.id)
    command = resume_command(job, options)
    console.write_text("submitted", command=command)
    return 0


def _report_interrupted(
    console: Console, interrupt: BaseException, running: Sequence[Job], options: argparse.Namespace
) -> int:
    console.write_message(f"tokenhub: {console.translate('stopped')}")
    for job in running:
        console.write_message(resume_text(console, job, options))
    for note in () if running else getattr(interrupt, "__notes__", ()):
        console.write_message(console.translate.message(note))
    return INTERRUPTED


def _report_result(console: Console, result: MediaResult, folder: Path) -> int:
    """Print the paths on stdout, for other programs, and the rest on stderr."""
    translate, job = console.translate, result.job
    unsaved = [file for file in result.files if file.path is None]
    if not unsaved:
        remove_entry(folder, job.id)
    if console.as_json:
        console.write_json(result.model_dump(mode="json"))
    for file in result.files:
        if file.path is not None and not console.as_json:
            console.write_line(str(file.path))
    if not console.quiet:
        took = "" if result.seconds is None else translate("took", seconds=result.seconds)
        console.write_text("saved", id=job.id, took=took)
    for file in unsaved:
        console.write_text("not-saved", url=file.url or "-")
    return NOT_SAVED if unsaved else 0


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
        **connection(options, "wait_timeout"),
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
    oldest = datetime.min.replace(tzinfo=UTC)
    by_time = sorted(jobs.values(), key=lambda job: job.submitted_at or job.completed_at or oldest)
    return by_time[::-1]


def find_job(folder: Path, job_id: str) -> Job | None:
    """Return the folder's job of that id, or the only one whose id ends with it."""
    known, ending = known_jobs(folder), job_id.removeprefix("…")
    found = [job for job in known if job.id == job_id]
    if not found and len(ending) >= SHORT_ID:
        found = [job for job in known if job.id.endswith(ending)]
    return found[0] if len(found) == 1 else None


def remove_entry(folder: Path, job_id: str) -> None:
    """Remove a finished job from the ledger; other calls under its key stay."""
    backend = FolderBackend(ledger_path(folder))
    for entry in _entries(folder):
        if (job := entry.job) is not None and job.id == job_id:
            remove_entries(backend, entry.key, functools.partial(Entry.is_about, job=job, token=""))


def _entries(folder: Path) -> list[Entry]:
    """Return the entries of a folder's ledger; other files have no key."""
    texts = FolderBackend(ledger_path(folder)).texts()
    return [entry for entry in read_entries(texts) if entry.key]


_DEST = "param:"
"""Prefix of a parameter in the parsed options, to distinguish it from other options."""


def _add_params(parser: Parser, model: str, kind: Kind) -> None:
    """Add an option per parameter of `model`, and its prompt as an argument."""
    translate = parser.translate
    schema = schema_class(model, translate.language, kind).model_json_schema()
    fields, files = schema["properties"], file_fields(params_class(model, kind))
    add = parser.add_argument_group(translate("parameters", model=model)).add_argument
    if "prompt" not in fields:
        add("prompt", nargs="*", help=argparse.SUPPRESS)
    for name, field in fields.items():
        notes = {
            "required": name in schema.get("required", ()),
            "repeatable": field.get("type") == "array",
            "any-file": name in files,
            "prompt": name == "prompt",
        }
        texts = [translate(note) for note, holds in notes.items() if holds]
        texts.insert(0, field.get("description", "").replace("%", "%%"))
        text = ("" if translate.language == "zh" else " ").join(filter(None, texts))
        if name == "prompt":
            add(name, nargs="*", help=text)
        elif name != "job_id":
            option, settings = name.replace("_", "-"), _settings(field, is_file=name in files)
            add(f"--{option}", dest=f"{_DEST}{name}", help=text, **settings)


def _settings(field: Mapping[str, Any], *, is_file: bool) -> dict[str, Any]:
    """Return what argparse needs to know of a parameter."""
    choices = "|".join(map(str, field.get("enum", ())))
    choices = choices if len(choices) <= 40 else ""
    match field:
        case {"type": "array", "items": {"$ref": _}}:
            return {"type": json_value, "action": "append", "metavar": "JSON"}
        case {"type": "array"}:
            return {"action": "append", "metavar": "FILE"}
        case {"type": "boolean"}:
            return {"action": argparse.BooleanOptionalAction, "default": None}
        case {"type": "integer"}:
            return {"type": _integer, "metavar": choices or "N"}
        case {"type": "string"}:
            return {"metavar": "FILE" if is_file else choices or "TEXT"}
        case _:
            return {"type": json_value, "metavar": "JSON"}


def read_params(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters on the command line."""
    found = {
        name.removeprefix(_DEST): value
        for name, value in vars(options).items()
        if name.startswith(_DEST) and value is not None
    }
    prompt = join_words(options.prompt)
    return {"prompt": prompt, **found} if prompt else found


def json_value(text: str) -> Any:
    """Parse an option's JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None


def json_object(text: str) -> dict[str, Any]:
    """Parse an option's JSON object."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('a JSON object is needed, such as {"name": 1}')
    return value


def _integer(text: str) -> Any:
    """Return an integer; other text is returned unchanged and refused by the field."""
    try:
        return int(text)
    except ValueError:
        return text
