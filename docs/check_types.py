"""Check the Python of the pages and READMEs with pyright in strict mode, as a user's editor would.

    python docs/check_types.py

The blocks of a page make one file in build/types/, each at its line in the page.
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
TYPES = ROOT / "build" / "types"
PAGES = [*sorted(HERE.rglob("*.md")), ROOT / "README.md", ROOT / "README.zh-CN.md"]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONFIG = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    "extraPaths": [str(ROOT)],
    "reportUnusedExpression": False,  # a cell of a notebook ends with what it shows
    "reportUnusedVariable": False,  # names of a page that awaits are locals of one function
    "reportUnusedFunction": False,
}


def python_of(text: str) -> str:
    """Return a page's blocks, each at its line; blocks that await are inside one function."""
    lines = [""] * text.count("\n")
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for number, line in enumerate(block[1].splitlines(), first):
            lines[number] = line
    if re.search(r"^\S.*\bawait |^await |^async (for|with) ", "\n".join(lines), re.MULTILINE):
        lines = ["async def page() -> None:", *(f"    {line}" for line in lines[1:])]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the files and check them; return pyright's exit code."""
    shutil.rmtree(TYPES, ignore_errors=True)
    for page in PAGES:
        if source := python_of(page.read_text("utf-8")).strip("\n"):
            target = TYPES / page.relative_to(ROOT).with_suffix(".py")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(python_of(page.read_text("utf-8")), "utf-8")
    (TYPES / "pyrightconfig.json").write_text(json.dumps(CONFIG), "utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(TYPES)]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
