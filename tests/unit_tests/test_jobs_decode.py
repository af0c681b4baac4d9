"""Answers become jobs, however they are spelt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.jobs.models import Job, decode_query, decode_submit, revised_text
from langchain_tokenhub.transport import Answer

NOW = datetime(2026, 4, 3, 9, tzinfo=UTC)
IMAGE = media_model("hy-image-v3.0")
LITE = media_model("hy-image-lite")
VIDEO = media_model("hy-video-1.5")
MESH = media_model("hy-3d-3.0")


def answer(data):
    ids = {"request_id": "r-1", "client_request_id": "c-1"}
    return Answer(data=data, status=200, host="a.test", attempts=1, **ids)


def seen(data, facts=VIDEO):
    job = Job(kind=facts.kind, model=facts.id, id="7")
    return decode_query(job, answer(data), facts, now=NOW)


def submitted(data, facts=VIDEO):
    return decode_submit(answer(data), facts, facts.id, submitted_at=NOW, now=NOW)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("queued", "queued WAIT pending submitted"),
        ("in_progress", "in_progress RUN processing"),
        ("completed", "completed DONE succeeded success finished"),
        ("failed", "failed banned expired"),
        ("cancelled", "canceled"),
    ],
)
def test_a_state_is_known_by_any_of_its_words(status, words):
    for word in words.split():
        assert seen({"status": word, "data": {"url": "https://x.test/a"}}).status == status


@pytest.mark.parametrize(
    "data",
    [
        {"data": {"url": "https://x.test/a.mp4"}},
        {"data": [{"url": "https://x.test/a.mp4"}]},
        {"data": ["https://x.test/a.mp4"]},
        {"data": "https://x.test/a.mp4"},
        {"output": {"model_url": "https://x.test/a.mp4"}},
        {"result": {"video_url": "https://x.test/a.mp4"}},
    ],
    ids=["object", "list", "list of strings", "string", "output", "result"],
)
def test_a_file_is_found_wherever_it_stands(data):
    job = seen({"status": "completed", **data})
    assert [(file.url, file.type) for file in job.files] == [("https://x.test/a.mp4", "mp4")]


def test_a_3d_job_has_typed_files_with_previews():
    entries = [
        {"type": "OBJ", "url": "https://x.test/1", "preview_image_url": "https://x.test/p"},
        {"type": "glb", "url": "https://x.test/2"},
    ]
    job = seen({"status": "completed", "data": entries}, MESH)
    assert [file.type for file in job.files] == ["obj", "glb"]
    assert job.files[0].preview_url == "https://x.test/p"


def test_an_id_stays_text_though_it_comes_as_a_number():
    assert submitted({"id": 1429890795996585984}).id == "1429890795996585984"


def test_an_id_with_half_a_character_is_the_id_of_a_paid_job():
    assert submitted({"id": "14\ud83d"}).id == "14\ufffd"


@pytest.mark.parametrize("data", [{}, {"id": None}, {"id": ""}, {"id": "000"}, [], "x", None])
def test_an_answer_without_an_id_is_no_job(data):
    assert submitted(data) is None


def test_an_answer_with_its_files_is_a_completed_job_named_by_its_request():
    job = submitted({"created": 1, "data": [{"url": "https://x.test/a.png"}]}, LITE)
    assert (job.id, job.status) == ("r-1", "completed")


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR4nGNgAAIAAAUAAXpeqz8AAAAASUVORK5CYII="


@pytest.mark.parametrize(
    "data",
    [
        [{"b64_json": PNG}],
        [{"base64": PNG}],
        [{"image": f"data:image/png;base64,{PNG}"}],
        [PNG],
        {"image_base64": PNG},
    ],
)
def test_bytes_inside_an_answer_are_kept_and_known_by_their_first(data):
    file = submitted({"data": data}, LITE).files[0]
    assert file.url is None
    assert file.type == "png"
    assert file._data.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("https://x.test/a?q-sign-time=1775206800%3B1775207000", 1775207000),
        ("https://x.test/a?Expires=1775207100", 1775207100),
        ("https://x.test/a?X-Amz-Date=20260403T090000Z&X-Amz-Expires=60", 1775206860),
    ],
)
def test_a_links_end_is_read_from_its_signature(url, seconds):
    job = seen({"status": "completed", "data": {"url": url}})
    assert job.files[0].expires_at.timestamp() == seconds


@pytest.mark.parametrize(("facts", "hours"), [(IMAGE, 1), (VIDEO, 24), (MESH, 24)])
def test_a_link_without_a_date_lives_as_long_as_its_kind(facts, hours):
    job = seen({"status": "completed", "data": {"url": "https://x.test/a"}}, facts)
    assert job.files[0].expires_at == NOW + timedelta(hours=hours)


@pytest.mark.parametrize(
    "data",
    [
        {"error": {"code": "C", "message": "为何"}},
        {"error_code": "C", "error_message": "为何"},
        {"ErrorCode": "C", "ErrorMessage": "为何"},
        {"Response": {"Error": {"Code": "C", "Message": "为何"}}},
    ],
)
def test_a_failure_is_read_in_any_spelling(data):
    assert seen({"status": "failed", **data}).error == {"code": "C", "message": "为何"}


def test_a_failure_without_a_code_keeps_its_words():
    assert seen({"status": "failed", "message": "没有原因"}).error["message"] == "没有原因"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<think>想</think><recaption>一只猫</recaption><answer><boi><img_size_1024>", "一只猫"),
        ("<think>想</think>一只猫<answer><boi>", "一只猫"),
        ("一只猫</recaption><answer><boi><img_ratio_34>", "一只猫"),
        ("一只猫 <3 鱼", "一只猫 <3 鱼"),
        ("<think>想</think>", None),
        ("<think>想</think><answer>一只猫<boi><img_size_1024>", "一只猫"),
        ("", None),
        (None, None),
    ],
)
def test_a_revised_prompt_loses_thoughts_and_marks(raw, text):
    assert revised_text(raw) == text


@pytest.mark.parametrize(
    "data",
    [
        {"status": "completed", "data": {"url": "https://x.test/a?sign=1"}},
        {"status": "completed", "data": {"url": "https://[x/a", "revised_prompt": "半个\ud83d"}},
        {"status": "failed\ud83d", "error": {"code": "c\ud83d", "message": "半个\ud83d"}},
    ],
)
def test_a_job_survives_json_whatever_is_in_its_answer(data):
    job = seen(data)
    assert Job.model_validate_json(job.model_dump_json()) == job
