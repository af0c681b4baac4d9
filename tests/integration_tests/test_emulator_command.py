"""`python -m langchain_tokenhub.testing` and `tokenhub emulator` as processes."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys

import httpx
import pytest

from langchain_tokenhub.testing import Emulator

CLI = "import sys, langchain_tokenhub.cli as c; sys.exit(c.main(['emulator', *sys.argv[1:]]))"
COMMANDS = {
    "module": [sys.executable, "-m", "langchain_tokenhub.testing"],
    "cli": [sys.executable, "-c", CLI],
}
BODY = {"model": "hy3", "messages": [{"role": "user", "content": "你好"}]}


@contextlib.contextmanager
def running(name, *options):
    """Run a command; yields the process and the address it printed."""
    command = [*COMMANDS[name], *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process, re.search(r"http://\S+", process.stdout.readline()).group()
        finally:
            process.kill()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_knobs_are_options(name):
    options = ["--era", "guide", "--rpm", "1", "--key", "sk-a", "--latency", "0.01-0.02"]
    with running(name, *options, "--speed", "1000") as (_, url):
        head = {"authorization": "Bearer sk-a"}
        chat = f"{url}/v1/chat/completions"
        answers = [httpx.post(chat, json=BODY, headers=head) for _ in range(2)]
        foreign = httpx.post(chat, json=BODY, headers={"authorization": "Bearer sk-b"})
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "cached_token" in answers[0].json()["usage"]["prompt_tokens_details"]
    assert foreign.json()["error"]["code"] == "authentication_error"


@pytest.mark.parametrize("name", COMMANDS)
def test_it_says_how_to_use_it_and_leaves_quietly_on_ctrl_c(name):
    with running(name, "--key", "sk-a") as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False)
    assert "Ctrl-C" in err
    assert "sk-a" in err or name == "cli"  # there the line for the shell is on stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_taken_port_is_said_in_a_line(name):
    with Emulator() as hub:
        port = hub.url.rpartition(":")[2]
        done = subprocess.run(
            [*COMMANDS[name], "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "wrong", [["--port", "x"], ["--latency", "-1"], ["--rpm", "1.5"], ["--speed", "-1"]]
)
def test_a_wrong_option_is_named(wrong):
    done = subprocess.run(
        [*COMMANDS["module"], *wrong], capture_output=True, text=True, check=False
    )
    assert (done.returncode, wrong[0] in done.stderr.splitlines()[-1]) == (2, True)
