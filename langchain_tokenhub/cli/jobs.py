"""`tokenhub models` and `tokenhub jobs`: what there is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_tokenhub.catalogue import (
    ChatModel,
    MediaModel,
    Price,
    chat_model,
    chat_models,
    media_model,
    media_models,
)
from langchain_tokenhub.cli import records
from langchain_tokenhub.cli.console import Console, Words
from langchain_tokenhub.cli.media import KINDS, tool_of
from langchain_tokenhub.cli.parser import FOLDER, add_connection, add_output, connection
from langchain_tokenhub.errors import JobNotFoundError
from langchain_tokenhub.jobs.models import Job

_RETIRED = "retired"


def add_models(parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]) -> None:
    """Add the options of `tokenhub models`."""
    del arguments
    parser.add_argument("--kind", choices=("chat", *KINDS), help=words("kind-models"))
    parser.add_argument("--all", action="store_true", help=words("all"))
    parser.add_argument("--live", action="store_true", help=words("live"))
    add_output(parser, words)
    add_connection(parser, words)
    parser.set_defaults(run=list_models)


def list_models(options: argparse.Namespace, console: Console) -> int:
    """List the catalogue's models, or the service's."""
    words = console.words
    rows = _live(options) if options.live else _listed(words, retired=options.all)
    rows = [row for row in rows if options.kind in {None, row["kind"]}]
    if console.as_json:
        console.data(rows)
        return 0
    heads = ("col-id", "col-kind", "col-status", "col-context", "col-price")
    names = ("id", "kind", "status", "context", "price")
    console.table(
        [[words(head) for head in heads], *([row[name] for name in names] for row in rows)]
    )
    return 0


def _listed(words: Words, *, retired: bool) -> list[dict[str, str]]:
    media = [_media_row(row, words) for row in media_models()]
    return [*media, *(_chat_row(row, words) for row in chat_models() if retired or _there(row))]


def _live(options: argparse.Namespace) -> list[dict[str, str]]:
    from langchain_tokenhub.chat_models import ChatTokenHub

    listed = ChatTokenHub(model="any", **connection(options)).list_models()
    return [_row(row.id, _kind(row.id), row.status or "") for row in listed]


def _there(row: ChatModel) -> bool:
    return row.status != _RETIRED


def _kind(model: str) -> str:
    """Return what a model of the service makes, as far as the catalogue knows."""
    media = media_model(model)
    return media.kind if media else "chat" if chat_model(model) else ""


def _row(name: str, kind: str, status: str, context: str = "", price: str = "") -> dict[str, str]:
    return {"id": name, "kind": kind, "status": status, "context": context, "price": price}


def _chat_row(row: ChatModel, words: Words) -> dict[str, str]:
    size = f"{row.context / 1000:g}k" if row.context else ""
    price = ""
    if row.price_cny_per_m:
        money = row.price_cny_per_m
        price = words("price-chat", input=money[0], output=money[1])
    return _row(row.id, "chat", row.status, size, price)


def _media_row(row: MediaModel, words: Words) -> dict[str, str]:
    return _row(row.id, row.kind, "online", "", _price(row.price, words) if row.price else "")


def _price(price: Price, words: Words) -> str:
    low, high = (f"{credit * price.cny_per_credit:g}" for credit in (price.low, price.high))
    return words("price-media", price=low if low == high else f"{low}–{high}") + f" / {price.per}"


def add_jobs(parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]) -> None:
    """Add the options of `tokenhub jobs`."""
    del arguments
    told = words("folder", default=f"./{FOLDER}")
    parser.add_argument(
        "save_to", nargs="?", type=Path, default=FOLDER, metavar="FOLDER", help=told
    )
    parser.add_argument("--live", action="store_true", help=words("live"))
    add_output(parser, words)
    add_connection(parser, words)
    parser.set_defaults(run=list_jobs)


def list_jobs(options: argparse.Namespace, console: Console) -> int:
    """List the jobs that a folder knows; with `--live`, as the service sees the unfinished."""
    folder, words = options.save_to, console.words
    known, lost = records.known(folder), records.lost(folder)
    if options.live:
        known = [_looked_up(job, options) for job in known]
    if console.as_json:
        console.data([job.model_dump(mode="json") for job in known])
        return 0
    if not known and not lost:
        console.note(words("no-jobs", folder=folder))
        return 0
    heads = ("col-status", "col-kind", "col-id", "col-job", "col-when", "col-files")
    unknown = [
        [words("may-be-charged"), "", entry.model, "", _clock(entry.at), ""] for entry in lost
    ]
    console.table([[words(head) for head in heads], *map(_job_row, known), *unknown])
    return 0


def _looked_up(job: Job, options: argparse.Namespace) -> Job:
    """Return a job as the service sees it; one that it has forgotten is unknown."""
    if job.ended:
        return job
    tool: Any = tool_of(options, job.model, job.kind, options.save_to)
    try:
        found: Job = tool.query(job)
    except JobNotFoundError:
        return job.model_copy(update={"status": "unknown"})
    return found


def _job_row(job: Job) -> list[str]:
    when = job.submitted_at.isoformat() if job.submitted_at else ""
    files = ", ".join(file.path.name for file in job.files if file.path)
    return [job.status, job.kind, job.model, job.id, _clock(when), files]


def _clock(moment: str) -> str:
    """Return a moment of ISO 8601 by the clock on the wall."""
    from datetime import datetime

    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}" if moment else ""
