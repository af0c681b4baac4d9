"""Smoke test of an installed package: `python .ci/smoke.py VENV`.

This process runs the emulator; VENV, which holds the package and nothing else, talks to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from langchain_tokenhub.testing import Emulator

PROGRAM = """
import importlib.util
from importlib.metadata import version
from importlib.resources import files

import langchain_tokenhub
from langchain_tokenhub import ChatTokenHub, TokenHubToolkit

for extra in ("starlette", "uvicorn", "PIL", "langchain", "pytest"):
    assert importlib.util.find_spec(extra) is None, f"{extra} should not be here"
assert langchain_tokenhub.__version__ == version("langchain-tokenhub")
package = files("langchain_tokenhub")
kept = ["py.typed", "gallery.html", "catalogue/chat_models.toml", "catalogue/media_models.toml"]
kept += ["catalogue/error_codes.toml", "cli/translations.toml", "testing/data/models.toml"]
assert all(package.joinpath(name).is_file() for name in kept)
for name in langchain_tokenhub.__all__:
    getattr(langchain_tokenhub, name)
model = ChatTokenHub(model="hy3")
assert model.invoke("你好").content
assert "".join(chunk.text for chunk in model.stream("你好"))
image, video, shape = TokenHubToolkit(save_to="out").get_tools()[:3]
for tool, asked in ((image, "雨中竹林"), (video, "小河流水"), (shape, "一把茶壶")):
    assert tool.generate(prompt=asked).files[0].path.stat().st_size
"""


def main(venv: Path) -> None:
    """Run the program and the command in the environment."""
    names = ("PATH", "HOME", "LANG", "SYSTEMROOT")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    with Emulator(speed=50) as hub, tempfile.TemporaryDirectory() as folder:
        at = {"TOKENHUB_API_KEY": "any", "TOKENHUB_BASE_URL": hub.url, "PYTHONUTF8": "1"}
        for command in (
            ["python", "-W", "error", "-c", PROGRAM],
            ["tokenhub", "--help"],
            ["tokenhub", "--lang", "zh", "image", "雨中竹林"],
            ["tokenhub", "gallery"],
        ):
            begin = [str(venv / "bin" / command[0]), *command[1:]]
            subprocess.run(begin, cwd=folder, env=kept | at, check=True, stdout=subprocess.DEVNULL)
    sys.stdout.write(f"{venv}: the package works by itself\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
