"""The MCP server, over standard input and output and over HTTP, with two clients."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import fastmcp
import httpx
import mcp
import pytest
from fastmcp.exceptions import ToolError
from mcp.client.stdio import StdioServerParameters, stdio_client

from langchain_tokenhub import TokenHubToolkit
from langchain_tokenhub.cli import main
from langchain_tokenhub.mcp import server

COMMAND = [sys.executable, "-m", "langchain_tokenhub.cli", "mcp"]
TOKEN = "a-token-of-this-test"
ROOT = Path(__file__).parents[2]
INSTALL = (
    "python3 -m venv .venv-adapters && "
    ".venv-adapters/bin/pip install langchain-mcp-adapters 'mcp<2'"
)


@pytest.fixture
def environment(hub):
    return os.environ | {"TOKENHUB_BASE_URL": hub.url, "TOKENHUB_API_KEY": "any"}


@pytest.fixture
def toolkit(hub, tmp_path):
    return TokenHubToolkit(base_url=hub.url, api_key="any", save_to=tmp_path / "out")


@contextlib.asynccontextmanager
async def client_of(toolkit, answer=None, progress=None, mode="auto", **options):
    async def ask(message, response_type, params, context):
        return answer(message)

    asked = {"elicitation_handler": ask} if answer else {}
    listener = {"progress_handler": progress} if progress else {}
    async with fastmcp.Client(server(toolkit, **options), mode=mode, **asked, **listener) as client:
        yield client


async def call(client, tool, **arguments):
    return await client.call_tool(tool, arguments, raise_on_error=False)


def exit_code(*arguments):
    try:
        return main(["mcp", *arguments])
    except SystemExit as ended:
        return ended.code


def text_of(result):
    return result.content[0].text


async def test_the_official_client_submits_and_collects_over_stdio(environment, hub, tmp_path):
    folder = tmp_path / "out"
    parameters = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "-o", str(folder)], env=environment
    )
    async with stdio_client(parameters) as streams, mcp.ClientSession(*streams) as session:
        await session.initialize()
        submitted = await session.call_tool("tokenhub_image", {"prompt": "雨中的竹林"})
        job_id = submitted.structured_content["id"]
        collected = await session.call_tool("tokenhub_wait", {"job_id": job_id})
    link = next(part for part in collected.content if part.type == "resource_link")
    assert link.uri.startswith("file://")
    assert link.mime_type == "image/png"
    assert collected.structured_content["job"]["id"] == job_id
    assert list(folder.glob("*.png"))
    assert len(hub.jobs) == 1


@pytest.mark.needs_adapters
def test_langchains_adapters_submit_and_collect_over_http(environment, hub):
    python = ROOT / ".venv-adapters" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs its program: {INSTALL}")
    script = ROOT / "tests" / "data" / "clients" / "mcp_adapters.py"
    with _http_server(environment | {"TOKENHUB_MCP_TOKEN": TOKEN}) as url:
        done = subprocess.run(
            [python, script, url, TOKEN], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"tokenhub_image", "tokenhub_wait", "tokenhub_look"} <= set(found["tools"])
    assert list(hub.jobs) == [found["job"]]
    assert "completed" in found["collected"]


def test_http_without_the_token_is_unauthorized(environment):
    with _http_server(environment | {"TOKENHUB_MCP_TOKEN": TOKEN}) as url:
        for headers in ({}, {"Authorization": "Bearer another"}):
            assert httpx.post(url, json={}, headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--approve-above", "-1", "not an amount"),
        ("--approve-above", "nan", "not an amount"),
        ("--model", "gpt-4o", "not listed"),
        ("--port", "65536", "not a port"),
        ("--ledger", "mysql://x/y", "postgresql"),
    ],
)
def test_a_wrong_option_is_a_usage_error(hub, capsys, option, value, said):
    assert exit_code(option, value) == 2
    assert said in capsys.readouterr().err


def test_http_is_not_served_without_a_token(hub, capsys):
    assert exit_code("--http") == 2
    assert "TOKENHUB_MCP_TOKEN" in capsys.readouterr().err


async def test_progress_is_notified_while_a_job_is_waited_for(toolkit):
    seen = []

    async def note(progress, total, message):
        seen.append(message)

    async with client_of(toolkit, progress=note) as client:
        job = await call(client, "tokenhub_video", prompt="小河流水")
        await call(client, "tokenhub_wait", job_id=job.structured_content["id"])
    assert seen[-1] == "completed"
    assert len(seen) > 1


async def test_a_job_that_still_runs_is_returned_as_it_is(toolkit, hub):
    hub.speed = 1
    async with client_of(toolkit) as client:
        job = await call(client, "tokenhub_video", prompt="小河流水")
        job_id = job.structured_content["id"]
        waited = await call(client, "tokenhub_wait", job_id=job_id, seconds=0.2)
        listed = await call(client, "tokenhub_jobs")
        looked = await call(client, "tokenhub_look", job_id=job_id)
    assert waited.structured_content["status"] in {"queued", "in_progress"}
    assert [one["id"] for one in listed.structured_content["jobs"]] == [job_id]
    assert looked.structured_content["id"] == job_id


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_above_the_limit_is_submitted_only_if_the_user_approves(
    toolkit, hub, approved, mode
):
    questions = []

    def answer(question):
        questions.append(question)
        return {"value": approved}

    async with client_of(toolkit, answer, mode=mode, approve_above=0.5) as client:
        result = await call(client, "tokenhub_image", prompt="一只橘猫")
    assert result.is_error is not approved
    assert len(hub.jobs) == int(approved)
    assert "CNY" in questions[0]


async def test_a_client_that_cannot_ask_its_user_is_refused(toolkit, hub):
    async with client_of(toolkit, approve_above=0.5) as client:
        with contextlib.suppress(mcp.MCPError, ToolError):
            result = await call(client, "tokenhub_image", prompt="一只橘猫")
            assert result.is_error
    assert not hub.jobs


def test_a_budget_of_a_thread_is_refused_as_a_server_has_none(toolkit):
    with pytest.raises(ValueError, match="budget_cny"):
        server(toolkit.model_copy(update={"budget_cny": 5}))


async def test_bad_input_is_an_error_before_anybody_is_asked(toolkit, hub):
    async with client_of(toolkit, pytest.fail, approve_above=0) as client:
        result = await call(client, "tokenhub_image", prompt="雨", resolution="9:9")
    assert result.is_error
    assert "512 to 2048" in text_of(result)
    assert not hub.jobs


async def test_a_file_outside_the_allowed_folders_is_not_sent(toolkit, hub, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG")
    async with client_of(toolkit) as client:
        result = await call(client, "tokenhub_video", prompt="雨", image=str(secret))
    assert result.is_error
    assert not hub.requests


async def test_a_failed_call_says_what_was_charged_and_names_the_job(toolkit, hub):
    async with client_of(toolkit) as client:
        hub.fail("lost-answer")
        unknown = await call(client, "tokenhub_image", prompt="雨")
        missing = await call(client, "tokenhub_look", job_id="1", model="hy-video-1.5")
    assert "may have been charged" in text_of(unknown)
    assert missing.structured_content["job"]["id"] == "1"


@contextlib.contextmanager
def _http_server(environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = subprocess.Popen(
        [*COMMAND, "--http", "--port", str(port)], env=environment, stderr=subprocess.PIPE
    )
    try:
        while running.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        running.terminate()
        running.communicate()
