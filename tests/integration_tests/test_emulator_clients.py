"""Clients that live in environments of their own talk to the emulator and understand it.

Each runs once, from the folder of the project, and prints what it made of the answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from langchain_tokenhub.testing import Emulator

CLIENTS = Path(__file__).parent.parent / "data" / "clients"
ROOT = Path(__file__).parents[2]
NODE_PACKAGES = "ai @ai-sdk/openai-compatible @langchain/core @langchain/openai openai zod"
INSTALL = {  # one npm install for all: a second one would take the first one's packages away
    "litellm_client.py": (
        "python3 -m venv .venv-litellm && .venv-litellm/bin/pip install litellm mcp"
    ),
    "vercel.mjs": f"npm install --no-save {NODE_PACKAGES}",
    "langchain.mjs": f"npm install --no-save {NODE_PACKAGES}",
}


def _program(script):
    return shutil.which("node") if script.endswith(".mjs") else _python()


def _python():
    python = ROOT / ".venv-litellm" / "bin" / "python"
    return str(python) if python.exists() else None


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("litellm_client.py", marks=pytest.mark.needs_litellm),
        pytest.param("vercel.mjs", marks=pytest.mark.needs_node),
        pytest.param("langchain.mjs", marks=pytest.mark.needs_node),
    ],
)
def output(request):
    """What a client understood."""
    program = _program(request.param)
    if program is None:
        pytest.skip(f"{request.param} needs its program: {INSTALL[request.param]}")
    with Emulator(speed=1e6) as hub:
        command = [program, str(CLIENTS / request.param), hub.url]
        environment = {**os.environ, "PYTHONUTF8": "1"}
        done = subprocess.run(
            command, capture_output=True, check=False, encoding="utf-8", env=environment
        )
    if "MODULE_NOT_FOUND" in done.stderr:
        pytest.skip(f"{request.param} needs its packages: {INSTALL[request.param]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_stranger_reads_the_answer_its_thinking_and_its_bill(output):
    assert (output["text"], output["thinks"]) == ("1+1=2", True)
    assert output["tokens"] > 0
    assert output.get("quiet") is None  # litellm's, with thinking switched off


def test_a_stranger_reads_the_same_from_a_stream(output):
    assert (output["streamed"], output["streamed_tokens"]) == (output["text"], output["tokens"])
    assert output.get("asynchronous", output["text"]) == output["text"]


def test_a_stranger_reads_tool_calls_whole_and_streamed(output):
    assert output["calls"] == output["streamed_calls"] == [{"city": "北京"}]


def test_a_stranger_reads_a_structured_answer(output):
    assert output["object"] == ["name", "population"]


def test_a_stranger_sees_the_status_of_an_error(output):
    assert (output["wrong_key"], output["no_model"]) == (401, 400)
