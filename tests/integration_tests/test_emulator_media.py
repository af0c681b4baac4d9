from __future__ import annotations

import base64
import io
import os
import subprocess
import sys

import av
import httpx
import pytest
import trimesh
from PIL import Image, ImageChops, ImageStat

from langchain_tokenhub.testing import Emulator
from langchain_tokenhub.testing.plugin import tokenhub_emulator  # noqa: F401  # the fixture itself

VIDEO = {"model": "hy-video-1.5", "prompt": "小河流水"}
IMAGE = {"model": "hy-image-v3.0", "prompt": "在图片中增加一个橘猫"}
MODEL = {"model": "hy-3d-3.0", "prompt": "一只小狗"}
HEAD = {"authorization": "Bearer any"}


@pytest.fixture
def hub():
    """A hub whose jobs move only when its clock is moved."""
    with Emulator(speed=0) as standing:
        yield standing


def submit(client, kind, body, **more):
    return client.post(f"/v1/api/{kind}/submit", json=body | more).json()


def query(client, kind, body, job):
    asked = {"model": body["model"], "id": job}
    return client.post(f"/v1/api/{kind}/query", json=asked).json()


def finished(hub, client, kind, body):
    job = submit(client, kind, body)["id"]
    hub.advance(60)
    return query(client, kind, body, job)


def link_of(answer):
    data = answer["data"]
    return (data if isinstance(data, dict) else data[0])["url"]


def get(url, **headers):
    return httpx.get(url, headers=headers, trust_env=False)


def test_a_submit_answers_in_the_guides_words(client):
    answer = submit(client, "video", VIDEO)
    assert answer.keys() == {"id", "request_id", "object", "created_at", "status"}
    assert (answer["object"], answer["status"], len(answer["id"])) == ("video", "queued", 19)


def test_image_ids_are_dashed(client):
    assert submit(client, "image", IMAGE)["id"].count("-") > 4


def test_a_video_passes_through_its_states_with_progress(hub, client):
    job = submit(client, "video", VIDEO)["id"]
    seen = []
    for seconds in (0, 10, 20):
        hub.advance(seconds)
        answer = query(client, "video", VIDEO, job)
        seen.append((answer["status"], answer["progress"] > 0, "id" in answer))
    assert seen == [
        ("queued", False, False),
        ("in_progress", True, False),
        ("completed", True, False),
    ]


def test_the_time_of_a_query_answer_moves(hub, client):
    job = submit(client, "image", IMAGE)["id"]
    times = []
    for _ in range(2):
        hub.advance(5)
        times.append(query(client, "image", IMAGE, job)["created_at"])
    assert times[1] - times[0] >= 5


def test_an_image_is_a_picture_with_a_raw_revised_prompt(hub, client):
    (entry,) = finished(hub, client, "image", IMAGE | {"resolution": "1280:720"})["data"]
    assert Image.open(io.BytesIO(get(entry["url"]).content)).size == (1280, 720)
    assert entry["revised_prompt"].startswith("<think>")
    assert entry["revised_prompt"].endswith("<img_size_1024><img_ratio_34>")


def test_a_video_is_one_object_and_plays(hub, client):
    answer = finished(hub, client, "video", VIDEO)
    assert (answer["progress"], answer["data"].keys()) == (100, {"url"})
    with av.open(io.BytesIO(get(link_of(answer)).content)) as film:
        assert sum(1 for _ in film.decode(video=0)) > 24


def test_a_video_of_a_link_or_of_base64_shows_that_picture(hub, client):
    link = link_of(finished(hub, client, "image", IMAGE))
    drawn = Image.open(io.BytesIO(get(link).content)).convert("RGB").resize((778, 778))
    sent = base64.b64encode(get(link).content).decode()
    for image in ({"url": link}, {"base64": sent}, {"base64": "aGFsbG8=", "url": link}):
        raw = get(link_of(finished(hub, client, "video", VIDEO | {"image": image}))).content
        with av.open(io.BytesIO(raw)) as film:
            first = next(film.decode(video=0)).to_image()
        difference = ImageChops.difference(
            drawn.crop((0, 0, 720, 600)), first.crop((0, 0, 720, 600))
        )
        assert first.size == (720, 720)
        assert max(ImageStat.Stat(difference).mean) < 10


def test_a_picture_and_a_3d_model_of_a_picture_show_it(hub, client):
    link = link_of(finished(hub, client, "image", IMAGE))
    express = {"model": "hy-3d-express", "result_format": "GLB"}
    for kind, plain, made in [
        ("image", IMAGE | {"prompt": "雨"}, IMAGE | {"prompt": "雨", "images": [link]}),
        ("3d", express | {"prompt": "雨"}, express | {"image_url": link}),
    ]:
        files = [get(link_of(finished(hub, client, kind, body))).content for body in (plain, made)]
        assert files[0] != files[1]


def test_a_3d_job_delivers_obj_and_glb_with_previews(hub, client):
    entries = finished(hub, client, "3d", MODEL)["data"]
    assert [entry["type"] for entry in entries] == ["obj", "glb"]
    obj, glb = (get(entry["url"]).content for entry in entries)
    assert obj[:2] == b"PK"
    assert trimesh.load(io.BytesIO(glb), file_type="glb").geometry
    assert get(entries[0]["preview_image_url"]).headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("body", "types"),
    [
        (MODEL | {"generate_type": "Geometry"}, ["glb"]),
        (MODEL | {"result_format": "STL"}, ["obj", "glb", "stl"]),
        ({"model": "hy-3d-express", "prompt": "塔"}, ["obj"]),
        ({"model": "hy-3d-express", "prompt": "塔", "enable_geometry": True}, ["glb"]),
        ({"model": "hy-3d-express", "prompt": "塔", "result_format": "MP4"}, ["mp4"]),
    ],
)
def test_the_formats_of_a_3d_job_follow_its_fields(hub, client, body, types):
    entries = finished(hub, client, "3d", body)["data"]
    assert [entry["type"] for entry in entries] == types
    assert all(get(entry["url"]).status_code == 200 for entry in entries)


def test_lite_answers_at_once_with_base64_unless_told_otherwise(client):
    body = {"model": "hy-image-lite", "prompt": "雨中, 竹林, 小路"}
    bodies = (body, body | {"rsp_img_type": "url"})
    answers = [client.post("/v1/api/image/lite", json=one).json() for one in bodies]
    (plain,), (linked,) = (answer["data"] for answer in answers)
    assert base64.b64decode(plain["b64_json"])[:4] == b"\x89PNG"
    assert linked.keys() == {"url"}


def test_an_unknown_job_another_model_and_another_key_are_not_found(client):
    job = submit(client, "video", VIDEO)["id"]
    answers = [
        query(client, "video", VIDEO, "1"),
        query(client, "video", {"model": "yt-video-2.0"}, job),
        query(client, "image", VIDEO, job),
    ]
    client.headers["authorization"] = "Bearer other"
    answers.append(query(client, "video", VIDEO, job))
    assert {answer["error"]["code"] for answer in answers} == {"FailedOperation.JobNotFound"}


def test_a_job_is_unknown_after_a_day(hub, client):
    job = submit(client, "video", VIDEO)["id"]
    hub.advance(86_401)
    assert "error" in query(client, "video", VIDEO, job)


def test_one_job_too_many_is_refused_until_one_is_done(hub, client):
    def status():
        answer = submit(client, "image", IMAGE)
        return answer.get("error", {}).get("code", answer["status"])

    seen = [status(), status()]
    hub.advance(60)
    assert [*seen, status()] == ["queued", "RequestLimitExceeded.JobNumExceed", "queued"]


def test_limits_are_per_key_and_model(client):
    assert submit(client, "image", IMAGE)["id"]
    assert submit(client, "video", VIDEO)["id"]
    client.headers["authorization"] = "Bearer other"
    assert submit(client, "image", IMAGE)["id"]


def test_limits_can_be_lifted(hub, client):
    hub.quotas = False
    assert all(submit(client, "image", IMAGE)["id"] for _ in range(5))


def test_jobs_and_their_cost_can_be_looked_at(hub, client):
    job = submit(client, "3d", MODEL)["id"]
    (seen,) = hub.jobs.values()
    assert (seen.id, seen.model, seen.status) == (job, "hy-3d-3.0", "queued")
    assert (seen.body["prompt"], hub.cost) == ("一只小狗", 20)


@pytest.mark.parametrize(
    ("kind", "body", "life"), [("image", IMAGE, 3600), ("video", VIDEO, 86_400)]
)
def test_a_link_dies(hub, client, kind, body, life):
    link = link_of(finished(hub, client, kind, body))
    assert get(link).status_code == 200
    hub.advance(life + 1)
    answer = get(link)
    assert (answer.status_code, "<Error>" in answer.text) == (403, True)


def test_a_new_query_gives_a_new_link(hub, client):
    job = submit(client, "image", IMAGE)["id"]
    hub.advance(60)
    old = link_of(query(client, "image", IMAGE, job))
    hub.advance(4000)
    assert get(old).status_code == 403
    assert get(link_of(query(client, "image", IMAGE, job))).status_code == 200


def test_a_link_refuses_a_key_a_changed_signature_and_a_lost_query(hub, client):
    link = link_of(finished(hub, client, "video", VIDEO))
    answers = get(link, **HEAD), get(link + "0"), get(link.partition("?")[0])
    assert [answer.status_code for answer in answers] == [400, 403, 403]


def test_a_dead_link_of_the_hub_is_no_input(hub, client):
    link = link_of(finished(hub, client, "image", IMAGE))
    assert submit(client, "video", VIDEO | {"image": {"url": link}})["id"]
    hub.advance(4000)
    answer = submit(client, "video", VIDEO | {"image": {"url": link}})
    assert answer["error"]["code"] == "FailedOperation.ImageDownloadError"


def test_a_download_can_be_continued(hub, client):
    link = link_of(finished(hub, client, "video", VIDEO))
    whole = get(link)
    rest = get(link, **{"range": "bytes=1000-", "if-range": whole.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, whole.content[1000:])
    changed = get(link, **{"range": "bytes=1000-", "if-range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    assert get(link, range="bytes=99999999-").status_code == 416


def test_the_fixture_points_the_environment_to_a_running_hub(tokenhub_emulator, monkeypatch):  # noqa: F811  # pytest's way
    assert os.environ["TOKENHUB_BASE_URL"] == tokenhub_emulator.url
    assert os.environ["TOKENHUB_API_KEY"]


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "PIL", "av"])
def test_what_is_missing_is_named_with_the_extra_that_brings_it(module):
    hide = f"import sys; sys.modules[{module!r}] = None"
    code = f"{hide}; from langchain_tokenhub.testing import Emulator"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'needs {module}: pip install "langchain-tokenhub[emulator]"' in done.stderr


def test_the_pytest_plugin_loads_nothing_heavy():
    code = "import sys, langchain_tokenhub.testing.plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"starlette", "uvicorn", "PIL", "httpx", "langchain_core"} & set(done.stdout.split())
