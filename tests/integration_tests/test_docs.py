"""The documentation: its code runs, its languages agree, its links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import io
import logging
import re
import shlex
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics
from opentelemetry.util._once import Once
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from langchain_tokenhub.catalogue import media_models
from langchain_tokenhub.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SHARED = sorted(DOCS.glob("*.md"))
"""English pages whose Chinese twins are docs/zh's."""
BOTH = [*SHARED, *sorted((DOCS / "en").rglob("*.md")), ROOT / "README.md"]
"""English pages: their Chinese twins hold the same code."""
ALL = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "README.zh-CN.md"]
COMMANDS = [DOCS / "en" / "command-line.md", README]


def run(example: Example) -> None:
    """Run a block; one that is also a notebook's cell may await."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    source = "\n" * (example.line - 1) + example.parsed
    compiled = compile(source, example.path, "exec", flags, dont_inherit=True)
    waits = eval(compiled, example.namespace)
    if asyncio.iscoroutine(waits):
        asyncio.run(waits)


BLOCKS = Sybil([CodeBlockParser("python", run)])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def twin(path: Path) -> Path:
    if path.parent == ROOT:
        return ROOT / "README.zh-CN.md"
    if path.parent == DOCS:
        return DOCS / "zh" / path.name
    return DOCS / "zh" / path.relative_to(DOCS / "en")


def pages(language: str) -> set[str]:
    return {
        path.relative_to(DOCS / language).as_posix() for path in (DOCS / language).rglob("*.md")
    }


def code(path: Path) -> list[str]:
    """Return a page's Python without its comments, which are in the page's language."""
    fences = re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [ast.dump(ast.parse(fence)) for fence in fences]


def commands(path: Path) -> list[str]:
    """Return what a page does with our command, without the server that never ends."""
    fences = re.findall(r"^```bash\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for fence in fences for line in fence.splitlines()]
    ours = [line for line in lines if re.search(r"(^|[|] )tokenhub ", line)]
    return [line for line in ours if "tokenhub emulator" not in line]


def exit_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as ended:  # of --help
        return ended.code


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Return what a link may point to inside a page."""
    text = prose(path)
    named = set(re.findall(r'<a id="([^"]+)"', text)) | set(re.findall(r"\{ #(\S+) \}", text))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", head).strip().lower() for head in heads]
    return named | {re.sub(r"[\s-]+", "-", head) for head in plain}


def dead_links(path: Path) -> list[str]:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / unquote(place)).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.fixture
def own_telemetry(monkeypatch):
    """Undo what a page sets for the whole process."""
    levels = logging.getLogger("langchain_tokenhub").level
    for module, kind in ((trace, "TRACER"), (metrics, "METER")):
        monkeypatch.setattr(module, f"_{kind}_PROVIDER", None)
        monkeypatch.setattr(module, f"_{kind}_PROVIDER_SET_ONCE", Once())
    yield
    logging.getLogger("langchain_tokenhub").setLevel(levels)
    for provider in (trace._TRACER_PROVIDER, metrics._METER_PROVIDER):
        if provider is not None:
            provider.shutdown()


@pytest.mark.parametrize("page", BOTH, ids=name)
def test_the_python_of_a_page_runs(page, hub, tmp_path, monkeypatch, own_telemetry):
    monkeypatch.chdir(tmp_path)
    document = BLOCKS.parse(page)
    for block in document:
        if page == README:  # each of its blocks runs when copied alone
            document.namespace.clear()
        block.evaluate()
        for test in [word for word in document.namespace if word.startswith("test_")]:
            document.namespace.pop(test)(hub)  # a page may show a test


@pytest.mark.parametrize("page", COMMANDS, ids=name)
def test_the_commands_of_a_page_run(page, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(webbrowser, "open", lambda _: True)
    (tmp_path / "tokenhub-out").mkdir()
    for image in ("photo.png", "tokenhub-out/image.png"):
        shutil.copy(DOCS / "img" / "image.png", tmp_path / image)
    rows = re.search(r"^```json\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "shots.jsonl").write_text(rows[1], "utf-8")
    (tmp_path / "notes.txt").write_text("请用一句话总结：今天下雨。", "utf-8")
    assert main(["image", "雨", "--no-wait"]) == 0
    job = capsys.readouterr().out.strip()
    for line in commands(page):
        words = shlex.split(line.replace("JOB_ID", job), comments=True)
        piped = Path(words[1]).read_bytes() if words[0] == "cat" else "你好".encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped), "utf-8"))
        assert exit_code(words[words.index("tokenhub") + 1 :]) == 0, line


def test_both_languages_have_the_same_pages():
    assert pages("en") | {path.name for path in SHARED} == pages("zh")


def test_every_text_of_the_comparison_is_translated(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import translated

    english = (DOCS / "comparison.md").read_text("utf-8")
    assert translated.untranslated(english) == []
    assert translated.unused(english) == []


@pytest.mark.parametrize("page", BOTH, ids=name)
def test_both_languages_of_a_page_hold_the_same_code(page):
    assert code(page) == code(twin(page))


@pytest.mark.parametrize("page", BOTH, ids=name)
def test_both_languages_of_a_page_have_as_many_headings_and_links(page):
    for mark in (r"^#+ ", r"\]\("):
        ours, theirs = (re.findall(mark, prose(p), re.MULTILINE) for p in (page, twin(page)))
        assert ours == theirs


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_link_of_a_page_leads_somewhere(page):
    assert dead_links(page) == []


def test_the_made_parts_are_up_to_date():
    script = [sys.executable, str(DOCS / "make.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_media_model_has_its_facts_and_parameters_on_a_page(language):
    text = "".join(path.read_text("utf-8") for path in (DOCS / language / "tools").glob("*.md"))
    for row in media_models():
        assert f"<!-- made: facts {row.id} -->" in text
        assert f"<!-- made: parameters {row.id} -->" in text


@pytest.mark.parametrize("page", [DOCS / "architecture.md", DOCS / "zh" / "architecture.md"])
def test_the_architecture_names_every_part_and_no_file_that_does_not_exist(page):
    package = ROOT / "langchain_tokenhub"
    named = set(re.findall(r"`([\w./]+)`", page.read_text("utf-8")))
    rooms = {path.name for path in package.iterdir() if path.name[0] not in "_."}
    code = {name + "/" if (package / name).is_dir() else name for name in rooms}
    assert {name for name in code if name.endswith(("/", ".py"))} <= named
    files = {name for name in named if re.search(r"\w[.](py|toml)$", name)}
    there = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.*") if path.is_file()}
    assert all(any(path.endswith(f"/{name}") for path in there) or name in there for name in files)


def test_the_list_for_language_models_names_every_page():
    listed = set(re.findall(r"\]\(([^)]+)\)", (DOCS / "llms.txt").read_text("utf-8")))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert there | {"../CHANGELOG.md"} == listed


def test_the_navigation_names_every_page_that_is_no_notebook():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    named = {page for section in nav for pages in section.values() for page in pages}
    own = {page for page in pages("zh") if not page.startswith("notebooks/")}
    assert own | {"changelog.md"} == named


@pytest.mark.parametrize("image", sorted((DOCS / "img").iterdir()), ids=name)
def test_an_image_is_small(image):
    assert image.stat().st_size < 80_000
