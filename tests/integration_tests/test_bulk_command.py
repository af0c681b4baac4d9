"""`tokenhub bulk`: what it prints, its exit codes, Ctrl-C and going on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from langchain_tokenhub.bulk import driver
from langchain_tokenhub.cli import main
from tests.bulk_jobs import film, still, write

COMMAND = [sys.executable, "-m", "langchain_tokenhub.cli", "bulk"]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.chdir(tmp_path)


def manifest(*rows):
    write(Path(), rows)
    return "shots.jsonl"


def test_paths_are_on_stdout_and_counts_on_stderr(hub, capsys):
    rows = manifest(still("镜头一"), film("动一", "镜头一"))
    assert main(["bulk", rows, "--out", "out", "--budget", "10"]) == 0
    printed = capsys.readouterr()
    paths = [Path(line) for line in printed.out.splitlines()]
    assert [path.name.partition("-")[0] for path in paths] == ["镜头一", "动一"]
    assert all(path.is_file() for path in paths)
    assert "done 2, failed 0, may have been charged 0, not submitted 0" in printed.err
    assert "spent ¥7.20 / ¥10.00" in printed.err
    assert Path("out/index.html").is_file()


def test_a_dry_run_prints_what_rows_cost_and_sends_nothing(hub, capsys):
    rows = manifest(*(still(str(n)) for n in range(300)), film("f", "0"))
    assert main(["bulk", rows, "--dry-run"]) == 0
    printed = capsys.readouterr().out.split()
    assert [part for part in printed if part[0].isdigit()] == (
        ["300", "360.00", "1.00", "1", "6.00", "0.03", "301", "366.00", "1.00"]
    )
    assert main(["bulk", rows, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rows"] == 300
    assert not hub.requests
    assert not Path("tokenhub-out").exists()


def test_wrong_rows_are_a_usage_error(hub, capsys):
    rows = manifest({"model": "hy-image-lite", "promt": "x"})
    for more in ([], ["--dry-run"]):
        assert main(["bulk", rows, *more]) == 2
        assert "line 1: promt: not a parameter" in capsys.readouterr().err
    assert main(["bulk", "none.csv"]) == 2
    assert main(["bulk", rows, "--price", "cheap"]) == 2
    assert not hub.requests


def test_exit_codes_tell_what_the_rows_came_to(hub, capsys):
    hub.fail("job")
    assert main(["bulk", manifest(still("a")), "-o", "1"]) == 5
    hub.fail("lost-answer")
    assert main(["bulk", manifest(still("b")), "-o", "2"]) == 7
    assert "--again unknown does): b" in capsys.readouterr().err
    assert main(["bulk", manifest(still("c")), "-o", "3", "--budget", "1"]) == 3
    assert main(["bulk", manifest(still("a")), "-o", "1", "--retry-failed"]) == 0
    assert main(["bulk", manifest(still("b")), "-o", "2", "--again", "unknown"]) == 0


def test_json_is_one_object(hub, capsys):
    assert main(["bulk", manifest(still("a")), "--json", "--budget", "5", "-q"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["done"], found["spent"], found["left"]) == (1, 1.2, 3.8)
    assert printed.err == ""


def test_prices_of_models_are_options(hub, capsys):
    rows = manifest({"model": "ep-1", "kind": "image", "prompt": "x"}, still("a"))
    assert main(["bulk", rows, "--dry-run", "--budget", "9"]) == 2
    assert "no price of ep-1" in capsys.readouterr().err
    for price in (["ep-1=2", "HY-image-v3.0=1"], ["2"]):
        options = [part for one in price for part in ("--price", one)]
        assert main(["bulk", rows, "--dry-run", "--budget", "9", *options]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_ctrl_c_says_how_to_continue_and_the_same_command_continues(hub):
    hub.speed = 4
    rows = manifest(*({**still(str(n)), "model": "hy-video-1.5"} for n in range(8)))
    process = subprocess.Popen([*COMMAND, rows], stderr=subprocess.PIPE, text=True)
    while len(hub.jobs) < 5:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "Run the same command again to continue." in process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert len(hub.jobs) < 8
    hub.speed = 1000
    assert main(["bulk", rows]) == 0
    assert len(hub.jobs) == 8
