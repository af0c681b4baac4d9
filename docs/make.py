"""Generate parts of the documentation, and build the site.

    python docs/make.py            generate the tables of the pages, docs/llms.txt, the Chinese
                                   comparison, and the notebooks
    python docs/make.py --check    list the files that are not up to date
    python docs/make.py images     generate the example images with the emulator
    python docs/make.py notebooks  execute the notebooks, for their outputs
    python docs/make.py site       generate, then build both languages into build/site/

Zensical builds one language per site, so there are two builds. Files in docs/ itself are copied
beside the pages of each language.
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fact_tables
import figures
import media_tables
import notebooks
import studio_picture
import translated
import yaml
from tables import LANGUAGES, Language, pick

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILD = ROOT / "build"
STAGE = BUILD / "docs"
SITE = BUILD / "site"

SHARED = ("architecture.md", "comparison.md", "performance.md")
"""Pages whose English version is in docs/ itself, the Chinese one in docs/zh."""
COMPARISON = HERE / "comparison.md"
NOTEBOOKS = (ROOT / "examples" / "product_3d.py",)
"""Notebooks that are not pages."""
_GENERATED = re.compile(
    r"^( *)(<!-- made: (.+?) -->\n)(?:.*?)^ *(<!-- /made -->)", re.DOTALL | re.MULTILINE
)
_UP = re.compile(r"(\]\()((?:\.\./)*)\.\./(?=img/|architecture\.md|comparison\.md|performance\.md)")
"""A link from a language's page to docs/ itself, which is one level less in the site."""
_DOWN = re.compile(r"(\]\()en/")
"""A link from docs/ itself to an English page, which is in the same folder in the site."""

GENERATORS: dict[str, Callable[..., str]] = {
    "parameters": media_tables.parameters,
    "facts": media_tables.facts,
    "templates": media_tables.templates,
    "models": fact_tables.models,
    "embeddings": fact_tables.embeddings,
    "sites": fact_tables.sites,
    "errors": fact_tables.error_classes,
    "help": fact_tables.command_help,
    "figures": figures.table_of,
    "conditions": figures.conditions,
}
"""Generators by the word in a page's marker: `<!-- made: parameters hy-3d-3.0 -->`."""


# --- pages ----------------------------------------------------------------------------------------


def pages(language: Language) -> dict[str, Path]:
    """Return a language's pages by their path in the site."""
    shared = {name: HERE / name for name in SHARED if (HERE / name).exists()}
    shared["changelog.md"] = ROOT / "CHANGELOG.md"
    own = (HERE / language).rglob("*.md")
    return shared | {path.relative_to(HERE / language).as_posix(): path for path in sorted(own)}


def generate_parts(language: Language, text: str) -> str:
    """Return a page with its parts generated."""

    def generate(found: re.Match[str]) -> str:
        word, *arguments = found[3].split()
        part = f"{found[2]}\n{GENERATORS[word](language, *arguments)}\n\n{found[4]}"
        return textwrap.indent(part, found[1])

    return _GENERATED.sub(generate, text)


def generated_files() -> Iterator[tuple[Path, str]]:
    """Yield each generated file with its content."""
    yield HERE / "zh" / COMPARISON.name, translated.chinese(COMPARISON.read_text("utf-8"))
    for language in LANGUAGES:
        for path in pages(language).values():
            yield path, generate_parts(language, path.read_text("utf-8"))
    yield HERE / "llms.txt", llms()
    for path in notebook_texts():
        yield path.with_suffix(".ipynb"), notebooks.notebook(path)


def llms(*, built: bool = False) -> str:
    """Return the list of pages for language models, in the order of the navigation.

    Args:
        built: Whether links lead to the pages of the site instead of the files of this folder.
    """
    intro, _, rest = (HERE / "en" / "index.md").read_text("utf-8").partition("\n\n")
    lines = [intro, "", f"> {rest.partition(chr(10) * 2)[0]}"]
    for language in LANGUAGES:
        lines += ["", pick(language, "## English", "## 简体中文"), ""]
        there = pages(language)
        for place in ordered(language):
            title, first = _head(there[place].read_text("utf-8"))
            link = Path(os.path.relpath(there[place], HERE)).as_posix()
            if built:
                link = f"{language}/{re.sub(r'(index)?[.]md$', '', place)}".rstrip("/") + "/"
            lines.append(f"- [{title}]({link}): {first}")
    return "\n".join(lines) + "\n"


def ordered(language: Language) -> list[str]:
    """Return a language's pages in the order of the navigation, then those outside of it."""
    sections = nav(settings(), language)
    listed = [page for section in sections for part in section.values() for page in part]
    return [*listed, *(page for page in pages(language) if page not in listed)]


def settings() -> dict[str, Any]:
    """Return the content of mkdocs.yml."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    return read


def _head(text: str) -> tuple[str, str]:
    """Return a page's title and its first sentence."""
    title, *rest = [line for line in text.splitlines() if line.strip()]
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", rest[0].removeprefix("> "))
    return title.removeprefix("# "), re.split(r"(?<=。)|(?<=\.)\s", plain)[0]


def fill() -> int:
    """Write the generated files."""
    for path, text in generated_files():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            write_line(f"generated {path.relative_to(ROOT)}")
    return 0


def check() -> int:
    """List the files that are not up to date; return 1 if there are any."""
    stale = [p for p, text in generated_files() if not p.exists() or p.read_text("utf-8") != text]
    for path in stale:
        write_line(f"{path.relative_to(ROOT)} is not up to date: run python docs/make.py")
    return int(bool(stale))


# --- notebooks ------------------------------------------------------------------------------------


def notebook_texts() -> list[Path]:
    """Return the texts of which notebooks are made."""
    return [*sorted(HERE.glob("*/notebooks/*.md")), *NOTEBOOKS]


def execute() -> int:
    """Write every notebook with the outputs of a new execution."""
    for path in notebook_texts():
        path.with_suffix(".ipynb").write_text(notebooks.executed(path), "utf-8")
        write_line(f"executed {path.relative_to(ROOT)}")
    return 0


# --- images ---------------------------------------------------------------------------------------


def images() -> int:
    """Generate the images of the pages and READMEs."""
    from langchain_tokenhub import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool
    from langchain_tokenhub.testing import Emulator

    with Emulator(speed=1000) as hub:
        at = {"base_url": hub.url, "api_key": "emulator"}
        image = TokenHubImageTool(**at).generate(prompt="雨中, 竹林, 小路", resolution="1280:720")
        cat = TokenHubImageTool(**at).generate(prompt="一只橘猫坐在窗台上")
        video = TokenHubVideoTool(**at).generate(prompt="镜头缓缓推近", image=cat)
        shape = Tokenhub3DTool(**at).generate(prompt="一把紫砂茶壶")
        preview = next(file.preview_url for file in shape.files if file.preview_url)
        _write("image.png", image.files[0].read())
        _write("3d.png", image.files[0].model_copy(update={"url": preview}).read())
        _write("video.png", _frame(video.files[0].read()))
    studio_picture.draw(HERE / "img" / "studio.png", _frame)
    return 0


def _frame(video: bytes) -> bytes:
    """Return the middle frame of a video, as a PNG."""
    import io

    import av

    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    out = io.BytesIO()
    frames[len(frames) // 2].save(out, "PNG")
    return out.getvalue()


def _write(name: str, data: bytes) -> None:
    import io

    from PIL import Image

    path = HERE / "img" / name
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    write_line(f"docs/img/{name}: {path.stat().st_size // 1000} kB")


# --- site -----------------------------------------------------------------------------------------


def site() -> int:
    """Build both languages into build/site/, with an index page that redirects to one."""
    fill()
    shutil.rmtree(SITE, ignore_errors=True)
    for language in LANGUAGES:
        stage(language)
        config = BUILD / f"mkdocs-{language}.yml"
        text = yaml.safe_dump(localize(settings(), language), allow_unicode=True)
        config.write_text(text.replace(SLUGIFY, _SLUGIFY), "utf-8")
        build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f"]
        subprocess.run([*build, str(config)], cwd=BUILD, check=True)  # noqa: S603 - our own words
    (SITE / "index.html").write_text(_FIRST, "utf-8")
    (SITE / "llms.txt").write_text(llms(built=True), "utf-8")
    return 0


SLUGIFY = "as-written"
_SLUGIFY = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
"""Makes a Chinese heading its own anchor; plain YAML cannot name a function."""
_FIRST = """<!doctype html>
<meta charset="utf-8">
<title>langchain-tokenhub</title>
<script>location.replace(navigator.language.startsWith("zh") ? "zh/" : "en/")</script>
<p><a href="zh/">简体中文</a> · <a href="en/">English</a></p>
"""


def stage(language: Language, to: Path | None = None) -> Path:
    """Copy a language's pages and the shared files into one folder."""
    folder = to or STAGE / language
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "img", folder / "img")
    shutil.copy(HERE / "site.css", folder)
    for place, path in pages(language).items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        text = _UP.sub(r"\1\2", path.read_text("utf-8"))
        (folder / place).write_text(_DOWN.sub(r"\1", text), "utf-8")
        if path.with_suffix(".ipynb").exists():
            shutil.copy(path.with_suffix(".ipynb"), (folder / place).parent)
    return folder


def localize(read: dict[str, Any], language: Language) -> dict[str, Any]:
    """Return the settings of one language's build."""
    words = read["extra"].get(f"words_{language}", {})
    there = pages(language)
    return read | {
        "docs_dir": f"docs/{language}",
        "site_dir": f"site/{language}",
        "markdown_extensions": [
            {"toc": item["toc"] | {"slugify": SLUGIFY}} if "toc" in item else item
            for item in read["markdown_extensions"]
        ],
        "theme": read["theme"] | {"language": language},
        "nav": [
            {words.get(name, name): [_entry(page, there) for page in part]}
            for section in nav(read, language)
            for name, part in section.items()
        ],
    }


def nav(read: dict[str, Any], language: Language) -> list[dict[str, list[str]]]:
    """Return the navigation's sections without pages that do not exist."""
    there = pages(language)
    return [
        {name: [page for page in part if page in there] for name, part in section.items()}
        for section in read["nav"]
    ]


def _entry(page: str, there: dict[str, Path]) -> dict[str, str]:
    """Return a page of the navigation with its title, which is its heading."""
    return {_head(there[page].read_text("utf-8"))[0]: page}


def write_line(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "what", nargs="?", choices=("fill", "images", "notebooks", "site"), default="fill"
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        return check()
    actions = {"fill": fill, "images": images, "notebooks": execute, "site": site}
    return actions[options.what]()


if __name__ == "__main__":
    sys.exit(main())
