"""Every example, and every Python block of the READMEs, runs with no key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def run(script: Path, folder: Path) -> str:
    drop = {"TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY", "TOKENHUB_BASE_URL"}
    env = {name: value for name, value in os.environ.items() if name not in drop}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=env | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def blocks(readme: Path, language: str = "[a-z]*") -> list[str]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fence.findall(readme.read_text("utf-8"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_without_a_key(script, tmp_path):
    assert run(script, tmp_path).strip()


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(script):
    limit = 160 if script.stem == "studio" else 60
    assert len(script.read_text("utf-8").splitlines()) <= limit


def test_both_readmes_begin_with_the_same_two_commands():
    assert blocks(READMES[0])[:2] == blocks(READMES[1])[:2]


def test_both_readmes_hold_the_same_python():
    assert blocks(READMES[0], "python") == blocks(READMES[1], "python")


@pytest.mark.parametrize("number", range(len(blocks(READMES[0], "python"))))
def test_a_block_of_the_readme_runs(number, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = blocks(READMES[0], "python")
    known: dict[str, object] = {}
    if "model." in code[number] and "model =" not in code[number]:
        exec(code[0], known)
    exec(code[number], known)
