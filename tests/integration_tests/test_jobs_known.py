"""What is known of earlier jobs: process, ledger and sidecars tell one story between them."""

from __future__ import annotations

import asyncio
import warnings
from urllib.parse import urlsplit

import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.errors import JobRef
from langchain_tokenhub.jobs.history import shared_recent_jobs
from langchain_tokenhub.jobs.ledger_backends import FolderBackend
from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubVideoTool,
)

BASE64 = {"prompt": "猫", "rsp_img_type": "base64"}


@pytest.fixture
def tool(hub, tmp_path):
    return TokenHubImageTool(save_to=tmp_path / "out", ledger=tmp_path / "ledger")


def pictures(tool):
    return [path.name for path in tool.save_to.glob("*.png")]


def collected(tool, call):
    job = call(tool, "submit", prompt="猫")
    return call(tool, "result", job)


@pytest.mark.parametrize("named", ["job", "id", "id elsewhere"])
def test_a_job_that_is_collected_again_is_not_saved_again(tool, call, elsewhere, named):
    job = call(tool, "submit", prompt="猫")
    first = call(tool, "result", job)
    if "elsewhere" in named:
        elsewhere()
    again = call(tool, "result", job if named == "job" else job.id)
    assert again.files[0].path == first.files[0].path
    assert len(pictures(tool)) == 1


def test_a_call_whose_job_was_collected_finds_its_files(tool, call, elsewhere, hub):
    first = collected(tool, call)
    elsewhere()
    asked = len(hub.requests)
    assert call(tool, "generate", prompt="猫").files == first.files
    assert len(hub.requests) == asked


def test_a_job_that_was_collected_elsewhere_is_anothers_input(tool, call, elsewhere, hub):
    first = collected(tool, call)
    elsewhere()
    video = TokenHubVideoTool(model="yt-video-2.0", save_to=tool.save_to, ledger=tool.ledger)
    assert "saved:" in call(video, "invoke", {"image": first.job.id})


def test_a_submit_whose_job_failed_when_collected_is_made_anew(tool, call, hub):
    hub.fail("job")
    failed = call(tool, "submit", prompt="猫")
    with pytest.raises(errors.JobFailedError):
        call(tool, "result", failed)
    assert call(tool, "submit", prompt="猫").id != failed.id


def test_collecting_an_older_job_of_a_call_leaves_the_newer_in_the_ledger(tool, call, elsewhere):
    older = call(tool, "submit", prompt="猫")
    newer = call(tool, "submit", prompt="猫", again=True)
    call(tool, "result", older)
    elsewhere()
    assert call(tool, "submit", prompt="猫").id == newer.id


def test_a_path_that_leads_nowhere_is_not_told(tool, call):
    call(tool, "generate", prompt="猫").files[0].path.unlink()
    again = call(TokenHubImageTool(ledger=tool.ledger), "generate", prompt="猫")
    assert again.files[0].path is None
    assert "saved" not in str(again)


def test_a_folder_that_was_moved_keeps_its_previews(hub, call, tmp_path, elsewhere):
    made = Tokenhub3DTool(save_to=tmp_path / "old").generate(prompt="椅子")
    moved = (tmp_path / "old").rename(tmp_path / "new")
    elsewhere()
    files = call(Tokenhub3DTool(save_to=moved), "result", made.job.id).files
    assert {file.preview_path.parent for file in files} == {moved}


def test_bytes_that_are_saved_are_neither_warned_of_nor_kept_in_memory(hub, call, tmp_path):
    model = "hy-image-lite"
    tool = TokenHubImageTool(model=model, save_to=tmp_path / "out", ledger=tmp_path / "ledger")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = call(tool, "generate", **BASE64)
    assert told == []
    (save_results,) = shared_recent_jobs(*tool._owner()).find(made.job.id).files
    assert save_results._data is None
    assert save_results.read() == made.files[0].read()


def test_bytes_that_are_not_saved_do_not_fill_the_memory(hub, call, monkeypatch):
    monkeypatch.setattr("langchain_tokenhub.jobs.history.MAX_HELD_BYTES", 1)
    tool = TokenHubImageTool(model="hy-image-lite")
    first, second = (call(tool, "generate", **BASE64).job for _ in range(2))
    assert shared_recent_jobs(*tool._owner()).find(first.id) is None
    assert shared_recent_jobs(*tool._owner()).find(second.id).files[0]._data


@pytest.mark.parametrize("verb", ["query", "watch"])
def test_a_job_that_was_looked_at_is_listed_as_it_was_seen(hub, call, verb):
    job = TokenHubVideoTool().submit(prompt="猫")
    hub.advance(100)
    call(TokenHubVideoTool(), verb, job.id)
    assert "completed" in call(TokenHubJobTool(), "invoke", {"action": "list"}).splitlines()[0]


def test_looking_at_an_old_state_of_a_saved_job_does_not_forget_its_files(tool, call):
    job = call(tool, "submit", prompt="猫")
    path = call(tool, "result", job).files[0].path
    call(tool, "query", job)
    assert call(tool, "result", job.id).files[0].path == path


def test_the_ledger_is_read_once_for_many_jobs_that_it_does_not_know(tool, call, monkeypatch):
    reads = []
    texts = FolderBackend.texts
    monkeypatch.setattr(FolderBackend, "texts", lambda self: reads.append(1) or texts(self))
    jobs = [Job(kind="image", model="hy-image-v3.0", id=f"nobody-knows-{n}") for n in range(5)]
    found = call(tool, "results", [job.id for job in jobs])
    assert all(isinstance(outcome, errors.JobNotFoundError) for outcome in found)
    assert len(reads) == 1


def test_the_job_tool_takes_a_model_in_any_spelling_and_names_one_it_cannot_place(
    hub, call, elsewhere
):
    job = TokenHubVideoTool().submit(prompt="猫")
    elsewhere()
    assert job.id in call(TokenHubJobTool(), "invoke", {"job_id": job.id, "model": " HY-Video-1.5"})
    with pytest.raises(errors.InvalidRequestError, match="'ep-abc' is not listed"):
        call(TokenHubJobTool(), "invoke", {"job_id": "nobody-knows", "model": "ep-abc"})


async def test_a_model_whose_preview_was_cut_off_is_not_saved_again(hub, tmp_path, elsewhere):
    tool = Tokenhub3DTool(save_to=tmp_path)
    *_, job = [state async for state in tool.awatch(await tool.asubmit(prompt="椅子"))]
    path = urlsplit(job.files[0].preview_url).path
    hub.fail("hang", path=path)
    collecting = asyncio.ensure_future(tool.aresult(job))
    while not any(request.path == path for request in hub.requests):  # noqa: ASYNC110 - a thread
        await asyncio.sleep(0.01)
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    elsewhere()
    files = (await tool.aresult(job.id)).files
    assert {file.path for file in files} == {*tmp_path.glob("*.zip"), *tmp_path.glob("*.glb")}


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_call_that_was_cut_between_two_files_saves_none_again(
    hub, tmp_path, elsewhere, same_process
):
    out = tmp_path / "out"
    tool = Tokenhub3DTool(save_to=out, ledger=tmp_path / "ledger")
    *_, job = [state async for state in tool.awatch(await tool.asubmit(prompt="椅子"))]
    path = urlsplit(job.files[1].url).path
    hub.fail("hang", path=path)
    making = asyncio.ensure_future(tool.agenerate(prompt="椅子"))
    while not any(request.path == path for request in hub.requests):  # noqa: ASYNC110 - a thread
        await asyncio.sleep(0.01)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    if not same_process:
        elsewhere()
    files = (await tool.agenerate(prompt="椅子")).files
    assert {file.path for file in files} == {*out.glob("*.zip"), *out.glob("*.glb")}
    assert {file.preview_path for file in files} == {*out.glob("*.png")}


def test_a_reference_to_a_job_is_taken_wherever_a_job_is(hub, call):
    tool = TokenHubImageTool()
    job = call(tool, "generate", prompt="猫").job
    ref = JobRef(kind=job.kind, model=job.model, id=job.id)
    assert call(tool, "query", ref).id == call(tool, "result", ref).job.id == job.id
    for jobs in (ref, [ref]):
        assert [made.job.id for made in call(tool, "results", jobs)] == [job.id]
    video = TokenHubVideoTool(model="yt-video-2.0")
    for picture in (ref, Job(**ref.model_dump())):
        assert call(video, "generate", prompt="走", image=picture).files


def test_neither_key_nor_prompt_is_in_a_ledger(hub, call, tmp_path):
    for tool in (TokenHubImageTool, TokenHubVideoTool, Tokenhub3DTool):
        call(tool(ledger=tmp_path, api_key="sk-canary"), "generate", prompt="秘密 的 canary")
    texts = [file.read_text("utf-8") for file in tmp_path.rglob("*") if file.is_file()]
    assert len(texts) > 3
    assert not any(word in text for text in texts for word in ("秘密 的", "sk-canary"))
