"""The nine models over real HTTP: files that open, errors with their jobs, nothing paid twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.tools import Tokenhub3DTool, TokenHubImageTool, TokenHubVideoTool

URL = "https://example.com/a.png"
CASES = {
    "hy-image-v3.0": (TokenHubImageTool, {"prompt": "雪地里的猫"}),
    "hy-image-lite": (TokenHubImageTool, {"prompt": "雪地里的猫"}),
    "hy-video-1.5": (TokenHubVideoTool, {"prompt": "雪地里的猫"}),
    "yt-video-2.0": (TokenHubVideoTool, {"image": URL}),
    "yt-video-fx": (TokenHubVideoTool, {"template": "befigure", "images": [URL]}),
    "yt-video-humanactor": (
        TokenHubVideoTool,
        {"prompt": "说话", "audio_url": "https://example.com/a.mp3", "image_url": URL},
    ),
    "hy-3d-3.0": (Tokenhub3DTool, {"prompt": "椅子"}),
    "hy-3d-3.1": (Tokenhub3DTool, {"prompt": "椅子"}),
    "hy-3d-express": (Tokenhub3DTool, {"prompt": "椅子", "result_format": "GLB"}),
}


def submits(hub):
    return [r for r in hub.requests if r.path.endswith(("/submit", "/lite"))]


def opens(file):
    match file.path.suffix:
        case ".png":
            from PIL import Image

            with Image.open(file.path) as picture:
                return min(picture.size) >= 64
        case ".mp4":
            import av

            with av.open(str(file.path)) as video:
                return next(video.decode(video=0)).width > 0
        case ".glb" | ".obj":
            import trimesh

            return len(trimesh.load_scene(file.path).geometry) > 0
        case ".zip":
            import trimesh

            (mesh,) = file.unpacked.rglob("*.obj")
            return len(trimesh.load_scene(mesh).geometry) > 0
    return False


@pytest.mark.parametrize("model", CASES)
def test_every_model_generates_files_that_open(hub, call, tmp_path, model):
    tool, params = CASES[model]
    result = call(tool(model=model, save_to=tmp_path), "generate", **params)
    assert result.job.status == "completed"
    assert result.files
    assert all(opens(file) for file in result.files)
    assert len(submits(hub)) == 1


def test_the_saved_bytes_are_the_services(hub, call, tmp_path):
    result = call(TokenHubImageTool(save_to=tmp_path), "generate", prompt="猫")
    bare = result.files[0].model_copy(update={"path": None})
    assert call(bare, "read") == result.files[0].path.read_bytes()


def test_the_file_host_never_sees_the_key(hub, tmp_path):
    TokenHubImageTool(save_to=tmp_path).generate(prompt="猫")
    fetched = [r for r in hub.requests if r.path.startswith("/files/")]
    assert fetched
    assert all("authorization" not in r.headers for r in fetched)


def test_a_revised_prompt_comes_without_its_markup(hub):
    result = TokenHubImageTool().generate(prompt="猫")
    assert "<" not in result.revised_prompt
    assert "<think>" in result.raw_revised_prompt


def test_base64_answers_are_kept_as_bytes(hub, call, tmp_path):
    tool = TokenHubImageTool(model="hy-image-lite", save_to=tmp_path)
    result = call(tool, "generate", prompt="猫", rsp_img_type="base64")
    assert result.files[0].url is None
    assert opens(result.files[0])


def test_lite_answers_at_once_and_asks_no_more(hub, call):
    tool = TokenHubImageTool(model="hy-image-lite")
    job = call(tool, "submit", prompt="猫")
    assert job.status == "completed"
    assert call(tool, "query", job) == job
    assert call(tool, "result", job).files == job.files
    assert len(hub.requests) == 1


def test_one_results_file_is_anothers_input(hub, call, tmp_path):
    picture = TokenHubImageTool(save_to=tmp_path).generate(prompt="猫")
    for value in [picture, picture.files[0], picture.files[0].path, picture.job.id]:
        assert call(TokenHubVideoTool(), "generate", prompt="跑", image=value).files


def test_a_job_is_submitted_here_and_collected_there(hub, call):
    job = call(TokenHubVideoTool(), "submit", prompt="猫")
    save_results = Job.model_validate_json(job.model_dump_json())
    assert "sk-test-canary" not in job.model_dump_json()
    assert call(TokenHubVideoTool(), "result", save_results).files
    assert len(submits(hub)) == 1


@pytest.mark.parametrize("how", ["result", "generate", "invoke"])
def test_a_job_id_resumes_and_submits_nothing(hub, call, how):
    job = TokenHubVideoTool().submit(prompt="猫")
    tool = TokenHubVideoTool()
    match how:
        case "result":
            call(tool, "result", job.id)
        case "generate":
            call(tool, "generate", job_id=job.id)
        case "invoke":
            assert job.id in call(tool, "invoke", {"job_id": job.id})
    assert len(submits(hub)) == 1


@pytest.mark.parametrize("known_by", ["process", "ledger", "ledger of many"])
def test_what_a_job_was_asked_for_names_its_files_later(hub, call, tmp_path, known_by, elsewhere):
    ledger = tmp_path / "ledger"
    submitting = TokenHubImageTool(ledger=ledger if "ledger" in known_by else None)
    job = call(submitting, "submit", prompt="雪地里的猫", resolution="512:512")
    if "ledger" in known_by:
        elsewhere()
    tool = TokenHubImageTool(save_to=tmp_path, ledger=ledger)
    results = call(tool, "results", [job]) if "many" in known_by else [call(tool, "result", job)]
    path = results[0].files[0].path
    assert path.name.startswith("雪地里的猫")
    facts = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
    known = {"prompt": "雪地里的猫", "resolution": "512:512"}
    assert facts["parameters"] == (known if known_by == "process" else {})


def test_a_job_of_two_files_is_collected_whole_from_its_sidecars(hub, call, tmp_path, elsewhere):
    tool = Tokenhub3DTool(save_to=tmp_path)
    made = tool.generate(prompt="椅子")
    assert len(made.files) == 2
    elsewhere()
    asked = len(hub.requests)
    again = call(tool, "result", made.job.id)
    assert [file.path for file in again.files] == [file.path for file in made.files]
    assert len(hub.requests) == asked


def test_a_file_that_is_missing_is_fetched_again_and_the_others_are_not(
    hub, call, tmp_path, elsewhere
):
    tool = Tokenhub3DTool(save_to=tmp_path)
    lost, save_results = tool.generate(prompt="椅子").files
    lost.path.unlink()
    lost.path.with_name(f"{lost.path.name}.json").unlink()
    elsewhere()
    again = call(tool, "result", next(iter(hub.jobs)))
    assert [file.path for file in again.files] == [lost.path, save_results.path]
    assert lost.path.is_file()


def test_saved_files_are_returned_although_the_others_are_missing(hub, call, tmp_path, elsewhere):
    tool = Tokenhub3DTool(save_to=tmp_path)
    lost, save_results = tool.generate(prompt="椅子").files
    lost.path.unlink()
    lost.path.with_name(f"{lost.path.name}.json").unlink()
    elsewhere()
    job_id = next(iter(hub.jobs))
    hub.advance(25 * 3600)  # the service forgets
    with pytest.warns(UserWarning, match="1 of the job's files are missing"):
        again = call(tool, "result", job_id)
    assert [file.path for file in again.files] == [save_results.path]


def test_watching_yields_changes_and_ends(hub, call):
    job = TokenHubVideoTool().submit(prompt="猫")
    states = call(TokenHubVideoTool(), "watch", job)
    assert states[0] == job
    assert states[-1].status == "completed"
    assert len({(s.status, s.progress) for s in states}) == len(states)


def test_results_come_as_they_end_with_errors_among_them(hub, call):
    tool = TokenHubVideoTool()
    hub.fail("job")
    jobs = [tool.submit(prompt=f"猫{i}") for i in range(5)]
    found = call(tool, "results", jobs)
    failed = [one for one in found if isinstance(one, errors.JobFailedError)]
    assert [error.job.id for error in failed] == [jobs[0].id]
    assert {one.job.id for one in found} == {job.id for job in jobs}
    assert sum(isinstance(one, MediaResult) for one in found) == 4


@pytest.mark.parametrize("verb", ["generate", "submit"])
def test_a_full_account_is_waited_out(hub, call, verb):
    hub.fail("refuse", code="RequestLimitExceeded.JobNumExceed", times=2)
    assert call(TokenHubImageTool(max_retries=0), verb, prompt="猫")
    assert len(hub.jobs) == 1
    assert len(submits(hub)) == 3


def test_submits_alone_are_held_back_by_the_service_and_not_by_the_gate(hub, call):
    """A place belongs to a call that waits; a job that nobody waits for here holds none."""
    hub.speed = 20
    tool = TokenHubImageTool(max_in_flight=1)
    for number in range(2):
        call(tool, "submit", prompt=f"猫{number}")
    assert len(hub.jobs) == 2
    assert len(submits(hub)) > 2


def test_an_account_that_stays_full_is_reported_in_time_and_nothing_is_charged(hub, call):
    hub.fail("refuse", code="RequestLimitExceeded.JobNumExceed", times=99)
    for verb in ("generate", "submit"):
        with pytest.raises(errors.RateLimitError) as caught:
            call(TokenHubImageTool(wait_timeout=0.2), verb, prompt="猫")
        assert caught.value.job is None
    assert not hub.jobs


def test_a_failed_save_loses_nothing(hub, call, tmp_path):
    hub.fail("status", status=500, path="/files", times=9)
    with pytest.warns(UserWarning, match="not saved"):
        result = call(TokenHubImageTool(save_to=tmp_path), "generate", prompt="猫")
    assert result.files[0].path is None
    assert result.files[0].url


def test_a_folder_that_cannot_be_loses_no_job_that_was_submitted(hub, call, tmp_path):
    job = TokenHubImageTool().submit(prompt="猫")
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="not saved"):
        result = call(TokenHubImageTool(save_to=tmp_path / "file"), "result", job)
    assert result.files[0].url


def test_dead_links_are_asked_for_again(hub, call):
    tool = TokenHubImageTool()
    result = tool.generate(prompt="猫")
    dead = [f.model_copy(update={"expires_at": result.job.submitted_at}) for f in result.files]
    old = result.job.model_copy(update={"files": dead})
    assert call(tool, "result", old).files[0].expired() is False


@pytest.mark.parametrize("place", ["folder", "store"])
def test_a_ledger_pays_once_for_the_same_request(hub, call, tmp_path, place):
    from langchain_core.stores import InMemoryByteStore

    ledger = tmp_path / "ledger" if place == "folder" else InMemoryByteStore()
    first = TokenHubVideoTool(ledger=ledger).generate(prompt="猫")
    second = call(TokenHubVideoTool(ledger=ledger), "generate", prompt="猫")
    assert second.job.id == first.job.id
    assert len(submits(hub)) == 1
    assert call(TokenHubVideoTool(ledger=ledger), "generate", prompt="猫", again=True).job.id
    assert len(submits(hub)) == 2


def test_a_ledger_forgets_what_failed_and_what_was_refused(hub, call, tmp_path):
    tool = TokenHubVideoTool(ledger=tmp_path)
    for trouble in ("job", "refuse"):
        hub.fail(trouble)
        with pytest.raises(errors.TokenHubError):
            call(tool, "generate", prompt="猫")
    assert call(tool, "generate", prompt="猫").files


def test_a_job_that_completed_without_a_file_is_asked_for_again_and_not_paid_again(
    peers, call, tmp_path, monkeypatch
):
    async def empty(connection, request):
        status = "queued" if request.path.endswith("submit") else "completed"
        await connection.json({"id": "job-1", "status": status, "data": []})

    service = peers(empty)
    monkeypatch.setenv("TOKENHUB_BASE_URL", service.url)
    monkeypatch.setenv("TOKENHUB_API_KEY", "sk-test-canary")
    tool = TokenHubVideoTool(ledger=tmp_path)
    for _ in range(2):
        with pytest.raises(errors.JobFailedError, match="without a file"):
            call(tool, "generate", prompt="猫")
    assert service.paths() == ["/v1/api/video/submit", *["/v1/api/video/query"] * 2]


def test_a_ledger_remembers_a_lost_answer(hub, call, tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_tokenhub.jobs.ledger.OTHER_WORKER", 0.0)
    tool = TokenHubVideoTool(ledger=tmp_path)
    hub.fail("lost-answer")
    for _ in range(2):
        with pytest.raises(errors.SubmissionUnknownError) as caught:
            call(tool, "generate", prompt="猫")
        assert (tmp_path / f"{caught.value.ledger_key}.json").exists()
    assert len(submits(hub)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_processes_that_start_the_same_call_at_once_pay_once(hub, tmp_path):
    command = [sys.executable, Path(__file__).with_name("same_call_child.py"), tmp_path, "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(hub.jobs) * 3
    assert len(submits(hub)) == 1
