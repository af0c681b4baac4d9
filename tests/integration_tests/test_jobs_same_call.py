"""The same call pays once, although links changed, and only for its own account."""

from __future__ import annotations

import base64
import io
import sys

import pytest
from langchain_core.stores import InMemoryByteStore

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.models import MediaFile, MediaResult
from langchain_tokenhub.tools import (
    Tokenhub3DTool,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubToolkit,
    TokenHubVideoTool,
)

DAY = 86400.0


@pytest.fixture(params=["saved", "not saved"])
def fields(request, tmp_path):
    folder = tmp_path / "out" if request.param == "saved" else None
    return {"ledger": tmp_path / "ledger", "save_to": folder}


def submits(hub):
    return sum(r.path.endswith(("/submit", "/lite")) for r in hub.requests)


FORMS = {
    "result": lambda made: made,
    "file": lambda made: made.files[0],
    "job": lambda made: made.job,
    "id": lambda made: made.job.id,
    "artifact": lambda made: made.model_dump(mode="json"),
    "dumped file": lambda made: made.files[0].model_dump(mode="json"),
    "read again": lambda made: MediaResult.model_validate_json(made.model_dump_json()),
    "file read again": lambda made: MediaFile.model_validate_json(made.files[0].model_dump_json()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_video_of_a_picture_whose_link_died_is_paid_for_once(hub, call, fields, elsewhere, form):
    def make():
        image, video = TokenHubImageTool(**fields), TokenHubVideoTool(**fields)
        picture = call(image, "generate", prompt="猫")
        return picture, call(video, "generate", prompt="跑", image=FORMS[form](picture)).job.id

    picture, job_id = make()
    hub.advance(DAY / 2)
    elsewhere()
    video = TokenHubVideoTool(**fields)
    dead = picture.model_copy(
        update={
            "files": [
                f.model_copy(update={"expires_at": picture.job.submitted_at}) for f in picture.files
            ]
        }
    )
    if form not in {"id", "job"}:
        assert call(video, "generate", prompt="跑", image=FORMS[form](dead)).job.id == job_id
    assert make()[1] == job_id
    assert submits(hub) == 2


def test_a_saved_picture_is_the_same_by_its_path_and_by_its_job(hub, call, tmp_path, elsewhere):
    fields = {"ledger": tmp_path / "ledger", "save_to": tmp_path / "out"}
    picture = call(TokenHubImageTool(**fields), "generate", prompt="猫")
    (file,) = picture.files
    video = TokenHubVideoTool(**fields)
    jobs = {call(video, "generate", prompt="跑", image=picture).job.id}
    elsewhere()
    for image in (file.path, str(file.path)):
        jobs.add(call(video, "generate", prompt="跑", image=image).job.id)
    call(video, "invoke", {"prompt": "跑", "image": file.path.name})
    assert (len(jobs), submits(hub)) == (1, 2)


def test_a_saved_picture_that_was_changed_is_another(hub, call, tmp_path):
    fields = {"ledger": tmp_path / "ledger", "save_to": tmp_path / "out"}
    (file,) = call(TokenHubImageTool(**fields), "generate", prompt="猫").files
    video = TokenHubVideoTool(**fields)
    first = call(video, "generate", prompt="跑", image=file.path).job.id
    (other,) = call(TokenHubImageTool(), "generate", prompt="狗").files
    file.path.write_bytes(other.read())
    assert call(video, "generate", prompt="跑", image=file.path).job.id != first


def test_a_file_is_the_same_by_its_bytes_whatever_holds_them(hub, call, tmp_path):
    data = call(TokenHubImageTool(), "generate", prompt="猫").files[0].read()
    (tmp_path / "a.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    video = TokenHubVideoTool(ledger=tmp_path / "ledger")
    forms = [data, tmp_path / "a.png", f"data:image/png;base64,{text}", text, io.BytesIO(data)]
    jobs = {call(video, "generate", prompt="跑", image=image).job.id for image in forms}
    assert len(jobs) == 1


def test_views_and_lists_of_pictures_are_the_same_too(hub, call, tmp_path, elsewhere):
    ledger = tmp_path / "ledger"
    image = TokenHubImageTool(ledger=ledger)
    one, two = (call(image, "generate", prompt=text) for text in ("猫", "狗"))
    for _ in range(2):
        call(image, "generate", prompt="合影", images=[one, two.job.id])
        call(
            Tokenhub3DTool(ledger=ledger),
            "generate",
            image_url=one,
            multi_view_images=[{"view_type": "left", "view_image_url": two}],
        )
        hub.advance(DAY / 3)
        elsewhere()
        one, two = (call(image, "result", made.job) for made in (one, two))
    assert submits(hub) == 4


def test_a_preview_whose_link_died_is_the_same_picture(hub, call, tmp_path, elsewhere):
    chair = call(Tokenhub3DTool(ledger=tmp_path), "generate", prompt="椅子")
    video = TokenHubVideoTool(ledger=tmp_path)
    job = call(video, "generate", prompt="跑", image=chair).job
    elsewhere()
    dead = [f.model_copy(update={"expires_at": job.submitted_at}) for f in chair.files]
    gone = chair.model_copy(update={"files": dead})
    assert call(video, "generate", prompt="跑", image=gone).job.id == job.id


@pytest.mark.parametrize("moved", [False, True])
def test_a_link_in_a_text_is_the_jobs_file(hub, call, tmp_path, elsewhere, moved):
    ledger = tmp_path / "ledger"
    picture = call(TokenHubImageTool(ledger=ledger), "generate", prompt="猫")
    (file,) = picture.files
    video = TokenHubVideoTool(ledger=ledger)
    call(video, "invoke", {"prompt": "跑", "image": file.url})
    elsewhere()
    again = picture if moved else f"{file.url.partition('?')[0]}?q-sign-time=1;2&q-signature=x"
    call(video, "generate", prompt="跑", image=again)
    assert submits(hub) == 2


def test_a_tool_call_whose_link_was_signed_anew_is_the_same(hub, call, tmp_path):
    tool = TokenHubVideoTool(ledger=tmp_path)
    config = {"configurable": {"thread_id": "t"}}
    for signature in "ab":
        args = {"prompt": "跑", "image": f"https://x.test/a.png?v=1&q-signature={signature}"}
        asked = {"type": "tool_call", "id": "1", "name": tool.name, "args": args}
        assert "completed" in call(tool, "invoke", asked, config).content
    assert submits(hub) == 1


# --- accounts -------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "store"])
def ledger(request, tmp_path):
    return tmp_path / "ledger" if request.param == "folder" else InMemoryByteStore()


def test_two_accounts_with_one_ledger_know_nothing_of_each_other(hub, call, ledger):
    def tool(key):
        return TokenHubImageTool(ledger=ledger, api_key=key)

    mine, theirs = (call(tool(key), "generate", prompt="猫").job.id for key in ("sk-a", "sk-b"))
    assert mine != theirs
    assert call(tool("sk-a"), "generate", prompt="猫").job.id == mine
    listed = call(TokenHubJobTool(ledger=ledger, api_key="sk-b"), "invoke", {"action": "list"})
    assert theirs in listed
    assert mine not in listed


# --- again ----------------------------------------------------------------------------------------


def test_an_again_that_is_refused_leaves_the_job_before(hub, call, ledger):
    tool = TokenHubImageTool(ledger=ledger)
    job = call(tool, "generate", prompt="猫").job
    for code in ("InvalidParameter.InvalidParameter", "FailedOperation.ModerationFailed"):
        hub.fail("refuse", code=code)
        with pytest.raises(errors.TokenHubError):
            call(tool, "generate", prompt="猫", again=True)
    assert call(tool, "generate", prompt="猫").job.id == job.id


def test_an_again_whose_answer_is_lost_leaves_the_job_before(hub, call, ledger):
    tool = TokenHubImageTool(ledger=ledger)
    job = call(tool, "generate", prompt="猫").job
    hub.fail("lost-answer")
    with pytest.raises(errors.SubmissionUnknownError):
        call(tool, "generate", prompt="猫", again=True)
    assert call(tool, "generate", prompt="猫").job.id == job.id


def test_an_again_that_is_accepted_is_resumed_from_then_on(hub, call, ledger):
    tool = TokenHubImageTool(ledger=ledger)
    call(tool, "generate", prompt="猫")
    newer = call(tool, "submit", prompt="猫", again=True)
    assert call(tool, "generate", prompt="猫").job.id == newer.id


# --- folders --------------------------------------------------------------------------------------


def test_folders_stay_where_they_were_when_the_tool_was_made(hub, call, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    fields = {"save_to": "out", "ledger": "ledger"}
    toolkit = TokenHubToolkit(**fields, options={"video": {"save_to": "films"}})
    tools = [TokenHubImageTool(**fields), toolkit.get_tools()[0]]
    first = call(tools[0], "generate", prompt="猫")
    monkeypatch.chdir(tmp_path / "b")
    assert call(tools[0], "generate", prompt="猫").job.id == first.job.id
    assert call(toolkit.get_tools()[0], "generate", prompt="猫").job.id == first.job.id
    assert toolkit.get_tools()[1].save_to == tmp_path / "a" / "films"
    assert call(tools[1], "generate", prompt="狗").files[0].path.parent == tmp_path / "a" / "out"
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("verb", ["generate", "submit", "invoke"])
def test_a_folder_that_cannot_be_written_is_reported_before_money_is_spent(
    hub, call, tmp_path, verb
):
    (tmp_path / "file").write_text("")
    read_only = ["/proc/tokenhub"] if sys.platform == "linux" else []  # even for root
    for folder in (tmp_path / "file", tmp_path / "file" / "out", "a\0b", *read_only):
        tool = TokenHubImageTool(save_to=folder, ledger=tmp_path / "ledger")
        asked = [{"prompt": "猫"}] if verb == "invoke" else []
        params = {} if verb == "invoke" else {"prompt": "猫"}
        with pytest.raises(errors.InvalidRequestError, match="save_to: no file can be written"):
            call(tool, verb, *asked, **params)
    assert hub.requests == []


# --- jobs that are gone ---------------------------------------------------------------------------

GONE = {"status": "failed", "error": {"code": "FailedOperation.JobNotExist", "message": "?"}}


@pytest.mark.parametrize(
    "told",
    [
        GONE,
        GONE | {"status": "expired"},
        GONE | {"error": {"code": "ResourceNotFound.JobNotExist", "message": "?"}},
        GONE | {"error": "JobNotExist"},
    ],
)
def test_a_job_that_is_not_known_any_more_stays_in_the_ledger_and_is_not_paid_for_again(
    peers, call, tmp_path, monkeypatch, told
):
    async def answer(connection, request):
        is_submit = request.path.endswith("submit")
        await connection.json({"id": "job-1", "status": "queued"} if is_submit else told)

    service = peers(answer)
    tool = TokenHubVideoTool(ledger=tmp_path, base_url=service.url, api_key="sk-a")
    call(tool, "submit", prompt="猫")
    monkeypatch.setattr("langchain_tokenhub.jobs.service.NEW_JOB_SECONDS", 0.0)
    for _ in range(2):
        with pytest.raises(errors.JobNotFoundError) as caught:
            call(tool, "generate", prompt="猫")
        assert caught.value.job.id == "job-1"
        assert "again=True" in caught.value.hint
    assert service.paths().count("/v1/api/video/submit") == 1


def test_a_job_that_failed_when_it_was_submitted_is_reported_with_its_id(peers, call, tmp_path):
    failed = {"id": "job-1", "status": "failed", "error": {"code": "X.Y", "message": "no"}}

    async def answer(connection, request):
        await connection.json(failed)

    service = peers(answer)
    tool = TokenHubVideoTool(ledger=tmp_path, base_url=service.url, api_key="sk-a")
    for verb in ("submit", "generate"):
        with pytest.raises(errors.JobFailedError, match="no") as caught:
            call(tool, verb, prompt="猫")
        assert caught.value.job.id == "job-1"
