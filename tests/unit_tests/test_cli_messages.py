"""The Chinese of the package's messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import langchain_tokenhub
from langchain_tokenhub.cli import messages
from langchain_tokenhub.cli.messages import to_chinese

PACKAGE = Path(langchain_tokenhub.__file__).parent
ELSEWHERE = {
    "testing",  # the emulator, whose answers are those of the service
    *("embeddings.py", "structured.py", "tools.py"),  # no command uses them
    *("approval.py", "job_tool.py", "llm_text.py", "render.py"),
    *("_deepagents.py", "_lazy.py", "__init__.py", "telemetry.py", "retry.py"),
}
OTHER = {
    *(
        "host: {}",
        "request ID {}",
        "tokenhub: {}",
        "tokenhub: {}{}",
        "tokenhub {}",
        "Value error, ",
    ),
    *("{}{} of {}; {}", "{what}; {advice}", " or "),  # joins, which the table has more exactly
    # for language models, and for MCP's clients
    *("see the next message", "(media that you cannot see)", "(no result)"),
    "(result of an earlier tool call)\n{}",
    "Answer with one JSON object and nothing else. It matches this JSON schema: ",
    "Give your final answer by calling the tool {}, not as text.",
    (
        "Image, video and 3D tools submit a paid job and return its ID: call tokenhub_wait with it."
        " Never submit again to check on a job."
    ),
    *("Not approved, nothing was submitted or charged. {}", "Submit and pay", "price not known"),
    *("about {} CNY per {}", "job {} ({}): {}{}", "{}: {}. Submit it?"),
    *("an image of the result is not shown to the model: {}", "too large"),
    ". Call tokenhub_wait with this job ID.",
    # of a result and of a price that code prints
    *(" (link expires {})", " (not kept: set save_to)", " in {} s", " saved: {}", " unpacked: {}"),
    *(" url: {}", "job {} ({}) {}{}: {}", "no file", "about {} CNY (estimate; {}, {})"),
    "{} Returns at once: call tokenhub_wait with the job ID.",
    "{}. Call tokenhub_wait with this job ID.",
    # the gallery has both languages
    *("Open 3D viewer", "Parameters and job", "Revised prompt", "Unpacked to"),
    'preload="metadata" playsinline src="{}#t=0.1"',
    # no messages
    *("status 0", "status {}", "word {}", "too much", "not sent", "bytes | None", "sha256 {}"),
    *("queued pending wait waiting submitted", "in_progress processing running run"),
    *("completed succeeded success done finished", "cancelled canceled"),
    *("failed fail error banned expired", "langchain-tokenhub/{} python/{}"),
    *("({} characters of base64)", "{} preview"),
    "{} awaited something other than its SyncRuntime",
}
"""Strings that no command prints to people."""
PARTS = messages.tomllib.loads((PACKAGE / "cli" / "messages_zh.toml").read_text("utf-8"))
TABLE = {english: chinese for part in PARTS.values() for english, chinese in part.items()}
ENGLISH = re.compile(r"(?<![-'`\w./\"=])(?!pip install|tokenhub )[a-z]{2,} [a-z]{2,}(?![-'\w./=])")


def template(node: ast.AST) -> str:
    match node:
        case ast.JoinedStr(values=parts):
            return "".join(template(part) for part in parts)
        case ast.Constant(value=value):
            return str(value)
        case _:
            return "{}"


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the strings of a module, except docstrings, logs, patterns and words of a type."""
    match node:
        case ast.JoinedStr(values=parts):
            yield template(node)
            for part in parts:
                if isinstance(part, ast.FormattedValue):
                    yield from texts(part.value)
        case ast.Constant(value=str(text)):
            yield text
        case (
            ast.Expr(value=ast.Constant())
            | ast.keyword(arg="phase")
            | ast.Compare()
            | ast.Subscript(value=ast.Name(id="Literal"))
            | ast.Call(func=ast.Name(id="text") | ast.Attribute(value=ast.Name(id="logger" | "re")))
        ):
            return
        case _:
            for child in ast.iter_child_nodes(node):
                yield from texts(child)


def is_sentence(text: str) -> bool:
    is_code = "<" in text or "%s" in text or re.search("[A-Z]{4,} [A-Za-z:]", text)
    return not is_code and bool(re.search(r"(^|[ {(])[a-z]{2,}[^a-z]* | [a-z]{2,}", text))


def sentences(path: Path) -> set[str]:
    return set(filter(is_sentence, texts(ast.parse(path.read_text("utf-8")))))


def modules() -> list[Path]:
    return [
        path for path in PACKAGE.rglob("*.py") if not ELSEWHERE & {*path.relative_to(PACKAGE).parts}
    ]


def test_every_message_that_a_command_can_print_has_a_chinese_text():
    missing = {
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in modules()
        for text in sentences(path)
        if text not in TABLE and text not in OTHER and " / " not in text
    }
    assert not missing, "\n".join(sorted(missing))


def test_no_chinese_text_is_obsolete():
    said = {
        text for path in PACKAGE.rglob("*.py") for text in texts(ast.parse(path.read_text("utf-8")))
    }
    assert set(PARTS["messages"]) <= said


def test_a_chinese_text_has_the_values_of_its_message():
    for english, chinese in (PARTS["messages"] | PARTS["joins"]).items():
        slots = re.findall(r"\{(\d?)\}", chinese)
        numbers = sorted(int(slot or index) for index, slot in enumerate(slots))
        assert numbers == list(range(english.count("{}"))), english


def test_a_chinese_text_holds_no_english():
    for chinese in TABLE.values():
        assert not ENGLISH.search(chinese), chinese


def test_the_parts_of_a_message_are_translated_too():
    for english, chinese in {
        "seed: 'x; y', an integer from 1 to 2 is needed (hy-x); give an integer": (
            "seed：'x; y'，应为 1 至 2 的整数（hy-x）；请填整数"
        ),
        "promt: not a parameter of hy-x; did you mean prompt? If not, pass it in extra=": (
            "promt：hy-x 没有此参数；是否想用 prompt？若不是，请放入 extra="
        ),
        "the rows have 2 faults:\nline 3: image: @b: no row has this id; did you mean @a?": (
            "清单有 2 处错误：\n第 3 行：image：@b：没有该 id 的行；是否想用 @a？"
        ),
        "the file is of no known type; jpg, png is needed": "文件是未知类型，应为 jpg, png",
        "the service cannot be reached: [Errno 111] Connection refused": (
            "无法连接服务：[Errno 111] 连接被拒绝"
        ),
        "HTTP 401 401002: Wrong key / API Key 不存在": "HTTP 401 401002: API Key 不存在",
        "check a / b / 请检查 a / b; then collect job x/1 with result(id)": (
            "请检查 a / b；然后用 result(id) 取回任务 x/1"
        ),
    }.items():
        assert to_chinese(english) == chinese


def test_what_the_service_or_a_user_wrote_stays():
    for text in ("HTTP 400 x: not a or b: c; d (e)", "'no such file; the file is empty'", "雨: 雪"):
        assert to_chinese(text) == text


def test_a_message_that_joins_many_parts_stays_as_it_is():
    message = "; ".join(["no file"] * 2000)
    assert to_chinese(message) == message
