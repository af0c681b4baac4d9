"""Check the Python of the pages and READMEs with pyright in strict mode.

    python docs/check_types.py

The blocks of a page make one file in build/types/, each at its line in the page. What other
packages type loosely is listed below with its reason; everything else is an error.
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
    "reportMissingTypeStubs": False,  # langgraph ships its types inline
    "reportOptionalSubscript": False,  # AIMessage.usage_metadata may be None
    "reportTypedDictNotRequiredAccess": False,  # so may its details
    "reportUnusedExpression": False,  # a cell of a notebook ends with what it shows
    "reportUnusedImport": False,  # for lines that a reader may uncomment
    "reportUnusedFunction": False,  # names of a page that awaits are locals of one function
    "reportUnusedVariable": False,
}
LOOSE = re.compile(r"from lang(chain|graph)\.|usage_metadata|closing\(|tokenhub_emulator")
"""Pages with LangChain's agents, graphs, usage or streams, or a fixture without annotation."""
UNKNOWN = ", ".join(
    f"report{kind}=false"
    for kind in (
        *("UnknownMemberType", "UnknownVariableType", "UnknownArgumentType"),
        *("UnknownParameterType", "MissingParameterType"),
    )
)
EXCEPTIONS = re.compile(
    r'"list\[str\]".*"list\[LanguageModelInput\]"'  # abatch() takes an invariant list
    r'|"(Async)?Iterator\[AIMessageChunk\]".*"thing"'  # stream() promises no close()
    r'|"SupportsIndex \| slice\['  # an agent's stream() yields a dict or a tuple
    r'|"SecretStr \| \(\(\) -> str\)'  # ChatOpenAI takes a str that it does not declare
)


def python_of(text: str) -> str:
    """Return a page's blocks, each at its line; blocks that await are inside one function."""
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for number, line in enumerate(block[1].splitlines(), first):
            lines[number] = line
    if re.search(r"^(\S.*)?\bawait |^async (for|with) ", "\n".join(lines), re.MULTILINE):
        lines = ["async def page() -> None:", *(f"    {line}" for line in lines[1:])]
    if LOOSE.search("\n".join(lines)):
        lines[1] = f"# pyright: {UNKNOWN}"
    return "\n".join(lines) + "\n"


def write() -> None:
    """Write a file for each page that has Python."""
    shutil.rmtree(TYPES, ignore_errors=True)
    for page in PAGES:
        text = page.read_text("utf-8")
        if _BLOCK.search(text):
            target = TYPES / page.relative_to(ROOT).with_suffix(".py")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(python_of(text), "utf-8")
    (TYPES / "pyrightconfig.json").write_text(json.dumps(CONFIG), "utf-8")


def errors() -> list[str]:
    """Return what pyright finds, without the exceptions."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, "-p", str(TYPES)], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    return [
        f"{Path(one['file']).relative_to(TYPES).with_suffix('.md')}:"
        f"{one['range']['start']['line'] + 1}: {one['message']} ({one.get('rule')})"
        for one in json.loads(done.stdout)["generalDiagnostics"]
        if not EXCEPTIONS.search(one["message"])
    ]


def main() -> int:
    """Check all pages; return 1 if there are errors."""
    write()
    found = errors()
    sys.stdout.write("\n".join([*found, f"{len(found)} errors in the pages' Python"]) + "\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
