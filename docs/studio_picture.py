"""The READMEs' picture: what `examples/studio.py` says and makes, with the emulator.

The script runs in a tmux terminal, and Chromium takes a screenshot of a page: both are needed.
"""

# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

import base64
import html
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unicodedata import east_asian_width

from PIL import Image

STUDIO = Path(__file__).parents[1] / "examples" / "studio.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KEYS = ("TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY", "TOKENHUB_BASE_URL")
WIDTH, HEIGHT, SCALE = 1064, 1200, 1
COLUMNS = 124
GROUND = (244, 243, 240)
"""Margins of the picture; the rest of the page is cut off."""
PAGE = """<!doctype html><meta charset="utf-8"><style>
* {{ box-sizing: border-box; }}
body {{ margin: 0; padding: 20px; background: rgb{ground}; }}
pre {{ margin: 0 0 16px; padding: 16px 20px 18px; border-radius: 10px; background: #1c1e22;
  color: #e6e4df; font: 12px/1.5 "DejaVu Sans Mono", monospace; white-space: pre-wrap; }}
pre b {{ color: #8fc98f; font-weight: 400; }}
pre i {{ display: inline-block; width: 14.45px; font: 13.5px/1 "Noto Sans CJK SC", sans-serif; }}
div {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px; }}
img {{ width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 10px;
  display: block; border: 1px solid #dcdad4; }}
</style><pre><b>$ python examples/studio.py</b>\n{said}</pre><div>{shown}</div>"""


def draw(to: Path, frame: Callable[[bytes], bytes]) -> None:
    """Run the studio and take a screenshot.

    Args:
        to: Where the PNG goes.
        frame: Makes a picture of a video.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = _screen(Path(folder)).replace(str(Path(folder).resolve()), "~")
        made = Path(folder, "studio-out")
        video = frame(next(made.glob("*.mp4")).read_bytes())
        pictures = [_only(made, "*0.png"), video, _only(made, "*.preview.png")]
        page = PAGE.format(ground=GROUND, said=_columns(said), shown=_shown(pictures))
        _photograph(page, Path(folder), to)


def _screen(folder: Path) -> str:
    """Return what a terminal shows after the script, its progress bars included."""
    unset = " ".join(f"-u {name}" for name in KEYS)
    script = f"env {unset} {shlex.quote(sys.executable)} {shlex.quote(str(STUDIO))}"
    size = ("-x", str(COLUMNS), "-y", "60", "-c", str(folder))
    _tmux("new-session", "-d", "-s", "studio", *size, f"{script}; tmux wait -S studio; cat")
    _tmux("wait", "studio")
    shown = _tmux("capture-pane", "-p", "-J", "-t", "studio")
    _tmux("kill-session", "-t", "studio")
    return re.sub(r"[ ]+$", "", shown, flags=re.MULTILINE).strip()


def _tmux(*arguments: str) -> str:
    tmux = shutil.which("tmux")
    if tmux is None:
        raise SystemExit("studio.png needs tmux")
    done = subprocess.run([tmux, *arguments], check=True, stdout=subprocess.PIPE)  # noqa: S603 - ours
    return done.stdout.decode()


def _only(folder: Path, pattern: str) -> bytes:
    (found,) = folder.glob(pattern)
    return found.read_bytes()


def _columns(text: str) -> str:
    """Give each Chinese character two columns, as in a terminal."""
    wide = (f"<i>{c}</i>" if east_asian_width(c) in "WF" else html.escape(c) for c in text)
    return "".join(wide)


def _shown(pictures: list[bytes]) -> str:
    coded = (base64.b64encode(picture).decode() for picture in pictures)
    return "".join(f'<img src="data:image/png;base64,{text}">' for text in coded)


def _photograph(page: str, folder: Path, to: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("studio.png needs Chromium")
    source, raw = folder / "page.html", folder / "page.png"
    source.write_text(page, "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += [f"--window-size={WIDTH},{HEIGHT}", f"--force-device-scale-factor={SCALE}"]
    command = [browser, *flags, f"--screenshot={raw}", source.as_uri()]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own page
    with Image.open(raw) as photo:
        seen = photo.convert("RGB")
        margin = seen.height - 1
        while seen.getpixel((seen.width // 2, margin)) == GROUND:
            margin -= 1
        cut = seen.crop((0, 0, seen.width, int(margin + 20 * SCALE)))
        cut.quantize(128, dither=Image.Dither.NONE).save(to, optimize=True)
