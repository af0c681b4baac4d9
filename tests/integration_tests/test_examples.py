"""Every example, and every Python block of the READMEs, runs with no key."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from langchain_tokenhub.testing import Emulator, offline

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OWN_TEST = {
    "celery_jobs",
    "durable_agent",
    "langgraph_postgres",
    "product_3d",
    "rag",
    "service",
    "storyboard",
    "studio",
    "translator",
}
SCRIPTS = [path.stem for path in EXAMPLES if path.stem not in {*OWN_TEST, "test_my_agent"}]
KEY = ("TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY", "TOKENHUB_BASE_URL")
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def without_key() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in KEY}
    return kept | {"PYTHONUTF8": "1"}


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run an example as a script, in a new folder and with no key; return its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(offline, "Emulator", lambda speed: Emulator(speed=50 * speed))
    for variable in KEY:
        monkeypatch.delenv(variable, raising=False)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code = None
        try:
            runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        assert not code
        assert "Traceback" not in err
        return out

    return run


def blocks(readme: Path, language: str = "[a-z]*") -> list[str]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fence.findall(readme.read_text("utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_without_a_key(run, name):
    assert run(name).strip()


def test_the_durable_agent_submits_once(run):
    assert "submitted 1 job(s) in all" in run("durable_agent")


def test_a_celery_task_that_is_repeated_is_paid_once(tmp_path):
    command = [sys.executable, ROOT / "examples/celery_jobs.py"]  # Celery replaces the logging
    pipes = {"capture_output": True, "text": True, "env": without_key()}
    done = subprocess.run(command, cwd=tmp_path, check=True, timeout=120, **pipes)
    assert "submitted 2 job(s) for 2 tasks, each run twice" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.needs_postgres
def test_an_agent_on_postgres_goes_on_in_another_process(run, postgres):
    database = postgres.url.replace("+psycopg", "")
    said = run("langgraph_postgres", database)
    assert "the first process died with code 9" in said
    assert "submitted 1 job(s) in all" in said


def test_the_turntable_turns(run, tmp_path):
    run("product_3d")
    (film,) = (tmp_path / "studio-out").glob("*.gif")
    with Image.open(film) as turntable:
        assert turntable.n_frames == 30


def test_the_studio_makes_a_picture_a_film_and_a_model(run, tmp_path):
    said = run("studio")
    assert "3 jobs" in said
    made = {path.suffix for path in (tmp_path / "studio-out").iterdir()}
    assert {".png", ".mp4", ".glb"} <= made


def test_the_storyboard_makes_a_film_of_every_shot(run, tmp_path):
    said = run("storyboard")
    assert said.count(".png -> ") == len(list((tmp_path / "studio-out").glob("*.mp4"))) > 1


def test_the_translator_translates(run):
    assert "weather" in run("translator")


def test_the_answer_from_own_text_is_given_the_passage_that_holds_it(run, tmp_path):
    assert "- 茶叶请放在阴凉干燥处" in run("rag").splitlines()[1]
    own = tmp_path / "own.txt"
    own.write_text("店里只收现金。\n" + "今天下雨。" * 100, "utf-8")
    said = run("rag", "收现金吗？", str(own))
    assert said.splitlines()[1] == "- 店里只收现金。"


def test_the_example_of_a_users_own_tests_passes(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "examples/test_my_agent.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "4 passed" in done.stdout, done.stdout


@contextmanager
def _service(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "examples/service.py"), str(port)]
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, env=without_key())
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            client.get(address)
        yield address
    finally:
        server.terminate()
        server.wait(10)


def test_the_service_streams_tokens_and_progress(tmp_path):
    with _service(tmp_path) as address:
        told = httpx.get(f"{address}/ask", params={"text": "画一只橘猫"}, timeout=60).text
    assert [f"event: {name}" in told for name in ("token", "job", "done")] == [True] * 3


@pytest.mark.needs_chromium
def test_the_services_page_shows_bars_and_images(tmp_path):
    browser = shutil.which("chromium") or pytest.skip("needs chromium")
    with _service(tmp_path) as address:
        shown = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
                *("--virtual-time-budget=20000", f"{address}/?text=画一只橘猫"),
            ],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        ).stdout
    assert 'data-done="yes"' in shown
    assert re.search(r'<progress max="100" value="100"|completed</small>', shown)
    assert re.search(r'<img[^>]* src="/files/', shown)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(script):
    limit = {"studio": 160, "product_3d": 110, "service": 80}.get(script.stem, 65)
    assert len(script.read_text("utf-8").splitlines()) <= limit


def test_both_readmes_begin_with_the_same_two_commands():
    assert blocks(READMES[0])[:2] == blocks(READMES[1])[:2]
