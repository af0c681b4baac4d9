"""Smoke test of an installed package: `python .ci/smoke.py VENV [README]`.

This process runs the emulator; VENV, which holds the package and nothing else, talks to it. With
a README, VENV also holds the extras that it names and pytest, and runs each of its Python blocks.
"""

from __future__ import annotations

import os
import re
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

for extra in ("starlette", "uvicorn", "PIL", "av", "langchain", "pytest"):
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


COMMANDS = (
    ["python", "-W", "error", "-c", PROGRAM],
    ["tokenhub", "--help"],
    ["tokenhub", "--lang", "zh", "image", "雨中竹林"],
    ["tokenhub", "gallery"],
)


def commands_of(readme: Path, folder: Path) -> list[list[str]]:
    """Write each Python block to a file; return the commands that run them."""
    commands = []
    blocks = re.findall(
        r"^```python\n(.*?)^```", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    for number, block in enumerate(blocks):
        path = folder / f"block_{number}.py"
        path.write_text(block, "utf-8")
        runner = ["-m", "pytest", "-q"] if "\ndef test_" in block else []
        commands.append(["python", *runner, str(path)])
    return commands


def main(venv: Path, readme: Path | None = None) -> None:
    """Run the program and the command, or the README, in the environment."""
    names = ("PATH", "HOME", "LANG", "SYSTEMROOT")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    with Emulator(speed=50) as hub, tempfile.TemporaryDirectory() as folder:
        at = {"TOKENHUB_API_KEY": "any", "TOKENHUB_BASE_URL": hub.url, "PYTHONUTF8": "1"}
        for command in commands_of(readme, Path(folder)) if readme else COMMANDS:
            begin = [str(venv / "bin" / command[0]), *command[1:]]
            subprocess.run(begin, cwd=folder, env=kept | at, check=True, stdout=subprocess.DEVNULL)
    sys.stdout.write(f"{venv}: {readme or 'the package by itself'} works\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *map(Path, sys.argv[2:]))
