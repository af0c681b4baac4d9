"""The command against the emulator: files, exit codes, and jobs that are never paid twice."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from langchain_tokenhub.chat_models import ChatTokenHub
from langchain_tokenhub.cli import main, media
from langchain_tokenhub.cli.chat import Conversation
from langchain_tokenhub.cli.console import Console
from langchain_tokenhub.cli.messages import Translator
from langchain_tokenhub.jobs.models import MediaResult
from langchain_tokenhub.testing import Emulator
from tests.bulk_jobs import submits

COMMAND = [sys.executable, "-m", "langchain_tokenhub.cli"]
OUT = Path("tokenhub-out")
ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    """Work in a folder of one's own, in a plain locale."""
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def still(monkeypatch):
    """A TokenHub whose jobs stand still until it is told to go on."""
    with Emulator(speed=0) as emulator:
        monkeypatch.setenv("TOKENHUB_BASE_URL", emulator.url)
        monkeypatch.setenv("TOKENHUB_API_KEY", "sk-test-canary")
        yield emulator


def sidecar(path):
    return json.loads(Path(f"{path}.json").read_text("utf-8"))


def collecting_command(text):
    """Return the arguments of the command that a message advises."""
    return shlex.split(text[text.index("tokenhub resume") :].splitlines()[0])[1:]


# --- media ----------------------------------------------------------------------------------------


def test_an_image_is_saved_and_its_path_alone_is_on_stdout(hub, capsys):
    assert main(["image", "雪地里的猫", "--resolution", "1024:1024"]) == 0
    said = capsys.readouterr()
    path = Path(said.out.strip())
    assert path.parent == OUT.absolute()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert sidecar(path)["parameters"] == {"prompt": "雪地里的猫", "resolution": "1024:1024"}
    assert "completed" in said.err


def test_json_is_the_whole_result(hub, capsys):
    assert main(["image", "cat", "--json", "-q"]) == 0
    said = capsys.readouterr()
    result = MediaResult.model_validate_json(said.out)
    assert result.job.status == "completed"
    assert result.files[0].path.is_file()
    assert said.err == ""


def test_a_video_takes_a_picture_from_disk(hub, capsys):
    main(["image", "cat", "-q"])
    picture = capsys.readouterr().out.strip()
    assert main(["video", "动起来", "--image", picture]) == 0
    assert Path(capsys.readouterr().out.strip()).suffix == ".mp4"
    assert "base64" in submits(hub)[-1].body["image"]


def test_a_3d_model_is_saved_in_every_format(hub, capsys):
    assert main(["3d", "一把椅子", "--enable-pbr", "--face-count", "4000"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {path.suffix for path in paths} == {".glb", ".zip"}
    assert submits(hub)[-1].body["face_count"] == 4000


def test_extra_fields_are_sent(hub):
    assert main(["image", "cat", "--extra", '{"new_field": 1}']) in {0, 2}
    assert submits(hub)[-1].body["new_field"] == 1


def test_a_parameter_out_of_range_sends_nothing(hub, capsys):
    assert main(["image", "cat", "--resolution", "9:9"]) == 2
    assert hub.requests == []
    assert "resolution" in capsys.readouterr().err


def test_warnings_are_lines_for_people(hub, capsys):
    assert main(["image", "cat", "--seed", "5", "-q"]) == 0
    assert capsys.readouterr().err.startswith("warning: seed has no effect")


def test_the_same_command_after_success_makes_another(hub):
    assert [main(["image", "cat"]), main(["image", "cat"])] == [0, 0]
    assert media.unfinished_jobs(OUT) == []
    assert len(media.known_jobs(OUT)) == len(submits(hub)) == len(list(OUT.glob("*.png"))) == 2


def test_a_wait_that_was_too_short_names_the_command_that_collects(still, capsys):
    assert main(["video", "雪", "--wait-timeout", "0.05"]) == 6
    command = collecting_command(capsys.readouterr().err)
    still.advance(1000)
    assert main(command) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert len(submits(still)) == 1
    assert media.unfinished_jobs(OUT) == []


def test_the_same_command_goes_on_with_an_unfinished_job(still):
    assert main(["video", "雪", "--wait-timeout", "0.05"]) == 6
    still.advance(1000)
    assert main(["video", "雪"]) == 0
    assert len(submits(still)) == 1


def test_again_submits_anew(still):
    assert main(["video", "雪", "--no-wait"]) == 0
    assert main(["video", "雪", "--no-wait", "--again"]) == 0
    assert len(submits(still)) == 2


def test_no_wait_prints_the_id_and_resume_collects_it(still, capsys):
    assert main(["video", "雪", "--no-wait"]) == 0
    job_id = capsys.readouterr().out.strip()
    still.advance(1000)
    assert main(["resume", job_id]) == 0
    assert sidecar(capsys.readouterr().out.strip())["job"]["id"] == job_id


def test_a_job_that_no_folder_records_is_collected_by_its_model(still, capsys):
    main(["video", "雪", "--no-wait", "-o", "there"])
    job_id = capsys.readouterr().out.strip()
    still.advance(1000)
    assert main(["resume", job_id, "--model", "hy-video-1.5", "-o", "here"]) == 0
    assert Path(capsys.readouterr().out.strip()).parent == Path("here").absolute()


def test_jobs_shows_the_states_that_the_service_reports(still, capsys):
    main(["video", "雪", "--no-wait"])
    still.advance(1000)
    capsys.readouterr()
    assert main(["jobs", "--live", "--json"]) == 0
    assert [job["status"] for job in json.loads(capsys.readouterr().out)] == ["completed"]


def test_a_failed_job_is_reported_and_removed(hub, capsys):
    hub.fail("job", code="FailedOperation.ModerationFailed")
    assert main(["image", "cat", "--json"]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["job"]["id"]) == ("JobBlockedError", *hub.jobs)
    assert media.unfinished_jobs(OUT) == []


def test_a_submit_without_an_answer_has_its_own_code_and_is_repeated_only_if_asked(hub, capsys):
    hub.fail("lost-answer")
    assert main(["image", "cat"]) == 7
    assert "--again" in capsys.readouterr().err
    assert len(media.unanswered_submits(OUT)) == 1
    assert main(["image", "cat"]) == 7
    assert len(submits(hub)) == 1
    assert main(["image", "cat", "--again"]) == 0
    assert media.unanswered_submits(OUT) == []


def test_a_file_that_could_not_be_saved_is_reported_with_its_link(hub, capsys):
    hub.fail("status", status=500, path="/files", times=9)
    assert main(["image", "cat"]) == 8
    assert f"{hub.url}/files/" in capsys.readouterr().err
    assert len(media.unfinished_jobs(OUT)) == 1


def test_a_wrong_key_is_reported(hub, capsys, monkeypatch):
    monkeypatch.setenv("TOKENHUB_API_KEY", "wrong")
    assert main(["image", "cat"]) == 3
    assert "hint: " in capsys.readouterr().err


def test_a_service_that_cannot_be_reached_is_reported(hub, refused, capsys):
    assert main(["image", "cat", "--base-url", refused, "--max-retries", "0"]) == 4
    assert "Traceback" not in capsys.readouterr().err


# --- chat -----------------------------------------------------------------------------------------


def test_chat_answers_a_prompt(hub, capsys):
    assert main(["chat", "你好", "--usage"]) == 0
    said = capsys.readouterr()
    assert "你好" in said.out
    assert said.err.startswith("tokens: ")


def test_chat_prints_reasoning_to_stderr_alone(hub, capsys):
    assert main(["chat", "你好", "--think", "--show-thinking"]) == 0
    said = capsys.readouterr()
    assert said.err.strip()
    assert said.err.strip() not in said.out


def test_chat_reads_stdin_and_needs_words(hub, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["chat"]) == 2
    assert hub.requests == []
    monkeypatch.setattr("sys.stdin", io.StringIO("杭州在哪里"))
    assert main(["chat"]) == 0
    assert hub.requests[-1].body["messages"] == [{"role": "user", "content": "杭州在哪里"}]


def test_chat_as_json(hub, capsys):
    assert main(["chat", "你好", "--json", "--no-think"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["content"]
    assert answer["usage"]["output_tokens"] > 0
    assert hub.requests[-1].body["thinking"] == {"type": "disabled"}


def test_chat_sends_its_options(hub):
    main(["chat", "hi", "--system", "be brief", "--temperature", "0.5", "--max-tokens", "9"])
    sent = hub.requests[-1].body
    assert sent["messages"][0] == {"role": "system", "content": "be brief"}
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 9)


def test_chat_looks_at_a_picture(hub, capsys):
    main(["image", "cat", "-q"])
    picture = capsys.readouterr().out.strip()
    assert main(["chat", "这是什么", "-m", "kimi-k2.5", "--image", picture]) == 0
    kinds = [part["type"] for part in hub.requests[-1].body["messages"][0]["content"]]
    assert kinds == ["image_url", "text"]


@pytest.fixture
def talk(hub):
    options = Namespace(
        model="hy3", system=None, show_thinking=False, usage=False, site=None, base_url=None
    )
    return Conversation(Console(Translator("en")), ChatTokenHub(model="hy3"), options)


def test_a_conversation_sends_its_earlier_messages_until_they_are_cleared(hub, talk):
    assert talk.converse(iter(["我叫小明", "", "我叫什么"])) == 0
    roles = [message["role"] for message in hub.requests[-1].body["messages"]]
    assert roles == ["user", "assistant", "user"]
    talk.converse(iter(["/clear", "我叫什么"]))
    assert len(hub.requests[-1].body["messages"]) == 1


def test_an_error_ends_the_answer_and_not_the_conversation(hub, talk, capsys):
    hub.fail("status", status=400, path="/v1/chat")
    talk.converse(iter(["一", "二"]))
    assert "HTTP 400" in capsys.readouterr().err
    assert len(hub.requests[-1].body["messages"]) == 1


# --- lists and pages ------------------------------------------------------------------------------


def test_models_live_is_the_services_list(hub, capsys):
    assert main(["models", "--live", "--kind", "image", "--json"]) == 0
    assert {row["id"] for row in json.loads(capsys.readouterr().out)} >= {"hy-image-v3.0"}


def test_a_gallery_is_made_of_what_was_saved_without_a_request(hub, capsys):
    main(["image", "雪地里的猫", "-q"])
    main(["3d", "一把椅子", "-q"])
    capsys.readouterr()
    before = len(hub.requests)
    assert main(["gallery"]) == 0
    assert len(hub.requests) == before
    assert capsys.readouterr().out.strip() == str(OUT / "index.html")
    assert main(["gallery", "--offline", "--lang", "zh"]) == 0
    page = (OUT / "index.html").read_text("utf-8")
    assert page.count("<article") == 2
    assert ".preview.png" in page
    assert len(list(OUT.glob("*.preview.png"))) == 1


# --- as a process of its own ----------------------------------------------------------------------


def run(*arguments, **environment):
    whole = {**os.environ, **environment}
    return subprocess.run(
        [*COMMAND, *arguments], env=whole, capture_output=True, check=False, timeout=60
    )


def test_chinese_names_are_saved_in_the_c_locale(hub):
    done = run("image", "小狗", "-q", LC_ALL="C")
    assert done.returncode == 0
    assert Path(done.stdout.decode().strip()).is_file()


def test_a_locale_without_chinese_causes_no_error(hub):
    for environment in ({}, {"PYTHONIOENCODING": "ascii"}, ASCII):
        done = run("chat", "你好", "--lang", "zh", "--usage", LC_ALL="C", **environment)
        assert done.returncode == 0
        assert done.stdout.strip()
        assert b"Traceback" not in done.stderr
        assert hub.requests[-1].body["messages"][0]["content"] == "你好"


def test_a_disk_without_chinese_names_saves_files(hub):
    done = run("image", "小狗 dog", "-q", LC_ALL="C", **ASCII)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.decode().strip())
    assert path.name.startswith("dog-")
    assert path.is_file()


@pytest.mark.parametrize(
    ("arguments", "code"), [("models >&-", 0), ("models 2>&-", 0), ("chat <&-", 2)]
)
def test_a_closed_stream_is_no_fault(hub, arguments, code):
    command = f"{shlex.join(COMMAND)} {arguments}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_a_job_of_a_killed_process_is_collected_and_paid_once(still):
    with subprocess.Popen([*COMMAND, "video", "雪"], stderr=subprocess.PIPE, text=True) as process:
        process.stderr.readline()
        process.kill()
    (job_id,) = still.jobs
    still.speed = 1000
    done = run("resume", job_id, "-q")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.decode().strip()).suffix == ".mp4"
    assert sum(request.path.endswith("/submit") for request in still.requests) == 1


def test_ctrl_c_names_the_job_and_how_to_collect_it(still):
    with subprocess.Popen([*COMMAND, "video", "雪"], stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "queued" in line
    (job_id,) = still.jobs
    assert f"tokenhub resume {job_id} --model hy-video-1.5" in rest
    assert "Traceback" not in rest


def test_a_closed_pipe_causes_no_error(hub):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "models"], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60
    )
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""


def test_the_emulator_serves_until_it_is_stopped(monkeypatch):
    command = [*COMMAND, "emulator", "--speed", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        settings = dict(part.split("=", 1) for part in process.stdout.readline().split()[1:])
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        assert main(["chat", "你好"]) == 0
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_resume_fetches_the_file_that_was_not_saved_before_the_interruption(hub, capsys):
    assert main(["3d", "椅子"]) == 0
    lost, kept = map(Path, capsys.readouterr().out.split())
    facts = sidecar(kept)
    Path(f"{lost}.json").unlink()
    lost.unlink()
    assert main(["resume", facts["job"]["id"]]) == 0
    assert capsys.readouterr().out.split() == [str(lost), str(kept)]
    assert lost.is_file()
