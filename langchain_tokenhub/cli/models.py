"""`tokenhub models`."""

from __future__ import annotations

import argparse

from langchain_tokenhub.catalogue import (
    ChatModel,
    MediaModel,
    chat_model,
    chat_models,
    media_model,
    media_models,
)
from langchain_tokenhub.cli.console import Console, Translator
from langchain_tokenhub.cli.parser import KINDS, Parser, add_connection, add_output, connection

Row = dict[str, str]
_CLOSING = ("retiring", "pre-offline", "retired")


def add_models(parser: Parser) -> None:
    """Add the options of `tokenhub models`."""
    translate = parser.translate
    parser.add_argument("--kind", choices=("chat", *KINDS), help=translate("kind-models"))
    parser.add_argument("--all", action="store_true", help=translate("all"))
    parser.add_argument("--live", action="store_true", help=translate("live"))
    add_output(parser)
    add_connection(parser)
    parser.set_defaults(run=list_models)


def list_models(options: argparse.Namespace, console: Console) -> int:
    """List the catalogue's models, or the service's."""
    translate = console.translate
    known = _service_rows(options) if options.live else _catalogue_rows(options, translate)
    rows = [row for row in known if options.kind in {None, row["kind"]}]
    if console.as_json:
        console.write_json(rows)
        return 0
    names = ("id", "kind", "context", "price")
    heads = [translate(f"col-{name}") for name in names]
    console.write_table([heads, *(_cells(row, translate) for row in rows)])
    if any(row["kind"] == "chat" and row["price"] for row in rows):
        console.write_message(translate("price-note"))
    return 0


def _cells(row: Row, translate: Translator) -> list[str]:
    status = row["status"]
    name = row["id"]
    if status in _CLOSING:
        name = translate("model-note", name=name, note=translate(f"model-{status}"))
    kind = row["kind"] and translate(f"kind-{row['kind']}")
    return [name, kind, row["context"], row["price"]]


def _catalogue_rows(options: argparse.Namespace, translate: Translator) -> list[Row]:
    chats = [row for row in chat_models() if options.all or row.status != "retired"]
    media = [_media_row(row, translate) for row in media_models()]
    rows = media + [_chat_row(row, translate) for row in chats]
    return sorted(rows, key=lambda row: row["status"] in _CLOSING)


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
