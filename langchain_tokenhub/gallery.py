"""Writes a static page of a folder's results from the sidecars that `save_to` writes.

The page needs no network: its style is embedded and its links are relative. The content of the
sidecars is untrusted: all text is escaped, and a file is linked only if it is next to its sidecar.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from langchain_tokenhub._version import __version__
from langchain_tokenhub.jobs.files import VIDEOS
from langchain_tokenhub.jobs.history import Sidecar, read_sidecar
from langchain_tokenhub.jobs.render import BROWSER_IMAGES, VIEWABLE, viewer_page
from langchain_tokenhub.params import Language, strip_query

PAGE = "index.html"
_MARK = '<meta name="generator" content="langchain-tokenhub'
"""Marks pages written by this package; other pages are not replaced."""
_MAX_VIEWED = 200 * 1024**2
"""Bytes up to which a 3D model gets a viewer page."""
_CUBE = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-linejoin="round">'
    '<path d="M12 2 3 7v10l9 5 9-5V7zM3 7l9 5 9-5M12 12v10"/></svg>'
)
_WORDS = {
    "details": ("参数与任务", "Parameters and job"),
    "job": ("任务 ID", "Job ID"),
    "revised": ("改写后的提示词", "Revised prompt"),
    "view": ("打开 3D 查看器", "Open 3D viewer"),
    "unpacked": ("已解压到", "Unpacked to"),
}


def write_gallery(
    folder: str | Path,
    *,
    title: str | None = None,
    language: Language = "zh",
    replace: bool = False,
) -> tuple[Path, int]:
    """Write `index.html` into `folder`, and with trimesh a viewer next to each 3D model.

    Args:
        folder: A folder given as `save_to`.
        title: Title of the page; else the folder's name.
        language: Initial language of the page.
        replace: Whether to overwrite an `index.html` not written by this package.

    Returns:
        The page, and its number of results.

    Raises:
        FileNotFoundError: There is no such folder.
        FileExistsError: There is a page not written by this package.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(2, "there is no such folder", str(folder))
    page = folder / PAGE
    if page.exists() and not replace and _MARK not in page.read_text("utf-8", "replace")[:2000]:
        raise FileExistsError(
            17, "this page was not written by tokenhub (--force replaces it)", str(page)
        )
    jobs: dict[tuple[str, str], list[Sidecar]] = {}
    for file in _find_saved_files(folder):
        jobs.setdefault((file.job.model, file.job.id), []).append(file)
    title = title or folder.resolve().name or "TokenHub"
    part = page.with_name(f".{PAGE}.part")
    part.write_text(_page(folder, list(jobs.values()), title, language), "utf-8", "replace")
    part.replace(page)
    return page, len(jobs)


def _find_saved_files(folder: Path) -> list[Sidecar]:
    """Return the saved files of a folder and its subfolders, the newest first."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*.json")))
    visible = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    found = [file for path in visible if (file := _find_saved(folder / path))]
    return sorted(found, key=lambda file: str(file.facts.get("saved_at") or ""), reverse=True)


def _find_saved(sidecar: Path) -> Sidecar | None:
    """Return the file that a sidecar describes, if it is the one next to it."""
    found = read_sidecar(sidecar)
    is_saved = found and sidecar.name == f"{found.path.name}.json" and found.path.is_file()
    return found if is_saved else None


def _sibling(file: Sidecar, name: Any) -> Path | None:
    """Return the file or folder of that name next to a file, if there is one."""
    is_name = isinstance(name, str) and Path(name).name == name != ".."
    path = file.path.with_name(name) if is_name else None
    return path if path and path.exists() else None


def _parameters(file: Sidecar) -> Mapping[str, Any]:
    given = file.facts.get("parameters")
    return given if isinstance(given, dict) else {}


def _page(folder: Path, results: list[list[Sidecar]], title: str, language: Language) -> str:
    template = Template(Path(__file__).with_name("gallery.html").read_text("utf-8"))
    return template.substitute(
        lang=language,
        generator=f"langchain-tokenhub {__version__}",
        title=html.escape(title),
        count=len(results),
        cards="\n".join(_card(folder, files) for files in results),
        now=_time(datetime.now(UTC)),
    )


def _label(word: str) -> str:
    """Return a label in both languages, of which the page shows one."""
    chinese, english = _WORDS[word]
    return f'<span data-l="zh">{chinese}</span><span data-l="en">{english}</span>'


def _card(folder: Path, files: list[Sidecar]) -> str:
    first = files[0]
    prompt = _parameters(first).get("prompt") or _parameters(first).get("template")
    text = f'<p class="prompt">{_value(str(prompt))}</p>' if prompt else ""
    downloads = "".join(_download(folder, file) for file in files)
    return (
        f'<article data-kind="{first.job.kind}">{_stage(folder, files)}'
        f'<div class="text">{text}{_facts(first)}<div class="files">{downloads}</div>'
        f"{_details(folder, first, files)}</div></article>"
    )


def _stage(folder: Path, files: list[Sidecar]) -> str:
    """Return the top of a card: the video, the image, or the 3D model's preview."""
    video = next((file for file in files if file.saved.type in VIDEOS), None)
    if video:
        # the time makes browsers show a frame before the video is played
        source = f'preload="metadata" playsinline src="{_link(folder, video.path)}#t=0.1"'
        return f'<div class="stage"><video controls {source}></video></div>'
    images = [_image(folder, file.path) for file in files if file.saved.type in BROWSER_IMAGES]
    if images:
        strip = f'<div class="strip">{"".join(images[1:])}</div>' if images[1:] else ""
        return f'<div class="stage">{images[0]}</div>{strip}'
    return f'<div class="stage">{_model(folder, files)}</div>'


def _image(folder: Path, path: Path, target: Path | None = None) -> str:
    """Return an image that links to itself or to a target."""
    image = f'<img loading="lazy" src="{_link(folder, path)}" alt="{html.escape(path.name)}">'
    return f'<a href="{_link(folder, target or path)}">{image}</a>'


def _model(folder: Path, files: list[Sidecar]) -> str:
    """Return a 3D model's preview with a link to its viewer."""
    previews = (_sibling(file, file.facts.get("preview")) for file in files)
    preview = next(filter(None, previews), None)
    viewer = next(filter(None, map(_viewer, files)), None)
    image = _image(folder, preview, viewer) if preview else f'<div class="none">{_CUBE}</div>'
    if viewer is None:
        return image
    return f'{image}<a class="view" href="{_link(folder, viewer)}">{_label("view")}</a>'


def _viewer(file: Sidecar) -> Path | None:
    """Write and return the viewer page of a 3D model, if trimesh can read it."""
    if file.saved.type not in VIEWABLE or file.path.suffix == ".zip":
        return None
    page, model = file.path.with_name(f"{file.path.stem}.viewer.html"), file.path.stat()
    if page.exists() and page.stat().st_mtime >= model.st_mtime:
        return page
    text = viewer_page(file.path, file.saved.type) if model.st_size <= _MAX_VIEWED else None
    if text is not None:
        page.write_text(text, "utf-8")
    return page if text else None


def _facts(file: Sidecar) -> str:
    job = file.job
    moment, seconds = job.completed_at or job.submitted_at, job.seconds
    when = f"<span>{_time(moment)}</span>" if moment else ""
    took = "" if seconds is None else f"<span>{seconds:.{0 if seconds >= 10 else 1}f} s</span>"
    return f'<div class="facts"><b>{html.escape(job.model)}</b>{when}{took}</div>'


def _download(folder: Path, file: Sidecar) -> str:
    label = f"{file.path.suffix.lstrip('.').upper()} · {_size(file.path.stat().st_size)}"
    return f'<a href="{_link(folder, file.path)}" download>{html.escape(label)}</a>'


def _details(folder: Path, first: Sidecar, files: list[Sidecar]) -> str:
    shown = {name: value for name, value in _parameters(first).items() if name != "prompt"}
    rows = [(html.escape(str(name)), _value(value)) for name, value in shown.items()]
    if revised := first.facts.get("revised_prompt"):
        rows.append((_label("revised"), _value(str(revised))))
    for file in files:
        target = _sibling(file, file.facts.get("unpacked"))
        if target and target.is_dir():
            link = f'<a href="{_link(folder, target)}/">{html.escape(target.name)}</a>'
            rows.append((_label("unpacked"), link))
    rows.append((_label("job"), f"<code>{html.escape(first.job.id)}</code>"))
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f"<details><summary>{_label('details')}</summary><dl>{listed}</dl></details>"


def _value(value: Any) -> str:
    """Return a parameter as text; signed links without their queries."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return html.escape(strip_query(text))


def _link(folder: Path, path: Path) -> str:
    return html.escape(quote(path.relative_to(folder).as_posix()))


def _time(moment: datetime) -> str:
    return f'<time datetime="{moment.isoformat()}">{moment.astimezone():%Y-%m-%d %H:%M}</time>'


def _size(count: int) -> str:
    for unit, size in (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
