"""`tokenhub image`, `video`, `3d` and `resume`: paid jobs from a terminal."""

from __future__ import annotations

import argparse
import functools
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import Kind, media_kind, media_model
from langchain_tokenhub.cli import exit_codes, records
from langchain_tokenhub.cli.console import Console, Watch, Words, argument_after, from_stdin
from langchain_tokenhub.cli.parser import (
    FOLDER,
    Add,
    add_connection,
    add_folder,
    add_output,
    connection,
)
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.params import file_fields, params_class, schema_class

KINDS: tuple[Kind, ...] = ("image", "video", "3d")
_GONE = (errors.JobFailedError, errors.JobNotFoundError, errors.ResultExpiredError)


def adder(kind: Kind) -> Add:
    """Return what adds the options of the command for a kind of media."""
    return functools.partial(_add, kind)


def _add(
    kind: Kind, parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]
) -> None:
    default = media_kind(kind).default_model
    model = argument_after(arguments, "--model", "-m") or default
    told = words("model", default=default)
    parser.add_argument("-m", "--model", default=model, metavar="MODEL", help=told)
    add_folder(parser, words)
    add_output(parser, words)
    parser.add_argument("-q", "--quiet", action="store_true", help=words("quiet"))
    parser.add_argument("--wait-timeout", type=float, metavar="SECONDS", help=words("wait-timeout"))
    parser.add_argument("--no-wait", action="store_true", help=words("no-wait"))
    parser.add_argument("--again", action="store_true", help=words("again"))
    parser.add_argument("--extra", type=json_object, metavar="JSON", help=words("extra"))
    add_params(parser, model, kind, words)
    add_connection(parser, words)
    parser.set_defaults(run=run, kind=kind)


def add_resume(parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]) -> None:
    """Add the options of `tokenhub resume`."""
    del arguments
    parser.add_argument("job_id", metavar="JOB_ID", help=words("job-id"))
    parser.add_argument("-m", "--model", metavar="MODEL", help=words("model-resume"))
    parser.add_argument("--kind", choices=KINDS, help=words("kind"))
    add_folder(parser, words)
    add_output(parser, words)
    parser.add_argument("-q", "--quiet", action="store_true", help=words("quiet"))
    parser.add_argument("--wait-timeout", type=float, metavar="SECONDS", help=words("wait-timeout"))
    add_connection(parser, words)
    parser.set_defaults(run=resume)


def run(options: argparse.Namespace, console: Console) -> int:
    """Make what was asked for; or go on with the same call, where it was left unfinished."""
    folder = _folder(options, console.words)
    params = params_of(options)
    watch = _watch(console, options.model, options.kind)
    tool = tool_of(options, options.model, options.kind, folder, watch)
    begun = datetime.now(UTC)
    try:
        with watch:
            if options.no_wait:
                job = tool.submit(**params, extra=options.extra, again=options.again)
                return _submitted(console, job, options)
            result = tool.generate(**params, extra=options.extra, again=options.again)
    except KeyboardInterrupt as stop:
        started = [job for job in records.unfinished(folder) if _since(job, begun)]
        return _stopped(console, stop, [watch.job] if watch.job else started, options)
    return _shown(console, result, folder)


def resume(options: argparse.Namespace, console: Console) -> int:
    """Collect a job that was submitted earlier."""
    folder = _folder(options, console.words)
    job = _known_job(options, folder, console.words)
    watch = _watch(console, job.model, job.kind)
    tool = tool_of(options, job.model, job.kind, folder, watch)
    try:
        with watch:
            result = tool.result(job)
    except _GONE:
        records.forget(folder, job.id)
        raise
    except KeyboardInterrupt as stop:
        return _stopped(console, stop, [job], options)
    return _shown(console, result, folder)


def tool_of(
    options: argparse.Namespace, model: str, kind: Kind, folder: Path, watch: Watch | None = None
) -> Any:
    """Return the tool of a kind of media, set up as the options say."""
    from langchain_tokenhub import tools

    classes: dict[Kind, Any] = {
        "image": tools.TokenHubImageTool,
        "video": tools.TokenHubVideoTool,
        "3d": tools.Tokenhub3DTool,
    }
    wait = getattr(options, "wait_timeout", None)
    return classes[kind](
        model=model,
        save_to=folder,
        ledger=records.ledger_of(folder),
        progress=watch,
        wait_timeout=wait,
        **connection(options),
    )


def kind_of(model: str, told: str | None, words: Words) -> Kind:
    """Return what a model makes.

    Raises:
        UsageError: It is not listed, and nobody said.
    """
    known = media_model(model)
    if known is not None:
        return known.kind
    if told is None:
        raise exit_codes.UsageError(words("kind-needed", model=model))
    return cast("Kind", told)


def _known_job(options: argparse.Namespace, folder: Path, words: Words) -> Job:
    known = records.find(folder, options.job_id)
    if known is not None:
        return known
    if options.model is None:
        raise exit_codes.UsageError(words("no-job", id=options.job_id, folder=folder))
    kind = kind_of(options.model, options.kind, words)
    return Job(kind=kind, model=options.model.lower(), id=options.job_id)


def _folder(options: argparse.Namespace, words: Words) -> Path:
    """Return where to save; a file's name is refused, for a folder would be called that."""
    folder = options.save_to or FOLDER
    media = (mimetypes.guess_type(folder.name)[0] or "").partition("/")[0]
    if media in {"image", "video", "model"} and not folder.is_dir():
        raise exit_codes.UsageError(words("folder-wanted", name=folder.name))
    return Path(folder)


def _watch(console: Console, model: str, kind: Kind) -> Watch:
    facts = media_model(model) or media_kind(kind)
    return Watch(console, facts.typical_seconds or 15.0)


def _since(job: Job, begun: datetime) -> bool:
    return job.submitted_at is None or job.submitted_at >= begun


def _submitted(console: Console, job: Job, options: argparse.Namespace) -> int:
    if console.as_json:
        console.data(job.model_dump(mode="json"))
    else:
        console.say(job.id)
    command = exit_codes.resume_command(job, options)
    console.note(console.words("submitted", command=command))
    return 0


def _stopped(
    console: Console, stop: BaseException, jobs: Sequence[Job], options: argparse.Namespace
) -> int:
    """Say after Ctrl-C which jobs go on, and how they are collected."""
    console.note(f"tokenhub: {console.words('stopped')}")
    for job in jobs:
        console.note(exit_codes.goes_on(console, job, options))
    for note in () if jobs else getattr(stop, "__notes__", ()):
        console.note(note)
    return exit_codes.INTERRUPTED


def _as_given(folder: Path, path: Path) -> Path:
    """Return a saved file's path below `folder` as the user spelled it."""
    return folder / path.name if path.parent == folder.expanduser().absolute() else path


def _shown(console: Console, result: MediaResult, folder: Path) -> int:
    """Print where the files are: paths alone on stdout, so that another program can take them."""
    words, job = console.words, result.job
    missing = [file for file in result.files if file.path is None]
    if not missing:
        records.forget(folder, job.id)
    if console.as_json:
        console.data(result.model_dump(mode="json"))
    for file in result.files:
        if file.path is not None and not console.as_json:
            console.say(str(_as_given(folder, file.path)))
    took = words("took", seconds=result.seconds) if result.seconds is not None else ""
    if not console.quiet:
        console.note(words("saved", id=job.id, model=job.model, took=took))
    for file in missing:
        console.note(words("not-saved", url=file.url or "-"))
    return exit_codes.NOT_SAVED if missing else 0


_DEST = "param:"
"""Before a parameter's name where the parser keeps it, so that it meets no option of ours."""
_OURS = frozenset({"job_id"})
"""Fields of the class that are no parameters of the service."""
AddOption = Callable[..., argparse.Action]


def add_params(parser: argparse.ArgumentParser, model: str, kind: Kind, words: Words) -> None:
    """AddOption one option a parameter of `model`, and its prompt as an argument."""
    schema = schema_class(model, words.language, kind).model_json_schema()
    files = file_fields(params_class(model, kind))
    group = parser.add_argument_group(words("parameters", model=model))
    if "prompt" not in schema["properties"]:
        group.add_argument("prompt", nargs="*", help=argparse.SUPPRESS)
    for name, field in schema["properties"].items():
        if name in _OURS:
            continue
        told = _told(name, field, schema, words) + (words("any-file") if name in files else "")
        if name == "prompt":
            group.add_argument("prompt", nargs="*", help=f"{told} {words('prompt')}")
        else:
            _add_option(group.add_argument, name, field, told, is_file=name in files)


def params_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that were given."""
    found = {
        name.removeprefix(_DEST): value
        for name, value in vars(options).items()
        if name.startswith(_DEST) and value is not None
    }
    prompt = " ".join(from_stdin() if word == "-" else word for word in options.prompt)
    return {"prompt": prompt, **found} if prompt else found


def json_value(text: str) -> Any:
    """Return the JSON in an option."""
    try:
        return json.loads(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"not JSON: {problem}") from None


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object in an option."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('a JSON object is needed, such as {"name": 1}')
    return value


def number(text: str) -> Any:
    """Return a number; anything else goes on as it is, to be refused with the field's limits."""
    try:
        return int(text)
    except ValueError:
        return text


def _told(name: str, field: Mapping[str, Any], schema: Mapping[str, Any], words: Words) -> str:
    texts = [field.get("description", "").replace("%", "%%")]
    if name in schema.get("required", ()):
        texts.append(words("required"))
    if field.get("type") == "array":
        texts.append(words("repeatable"))
    return " ".join(text for text in texts if text)


def _add_option(
    add: AddOption, name: str, field: Mapping[str, Any], told: str, *, is_file: bool
) -> argparse.Action:
    option, dest = f"--{name.replace('_', '-')}", f"{_DEST}{name}"
    match field:
        case {"type": "array", "items": {"$ref": _}}:
            return add(
                option, dest=dest, type=json_value, action="append", metavar="JSON", help=told
            )
        case {"type": "array"}:
            return add(option, dest=dest, action="append", metavar="FILE", help=told)
        case {"type": "boolean"}:
            switch = argparse.BooleanOptionalAction
            return add(option, dest=dest, action=switch, default=None, help=told)
        case {"type": "integer"}:
            return add(option, dest=dest, type=number, metavar=_shape(field, "N"), help=told)
        case {"type": "string"}:
            shape = "FILE" if is_file else _shape(field, "TEXT")
            return add(option, dest=dest, metavar=shape, help=told)
        case _:
            return add(option, dest=dest, type=json_value, metavar="JSON", help=told)


def _shape(field: Mapping[str, Any], other: str) -> str:
    """Return what an option's value looks like."""
    words = "|".join(map(str, field.get("enum", ())))
    return words if words and len(words) <= 40 else other
