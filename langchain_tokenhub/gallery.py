"""Writes a static page of a folder's results from the sidecars that `save_to` writes.

The page needs no network: its style is embedded and its links are relative. The content of the
sidecars is untrusted: all text is escaped, and a file is linked only if it is beside its sidecar.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from langchain_tokenhub._version import __version__
from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.media_types import PICTURES, VIDEOS
from langchain_tokenhub.jobs.models import Job, MediaFile
from langchain_tokenhub.jobs.render import VIEWABLE, viewer_page
from langchain_tokenhub.params import Language, without_query

PAGE = "index.html"
_MARK = '<meta name="generator" content="langchain-tokenhub'
"""Marks pages written here; other pages are not replaced."""
_BROWSER_PICTURES = PICTURES - {"tiff"}
_MAX_VIEWED = 200 * 1024**2
"""Bytes up to which a 3D model gets a viewer page."""
_CUBE = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1" '
    'stroke-linejoin="round" aria-hidden="true">'
    '<path d="M12 2 3 7v10l9 5 9-5V7zM3 7l9 5 9-5M12 12v10"/></svg>'
)
_WORDS = {
    "": ("全部", "All"),
    "image": ("图像", "Pictures"),
    "video": ("视频", "Videos"),
    "3d": ("3D", "3D"),
    "results": ("个结果", "results"),
    "details": ("参数与任务", "Parameters and job"),
    "job": ("任务 ID", "Job"),
    "revised": ("改写后的提示词", "Revised prompt"),
    "saved": ("保存时间", "Saved"),
    "view": ("打开 3D 查看器", "Open 3D viewer"),
    "unpacked": ("已解压到", "Unpacked to"),
    "foot": ("由 langchain-tokenhub 生成", "Made by langchain-tokenhub"),
    "empty": ("这个文件夹里还没有结果。", "This folder holds no results yet."),
}


@dataclass(frozen=True)
class Shown:
    """A saved file and its sidecar."""

    path: Path
    type: str
    job: Job
    facts: Mapping[str, Any]

    @property
    def preview(self) -> Path | None:
        """The saved picture of a 3D model."""
        named = self.facts.get("preview")
        beside = [named] if isinstance(named, str) and Path(named).name == named else []
        return next(_pictures(self.path, beside), None)

    @property
    def remote_preview(self) -> MediaFile | None:
        """The same picture at the service, until its link expires."""
        found = [f.preview for f in self.job.files if f.preview_url and not f.expired()]
        return found[0] if found else None


def write_gallery(
    folder: str | Path,
    *,
    title: str | None = None,
    language: Language = "zh",
    replace: bool = False,
) -> tuple[Path, int]:
    """Write `index.html` into `folder`, and with trimesh a viewer beside each 3D model.

    Args:
        folder: A folder given as `save_to`.
        title: Title of the page; else the folder's name.
        language: Initial language of the page.
        replace: Whether to overwrite an `index.html` not written by this package.

    Returns:
        The page, and its number of results.

    Raises:
        FileNotFoundError: There is no such folder.
        FileExistsError: There is a page that this function did not write.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(2, "there is no such folder", str(folder))
    page = folder / PAGE
    if page.exists() and not replace and _MARK not in page.read_text("utf-8", "replace")[:2000]:
        raise FileExistsError(
            17, "a page that is not ours is there (--force replaces it)", str(page)
        )
    results = _by_job(shown_in(folder))
    text = _page(folder, results, title or folder.resolve().name or "TokenHub", language)
    part = page.with_name(f".{PAGE}.part")
    part.write_text(text, "utf-8")
    part.replace(page)
    return page, len(results)


def fetch_previews(folder: str | Path) -> int:
    """Save the preview pictures of 3D models before their links expire; return their number."""
    count = 0
    for shown in list(shown_in(Path(folder))):
        picture = shown.remote_preview if shown.type not in PICTURES | VIDEOS else None
        if picture is None or shown.preview is not None:
            continue
        with suppress(TokenHubError, OSError):  # the page also works without a preview
            picture.save(shown.path.with_name(f"{shown.path.stem}.preview.png"))
            count += 1
    return count


def shown_in(folder: Path) -> Iterator[Shown]:
    """Yield the saved files of a folder and its subfolders, the newest first."""
    found = [shown for path in _sidecars(folder) if (shown := _shown(path))]
    yield from sorted(found, key=_when, reverse=True)


def _sidecars(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.json")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _shown(sidecar: Path) -> Shown | None:
    """Return the file that a sidecar describes; None for other JSON files."""
    with suppress(OSError, ValueError, KeyError, TypeError, ValidationError):
        facts = json.loads(sidecar.read_text("utf-8"))
        path = sidecar.with_name(facts["file"])
        if path.parent == sidecar.parent and sidecar.name == f"{path.name}.json" and path.is_file():
            return Shown(path, str(facts["type"]), Job.model_validate(facts["job"]), facts)
    return None


def _when(shown: Shown) -> str:
    return str(shown.facts.get("saved_at") or "")


def _by_job(files: Iterable[Shown]) -> list[list[Shown]]:
    """Group the files by job."""
    jobs: dict[tuple[str, str], list[Shown]] = {}
    for file in files:
        jobs.setdefault((file.job.model, file.job.id), []).append(file)
    return list(jobs.values())


# --- the page -------------------------------------------------------------------------------------


def _page(folder: Path, results: list[list[Shown]], title: str, language: Language) -> str:
    template = Template(
        resources.files("langchain_tokenhub").joinpath("gallery.html").read_text("utf-8")
    )
    cards = "\n".join(_card(folder, files) for files in results)
    return template.substitute(
        lang=language,
        generator=f"langchain-tokenhub {__version__}",
        title=html.escape(title),
        count=f"{len(results)} {_label('results')}",
        filters=_filters({files[0].job.kind for files in results}),
        cards=cards or f"<p>{_label('empty')}</p>",
        foot=f"{_label('foot')} · {_time(datetime.now(UTC))}",
    )


def _label(word: str) -> str:
    """Return a label in both languages, of which the page shows one."""
    chinese, english = _WORDS[word]
    return f'<span data-l="zh">{chinese}</span><span data-l="en">{english}</span>'


def _filters(kinds: set[str]) -> str:
    if len(kinds) < 2:
        return ""
    names = [name for name in ("", "image", "video", "3d") if not name or name in kinds]
    return "\n".join(
        f'<button type="button" data-kind="{name}" aria-pressed="{str(not name).lower()}">'
        f"{_label(name)}</button>"
        for name in names
    )


def _card(folder: Path, files: list[Shown]) -> str:
    first = files[0]
    prompt = html.escape(_prompt(first.facts))
    said = f'<p class="prompt">{prompt}</p>' if prompt else ""
    return (
        f'<article data-kind="{first.job.kind}">'
        f"{_stage(folder, files)}"
        f'<div class="text">{said}'
        f"{_facts(first)}"
        f'<div class="files">{"".join(_download(folder, file) for file in files)}</div>'
        f"{_details(folder, first, files)}</div></article>"
    )


def _prompt(facts: Mapping[str, Any]) -> str:
    parameters = facts.get("parameters")
    given = parameters if isinstance(parameters, Mapping) else {}
    return without_query(str(given.get("prompt") or given.get("template") or ""))


def _stage(folder: Path, files: list[Shown]) -> str:
    """Return the top of a card: the video, the picture, or the 3D model's preview."""
    film = next((file for file in files if file.type in VIDEOS), None)
    if film:
        source = _link(folder, film.path)
        return (
            '<div class="stage">'
            f'<video controls preload="metadata" playsinline src="{source}"></video></div>'
        )
    pictures = [file for file in files if file.type in _BROWSER_PICTURES]
    if pictures:
        whole, *rest = pictures
        strip = "".join(_picture(folder, file.path, file.path) for file in rest)
        more = f'<div class="strip">{strip}</div>' if strip else ""
        return f'<div class="stage">{_picture(folder, whole.path, whole.path)}</div>{more}'
    return f'<div class="stage">{_model(folder, files)}</div>'


def _picture(folder: Path, path: Path, target: Path) -> str:
    name = html.escape(path.name, quote=True)
    image = f'<img loading="lazy" src="{_link(folder, path)}" alt="{name}">'
    return f'<a href="{_link(folder, target)}">{image}</a>'


def _model(folder: Path, files: list[Shown]) -> str:
    """Return a 3D model's preview with a link to its viewer."""
    preview = next((file.preview for file in files if file.preview), None)
    viewer = next((page for file in files if (page := _viewer(file))), None)
    picture = (
        _picture(folder, preview, viewer or preview)
        if preview
        else f'<div class="none">{_CUBE}</div>'
    )
    if viewer is None:
        return picture
    return f'{picture}<a class="view" href="{_link(folder, viewer)}">{_label("view")}</a>'


def _viewer(file: Shown) -> Path | None:
    """Write and return the viewer page of a 3D model, if trimesh can read it."""
    if file.type not in VIEWABLE or file.path.suffix == ".zip":
        return None
    page = file.path.with_name(f"{file.path.stem}.viewer.html")
    if page.exists() and page.stat().st_mtime >= file.path.stat().st_mtime:
        return page
    small = file.path.stat().st_size <= _MAX_VIEWED
    text = viewer_page(file.path, file.type) if small else None
    if text is None:
        return None
    page.write_text(text, "utf-8")
    return page


def _facts(file: Shown) -> str:
    job = file.job
    moment = job.completed_at or job.submitted_at
    when = f"<span>{_time(moment)}</span>" if moment else ""
    return f'<div class="facts"><b>{html.escape(job.model)}</b>{when}{_took(job)}</div>'


def _took(job: Job) -> str:
    if job.seconds is None:
        return ""
    return f"<span>{job.seconds:.{0 if job.seconds >= 10 else 1}f} s</span>"


def _download(folder: Path, file: Shown) -> str:
    label = f"{file.path.suffix.lstrip('.').upper()} · {_size(file.path.stat().st_size)}"
    return f'<a href="{_link(folder, file.path)}" download>{html.escape(label)}</a>'


def _details(folder: Path, first: Shown, files: list[Shown]) -> str:
    parameters = first.facts.get("parameters")
    given = parameters if isinstance(parameters, Mapping) else {}
    rows = [
        (html.escape(str(name)), _value(value)) for name, value in given.items() if name != "prompt"
    ]
    if revised := first.facts.get("revised_prompt"):
        rows.append((_label("revised"), _value(str(revised))))
    for file in files:
        if (unpacked := file.facts.get("unpacked")) and (target := _inside(file.path, unpacked)):
            name = html.escape(target.name)
            rows.append((_label("unpacked"), f'<a href="{_link(folder, target)}/">{name}</a>'))
    rows.append((_label("job"), f"<code>{html.escape(first.job.id)}</code>"))
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return f"<details><summary>{_label('details')}</summary><dl>{listed}</dl></details>"


def _value(value: Any) -> str:
    """Return a parameter as text; signed links without their queries."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return html.escape(without_query(text))


def _inside(path: Path, name: Any) -> Path | None:
    """Return the folder of that name if it is beside `path`."""
    named = isinstance(name, str) and Path(name).name == name and name != ".."
    target = path.with_name(str(name)) if named else path
    return target if target.is_dir() else None


def _link(folder: Path, path: Path) -> str:
    return html.escape(quote(path.relative_to(folder).as_posix()), quote=True)


def _pictures(path: Path, named: list[str]) -> Iterator[Path]:
    """Yield the previews beside `path`: as named in its sidecar, or by the model's name."""
    for name in (*named, *(f"{path.stem}.preview.{kind}" for kind in ("png", "jpg", "webp"))):
        picture = path.with_name(name)
        if picture.is_file():
            yield picture


def _time(moment: datetime) -> str:
    local = moment.astimezone()
    return f'<time datetime="{moment.isoformat()}">{local:%Y-%m-%d %H:%M}</time>'


def _size(count: int) -> str:
    for unit, size in (("GB", 1024**3), ("MB", 1024**2), ("kB", 1024)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
