"""`tokenhub image`, `video`, `3d` and `resume`: paid jobs from a terminal."""

from __future__ import annotations

import argparse
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import Kind, media_kind, media_model
from langchain_tokenhub.cli import exit_codes, jobs
from langchain_tokenhub.cli.console import (
    Console,
    Translator,
    argument_after,
    join_words,
)
from langchain_tokenhub.cli.parser import (
    FOLDER,
    KINDS,
    Parser,
    add_connection,
    add_folder,
    add_output,
)
from langchain_tokenhub.jobs.live_lines import Bar
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.params import file_fields, params_class, schema_class

_UNAVAILABLE = (errors.JobFailedError, errors.JobNotFoundError, errors.ResultExpiredError)


def add_media(kind: Kind, parser: Parser) -> None:
    """Add the options of `tokenhub image`, `video` or `3d`."""
    translate = parser.translate
    default = media_kind(kind).default_model
    model = argument_after(parser.arguments, "--model", "-m") or default
    text = translate("model", default=default)
    parser.add_argument("-m", "--model", default=model, metavar="MODEL", help=text)
    _add_wait(parser)
    parser.add_argument("--no-wait", action="store_true", help=translate("no-wait"))
    parser.add_argument("--again", action="store_true", help=translate("again"))
    parser.add_argument("--extra", type=json_object, metavar="JSON", help=translate("extra"))
    _add_params(parser, model, kind)
    add_connection(parser)
    parser.set_defaults(run=run, kind=kind)


def add_resume(parser: Parser) -> None:
    """Add the options of `tokenhub resume`."""
    translate = parser.translate
    parser.add_argument("job_id", metavar="JOB_ID", help=translate("job-id"))
    parser.add_argument("-m", "--model", metavar="MODEL", help=translate("model-resume"))
    parser.add_argument("--kind", choices=KINDS, help=translate("kind"))
    _add_wait(parser)
    add_connection(parser)
    parser.set_defaults(run=resume)


def _add_wait(parser: Parser) -> None:
    add_folder(parser)
    add_output(parser)
    translate = parser.translate
    parser.add_argument("-q", "--quiet", action="store_true", help=translate("quiet"))
    wait = translate("wait-timeout")
    parser.add_argument("--wait-timeout", type=float, metavar="SECONDS", help=wait)


def run(options: argparse.Namespace, console: Console) -> int:
    """Submit a job and wait for it, or resume the same call where it was left unfinished."""
    folder = _folder(options, console.translate)
    params = given_params(options)
    bar = _bar(console, options.model, options.kind)
    tool = jobs.media_tool(options, options.model, options.kind, folder, bar)
    started_at = datetime.now(UTC)
    try:
        with closing(bar):
            if options.no_wait:
                job = tool.submit(**params, extra=options.extra, again=options.again)
                return _report_submitted(console, job, options)
            result = tool.generate(**params, extra=options.extra, again=options.again)
    except KeyboardInterrupt as interrupt:
        new = [job for job in jobs.unfinished_jobs(folder) if _is_newer(job, started_at)]
        running = [bar.job] if bar.job else new
        return _report_interrupted(console, interrupt, running, options)
    return _report_result(console, result, folder)


def resume(options: argparse.Namespace, console: Console) -> int:
    """Collect a job that was submitted earlier."""
    folder = _folder(options, console.translate)
    job = _find_job(options, folder, console.translate)
    bar = _bar(console, job.model, job.kind)
    tool = jobs.media_tool(options, job.model, job.kind, folder, bar)
    try:
        with closing(bar):
            result = tool.result(job)
    except _UNAVAILABLE:
        jobs.remove_entry(folder, job.id)
        raise
    except KeyboardInterrupt as interrupt:
        return _report_interrupted(console, interrupt, [job], options)
    return _report_result(console, result, folder)


def _find_job(options: argparse.Namespace, folder: Path, translate: Translator) -> Job:
    known = jobs.find_job(folder, options.job_id)
    if known is not None:
        return known
    if options.model is None:
        raise exit_codes.UsageError(translate("no-job", id=options.job_id, folder=folder))
    model = media_model(options.model)
    kind = model.kind if model else options.kind
    if kind is None:
        raise exit_codes.UsageError(translate("kind-needed", model=options.model))
    return Job(kind=kind, model=options.model.lower(), id=options.job_id)


def _folder(options: argparse.Namespace, translate: Translator) -> Path:
    """Return where to save; refuse a name that looks like a file's."""
    folder = options.save_to or FOLDER
    media = (mimetypes.guess_type(folder.name)[0] or "").partition("/")[0]
    if folder.is_file() or (media in {"image", "video", "model"} and not folder.is_dir()):
        raise exit_codes.UsageError(translate("folder-wanted", name=folder.name))
    return Path(folder)


def _bar(console: Console, model: str, kind: Kind) -> Bar:
    facts = media_model(model) or media_kind(kind)
    return Bar(
        f"{console.translate(f'kind-{kind}')}  {model}",
        facts.typical_seconds or 15.0,
        status_text=console.status_text,
        quiet=console.quiet,
    )


def _is_newer(job: Job, started_at: datetime) -> bool:
    return job.submitted_at is None or job.submitted_at >= started_at


def _report_submitted(console: Console, job: Job, options: argparse.Namespace) -> int:
    if console.as_json:
        console.write_json(job.model_dump(mode="json"))
    else:
        console.write_line(job.id)
    command = exit_codes.resume_command(job, options)
    console.write_message(console.translate("submitted", command=command))
    return 0


def _report_interrupted(
    console: Console, interrupt: BaseException, running: Sequence[Job], options: argparse.Namespace
) -> int:
    console.write_message(f"tokenhub: {console.translate('stopped')}")
    for job in running:
        console.write_message(exit_codes.resume_text(console, job, options))
    for note in () if running else getattr(interrupt, "__notes__", ()):
        console.write_message(console.translate.message(note))
    return exit_codes.INTERRUPTED


def _report_result(console: Console, result: MediaResult, folder: Path) -> int:
    """Print the paths on stdout, for other programs, and the rest on stderr."""
    translate, job = console.translate, result.job
    unsaved = [file for file in result.files if file.path is None]
    if not unsaved:
        jobs.remove_entry(folder, job.id)
    if console.as_json:
        console.write_json(result.model_dump(mode="json"))
    for file in result.files:
        if file.path is not None and not console.as_json:
            console.write_line(str(file.path))
    if not console.quiet:
        took = "" if result.seconds is None else translate("took", seconds=result.seconds)
        console.write_message(translate("saved", id=job.id, took=took))
    for file in unsaved:
        console.write_message(translate("not-saved", url=file.url or "-"))
    return exit_codes.NOT_SAVED if unsaved else 0


_DEST = "param:"
"""Prefix of a parameter in the parsed options, to distinguish it from other options."""
AddOption = Callable[..., argparse.Action]


def _add_params(parser: Parser, model: str, kind: Kind) -> None:
    """Add an option per parameter of `model`, and its prompt as an argument."""
    translate = parser.translate
    schema = schema_class(model, translate.language, kind).model_json_schema()
    fields = {name: one for name, one in schema["properties"].items() if name != "job_id"}
    files = file_fields(params_class(model, kind))
    group = parser.add_argument_group(translate("parameters", model=model))
    if "prompt" not in fields:
        group.add_argument("prompt", nargs="*", help=argparse.SUPPRESS)
    for name, field in fields.items():
        is_file = name in files
        text = _option_help(name, field, schema, translate, is_file=is_file)
        if name == "prompt":
            group.add_argument(
                "prompt", nargs="*", help=translate.joined([text, translate("prompt")])
            )
        else:
            _add_option(group.add_argument, name, field, text, is_file=is_file)


def given_params(options: argparse.Namespace) -> dict[str, Any]:
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


def _option_help(
    name: str,
    field: Mapping[str, Any],
    schema: Mapping[str, Any],
    translate: Translator,
    *,
    is_file: bool,
) -> str:
    texts = [field.get("description", "").replace("%", "%%")]
    if name in schema.get("required", ()):
        texts.append(translate("required"))
    if field.get("type") == "array":
        texts.append(translate("repeatable"))
    if is_file:
        texts.append(translate("any-file"))
    return translate.joined(texts)


def _add_option(
    add: AddOption, name: str, field: Mapping[str, Any], text: str, *, is_file: bool
) -> None:
    settings: dict[str, Any]
    option, dest = f"--{name.replace('_', '-')}", f"{_DEST}{name}"
    match field:
        case {"type": "array", "items": {"$ref": _}}:
            settings = {"type": json_value, "action": "append", "metavar": "JSON"}
        case {"type": "array"}:
            settings = {"action": "append", "metavar": "FILE"}
        case {"type": "boolean"}:
            settings = {"action": argparse.BooleanOptionalAction, "default": None}
        case {"type": "integer"}:
            settings = {"type": _integer, "metavar": _placeholder(field, "N")}
        case {"type": "string"}:
            settings = {"metavar": "FILE" if is_file else _placeholder(field, "TEXT")}
        case _:
            settings = {"type": json_value, "metavar": "JSON"}
    add(option, dest=dest, help=text, **settings)


def _placeholder(field: Mapping[str, Any], other: str) -> str:
    """Return the placeholder of an option's value in the help."""
    choices = "|".join(map(str, field.get("enum", ())))
    return choices if choices and len(choices) <= 40 else other
