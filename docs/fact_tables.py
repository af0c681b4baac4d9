"""Generated parts about chat models, sites, the command line and errors. Pure.

The causes and fixes of errors are in `errors.toml`.
"""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

import contextlib
import io
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables import Language, code, pick, table

from langchain_tokenhub import errors
from langchain_tokenhub.catalogue import (
    SITE_NAMES,
    ChatModel,
    EmbeddingModel,
    chat_models,
    embedding_models,
    error_row,
    site_hosts,
)

HERE = Path(__file__).parent
_STATES = ("online", "listed", "retiring", "pre-offline", "retired")
"""The order of a table's rows."""
_BROAD = ("ModelError", "LangChainException")
"""Classes that do not tell the cause."""


# --- chat models ----------------------------------------------------------------------------------


def models(language: Language) -> str:
    """Return every chat model, by provider."""
    providers = dict.fromkeys(row.provider for row in chat_models())
    parts = []
    for provider in providers:
        rows = [row for row in chat_models() if row.provider == provider]
        rows.sort(key=lambda row: _STATES.index(row.status))
        parts.append(f"### {provider}\n\n{table(_HEADS[language], map(_model(language), rows))}")
    return "\n\n".join(parts)


_HEADS: dict[Language, tuple[str, ...]] = {
    "en": (
        *("Model", "Context / output", "Reasoning", "Effort"),
        *("Tools", "Sees", "Structured", "Price", "State"),
    ),
    "zh": (
        *("模型", "上下文 / 输出", "思考", "思考强度"),
        *("工具", "视觉", "结构化输出", "价格", "状态"),
    ),
}


def _model(language: Language) -> Any:
    def row_of(row: ChatModel) -> tuple[str, ...]:
        return (
            f"`{row.id}`",
            f"{_tokens(row.context)} / {_tokens(row.max_output)}",
            _thinking(language, row),
            ", ".join(row.reasoning_effort) or "–",
            _yes(row.tools),
            _sees(language, row),
            f"`{row.structured_method}`" if row.structured_method else "–",
            _token_price(row),
            _state(language, row),
        )

    return row_of


def _tokens(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 1_000_000:g}M" if count >= 1_000_000 else f"{count // 1000}k"


def _yes(known: bool | None) -> str:  # noqa: FBT001 - a cell of a table
    return "?" if known is None else ("✓" if known else "–")


def _sees(language: Language, row: ChatModel) -> str:
    seen = [
        pick(language, "images", "图片") if row.image else "",
        pick(language, "video", "视频") if row.video else "",
    ]
    found = ", ".join(part for part in seen if part)
    return found or ("?" if row.image is None else "–")


def _thinking(language: Language, row: ChatModel) -> str:
    match row.thinking_default, row.thinking_switchable:
        case None, _:
            return "?"
        case "none", _:
            return "–"
        case "disabled", _:
            return pick(language, "on request", "按需开启")
        case _, True:
            return pick(language, "by default", "默认开启")
        case _:
            return pick(language, "always", "始终")


def _token_price(row: ChatModel) -> str:
    for price, sign in ((row.price_cny_per_m, "¥"), (row.price_usd_per_m, "$")):
        if price:
            return f"{sign}{price[0]:g} / {sign}{price[1]:g}"
    return "?"


def _state(language: Language, row: ChatModel) -> str:
    words = {
        "online": ("online", "在线"),
        "listed": ("listed", "已列出"),
        "retiring": ("retiring", "即将下线"),
        "pre-offline": ("going offline", "预下线"),
        "retired": ("retired", "已下线"),
    }
    return pick(language, *words[row.status])


def embeddings(language: Language) -> str:
    """Return every embedding model."""
    heads = pick(language, "Model,Numbers,Context,Price,Path", "模型,维度,上下文,价格,接口").split(
        ","
    )
    rows = (
        (f"`{row.id}`", str(row.dimensions), _tokens(row.context), _yuan(row), f"`{row.path}`")
        for row in embedding_models()
    )
    return table(heads, rows)


def _yuan(row: EmbeddingModel) -> str:
    return "?" if row.price_cny_per_m is None else f"¥{row.price_cny_per_m:g}"


def sites(language: Language) -> str:
    """Return the sites with their hosts."""
    heads = pick(language, "`site`,Default host,Backup host", "`site`,默认域名,备用域名").split(",")
    hosts = {
        name: [host.removeprefix("https://") for host in site_hosts(name)] for name in SITE_NAMES
    }
    rows = ((f"`{name}`", *map("`{}`".format, found)) for name, found in hosts.items())
    return table(heads, rows)


# --- command line ---------------------------------------------------------------------------------


def command_help(language: Language) -> str:
    """Return the output of `tokenhub --help`."""
    from langchain_tokenhub.cli import main

    os.environ["COLUMNS"] = "100"  # argparse asks for the terminal's width
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["--lang", language, "--help"])
    return f"```text\n{out.getvalue().rstrip()}\n```"


# --- errors ---------------------------------------------------------------------------------------


def causes() -> dict[str, Any]:
    """Return the classes and codes of `errors.toml`."""
    return tomllib.loads((HERE / "errors.toml").read_text("utf-8"))


def error_classes(language: Language) -> str:
    """Return an entry per class: cause, fix, LangChain's class, codes."""
    known, codes = causes()["class"], causes()["code"]
    tree = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    ours = [cls for cls in tree if issubclass(cls, errors.TokenHubError)]
    unmatched = ({cls.__name__ for cls in ours} ^ set(known)) | (known_codes() ^ set(codes))
    if unmatched:
        raise ValueError(f"docs/errors.toml and the package differ in {sorted(unmatched)}")
    return "\n\n".join(_error_class(language, cls, known[cls.__name__]) for cls in ours)


def _error_class(language: Language, cls: type[errors.TokenHubError], row: dict[str, Any]) -> str:
    bases = [b.__name__ for b in cls.__mro__[1:] if b.__module__ == "langchain_core.exceptions"]
    parents = [base.__name__ for base in cls.__bases__ if base.__module__ == errors.__name__]
    nearer = [name for name in bases if name not in _BROAD] or ["ModelError"]
    caught = code(language, [*parents, *nearer])
    lines = [
        f"### {cls.__name__}",
        pick(language, f"**Cause.** {row['cause']}", f"**原因。** {row['cause_zh']}"),
        pick(language, f"**Fix.** {row['fix']}", f"**处理。** {row['fix_zh']}"),
        pick(
            language,
            f"Also caught as {caught}. Retryable: {'yes' if cls.is_retryable else 'no'}.",
            f"也可按 {caught} 捕获。可重试：{'是' if cls.is_retryable else '否'}。",
        ),
    ]
    rows = list(_codes(language, cls.__name__))
    if rows:
        heads = pick(language, "Code,Cause", "错误码,原因").split(",")
        lines.append(table(heads, rows))
    return "\n\n".join(lines)


def _codes(language: Language, name: str) -> Iterator[tuple[str, str]]:
    for key, cause in causes()["code"].items():
        row = error_row(*_status_and_code(key))
        if row.name != name:
            continue
        anchor = key.replace(" ", "-").replace("@", "-").lower()
        yield (
            f'<a id="{anchor}"></a>`{key.removeprefix("status ")}`',
            pick(language, cause["en"], cause["zh"]),
        )


def _status_and_code(key: str) -> tuple[int | None, str | None]:
    if key.startswith("status "):
        return int(key.removeprefix("status ")), None
    word, _, status = key.partition("@")
    return (int(status) if status else None), word


def known_codes() -> set[str]:
    """Return the keys of the catalogue's rows in the spelling of `errors.toml`."""
    from langchain_tokenhub.catalogue.tables import rows

    keys: set[str] = set()
    for raw in rows("error_codes")["row"]:
        keys |= {*raw.get("codes", ()), *raw.get("words", ())}
        keys |= {f"status {status}" for status in raw.get("status", ()) if status >= 100}
    return keys
