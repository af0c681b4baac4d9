"""`tokenhub models`, `jobs` and `gallery`. Nothing is charged."""

from __future__ import annotations

import argparse
import webbrowser
from datetime import datetime

from langchain_tokenhub.catalogue import (
    ChatModel,
    MediaModel,
    chat_model,
    chat_models,
    media_model,
    media_models,
)
from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.cli.media import SHORT_ID, known_jobs, media_tool, unanswered_submits
from langchain_tokenhub.cli.messages import Translator
from langchain_tokenhub.cli.parser import FOLDER, KINDS, Parser, connection
from langchain_tokenhub.errors import JobNotFoundError
from langchain_tokenhub.gallery import write_gallery
from langchain_tokenhub.jobs.models import Job

Row = dict[str, str]
_RETIRING = ("retiring", "pre-offline", "retired")
_LONG_ID = 20
_WIDE = 130
"""Columns of a terminal in which long ids are shown whole."""


def add_models(parser: Parser) -> None:
    """Add the options of `tokenhub models`."""
    parser.add("--kind", choices=("chat", *KINDS), text="kind-models")
    parser.add("--all", action="store_true")
    parser.add("--live", action="store_true")
    parser.add_output()
    parser.add_connection()
    parser.set_defaults(run=list_models)


def list_models(options: argparse.Namespace, console: Console) -> int:
    """List the catalogue's models, or the service's."""
    translate = console.translate
    known = _service_rows(options) if options.live else _catalogue_rows(options, translate)
    rows = [row for row in known if options.kind in {None, row["kind"]}]
    if console.as_json:
        console.write_json(rows)
        return 0
    heads = [translate(f"col-{name}") for name in ("id", "kind", "context", "price")]
    console.write_table([heads, *(_cells(row, translate) for row in rows)])
    if any(row["kind"] == "chat" and row["price"] for row in rows):
        console.write_text("price-note")
    return 0


def _cells(row: Row, translate: Translator) -> list[str]:
    name, status = row["id"], row["status"]
    if status in _RETIRING:
        name = translate("model-note", name=name, note=translate(f"model-{status}"))
    kind = row["kind"] and translate(f"kind-{row['kind']}")
    return [name, kind, row["context"], row["price"]]


def _catalogue_rows(options: argparse.Namespace, translate: Translator) -> list[Row]:
    chats = [row for row in chat_models() if options.all or row.status != "retired"]
    media = [_media_row(row, translate) for row in media_models()]
    rows = media + [_chat_row(row, translate) for row in chats]
    return sorted(rows, key=lambda row: row["status"] in _RETIRING)


def _service_rows(options: argparse.Namespace) -> list[Row]:
    from langchain_tokenhub.chat_models import ChatTokenHub

    listed = ChatTokenHub(model="any", **connection(options)).list_models()
    return [_row(row.id, _kind(row.id), row.status or "") for row in listed]


def _kind(model: str) -> str:
    """Return the kind of a model of the service; empty for one that is not in the catalogue."""
    media = media_model(model)
    return media.kind if media else "chat" if chat_model(model) else ""


def _row(name: str, kind: str, status: str, context: str = "", price: str = "") -> Row:
    return {"id": name, "kind": kind, "status": status, "context": context, "price": price}


def _chat_row(row: ChatModel, translate: Translator) -> Row:
    context = f"{row.context / 1000:g}k" if row.context else ""
    price = ""
    if row.price_cny_per_m:
        price = translate("price-chat", input=row.price_cny_per_m[0], output=row.price_cny_per_m[1])
    return _row(row.id, "chat", row.status, context, price)


def _media_row(row: MediaModel, translate: Translator) -> Row:
    price = translate(f"price-{row.price.per}", price=row.price.cny) if row.price else ""
    return _row(row.id, row.kind, "online", price=price)


def add_jobs(parser: Parser) -> None:
    """Add the options of `tokenhub jobs`."""
    parser.add_folder("save_to", text="folder", nargs="?", default=FOLDER)
    parser.add("--live", action="store_true")
    parser.add_output()
    parser.add_connection()
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
        console.write_text("no-jobs", folder=folder)
        return 0
    heads = [translate(f"col-{name}") for name in ("status", "id", "job", "when", "files")]
    rows = [_job_row(console, job) for job in known]
    for entry in unanswered:
        model = entry.key.rpartition("-")[0]
        rows.append([translate("may-be-charged"), model, "", _local_time(entry.at), ""])
    console.write_table([heads, *rows])
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
    status, submitted_at = console.translate(f"status-{job.status}"), _local_time(job.submitted_at)
    return [status, job.model, job_id, submitted_at, files]


def _local_time(time: datetime | None) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else ""


def add_gallery(parser: Parser) -> None:
    """Add the options of `tokenhub gallery`."""
    parser.add_folder("folder", text="folder", nargs="?", default=FOLDER)
    parser.add("--title", metavar="TEXT")
    for name in ("--force", "--open"):
        parser.add(name, action="store_true")
    parser.add_argument("--offline", action="store_true", help=argparse.SUPPRESS)  # it always is
    parser.add_output()
    parser.set_defaults(run=write_page)


def write_page(options: argparse.Namespace, console: Console) -> int:
    """Write the page, and open it if asked."""
    language = console.translate.language
    page, count = write_gallery(
        options.folder, title=options.title, language=language, replace=options.force
    )
    address = page.resolve().as_uri()
    if console.as_json:
        console.write_json({"page": str(page), "results": count})
    else:
        console.write_line(str(page))
        console.write_text("page", count=count, page=address)
    if options.open:
        webbrowser.open(address)
    return 0
