"""A deep agent of `deepagents`, which finds this package's profile by its entry point."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from langchain_tokenhub._deepagents import SUFFIX

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-adapters" / "bin" / "python"


@pytest.mark.needs_adapters
def test_a_deep_agent_is_told_that_jobs_cost_money(tmp_path):
    if not PYTHON.exists():
        pytest.skip("needs its program: pip install -e '.[emulator]' deepagents in .venv-adapters")
    script = ROOT / "tests" / "data" / "clients" / "deep_agent.py"
    done = subprocess.run(
        [PYTHON, script, tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["answer"] == "你好"
    assert SUFFIX in found["sent"]["messages"][0]["content"]
    names = {tool["function"]["name"] for tool in found["sent"]["tools"]}
    assert {"tokenhub_image", "tokenhub_video", "tokenhub_3d"} <= names
