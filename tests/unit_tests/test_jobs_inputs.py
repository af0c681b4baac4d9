"""File inputs: whatever names a file, in the shape that its parameter wants."""

from __future__ import annotations

import base64
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import ToolMessage
from PIL import Image
from pydantic import ValidationError

from langchain_tokenhub import errors
from langchain_tokenhub.jobs.history import JobHistory, RecentJobs
from langchain_tokenhub.jobs.inputs import Reader
from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult
from langchain_tokenhub.params import params_class
from langchain_tokenhub.transport import run_sync
from tests.conftest import ScriptedRuntime

URL = "https://x.test/cat.png?q-signature=s"


def png(width=400, height=400):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, format="PNG")
    return buffer.getvalue()


DATA = png()
TEXT = base64.b64encode(DATA).decode()
FILE = MediaFile(url=URL, type="png", expires_at=datetime.now(UTC) + timedelta(hours=1))
JOB = Job(kind="image", model="hy-image-v3.0", id="143000", status="completed", files=[FILE])


def body(model, *, folders=None, jobs=(), **params):
    history = JobHistory(runtime=ScriptedRuntime(), recent=RecentJobs(), ledger=None, folders=())
    for job in jobs:
        history.recent.keep(job)

    async def refresh(job):
        raise errors.JobNotFoundError("gone")

    reader = Reader(history=history, refresh=refresh, folders=folders)
    return run_sync(reader.read(params_class(model)(**params)))[0]


def image(value, **kwargs):
    return body("hy-video-1.5", prompt="雪", image=value, **kwargs)["image"]


def test_each_model_gets_its_own_shape_of_a_link():
    assert image(URL) == {"url": URL}
    assert body("yt-video-fx", template="befigure", images=[URL])["images"] == [{"url": URL}]
    assert body("hy-image-v3.0", prompt="雪", images=[URL])["images"] == [URL]
    assert body("hy-3d-3.0", image_url=URL) == {"image_url": URL}


def test_each_model_gets_its_own_shape_of_bytes():
    assert image(DATA) == {"base64": TEXT}
    assert body("yt-video-fx", template="befigure", images=[DATA])["images"] == [{"base64": TEXT}]
    assert body("hy-image-v3.0", prompt="雪", images=[DATA])["images"] == [TEXT]
    assert body("hy-3d-3.0", image_url=DATA) == {"image_base64": TEXT}


def test_a_view_is_a_file_too():
    views = [{"view_type": "left", "view_image_url": DATA}]
    sent = body("hy-3d-3.0", image_url=URL, multi_view_images=views)
    assert sent["multi_view_images"] == [{"view_type": "left", "view_image_base64": TEXT}]


@pytest.mark.parametrize(
    "value",
    [
        DATA,
        bytearray(DATA),
        f"data:image/png;base64,{TEXT}",
        TEXT,
        io.BytesIO(DATA),
        {"base64": TEXT},
        {"type": "image", "base64": TEXT, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": TEXT},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}},
        MediaFile._from_bytes(DATA, type="png"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bytes_come_in_many_wrappings(value):
    assert image(value) == {"base64": TEXT}


@pytest.mark.parametrize(
    "value",
    [
        URL,
        {"url": URL},
        {"type": "image", "url": URL},
        {"type": "image_url", "image_url": {"url": URL}},
        FILE,
        JOB,
        MediaResult(job=JOB, files=[FILE]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_so_do_links(value):
    assert image(value) == {"url": URL}


@pytest.mark.parametrize(
    "value",
    [
        MediaResult(job=JOB, files=[FILE]).model_dump(mode="json"),
        FILE.model_dump(mode="json"),
        JOB.model_dump(mode="json"),
        ToolMessage(
            "made",
            tool_call_id="1",
            artifact=MediaResult(job=JOB, files=[FILE]).model_dump(mode="json"),
        ),
    ],
    ids=["artifact", "file", "job", "message"],
)
def test_what_a_tool_left_in_a_graph_is_an_earlier_result(value):
    assert image(value) == {"url": URL}


def test_a_model_may_not_name_files_in_json(tmp_path):
    (tmp_path / "a.png").write_bytes(DATA)
    file = MediaFile(type="png", path=tmp_path / "a.png").model_dump(mode="json")
    for value in (file, {"files": [file]}, ToolMessage("", tool_call_id="1", artifact=file)):
        with pytest.raises(errors.InvalidRequestError):
            image(value, folders=())


def test_a_path_is_read(tmp_path):
    path = tmp_path / "猫.png"
    path.write_bytes(DATA)
    for value in (path, str(path), Path2(path)):
        assert image(value) == {"base64": TEXT}


def test_a_picture_becomes_a_png():
    sent = image(Image.new("CMYK", (100, 100)))
    assert base64.b64decode(sent["base64"]).startswith(b"\x89PNG")


def test_a_job_id_stands_for_its_file():
    assert image("143000", jobs=[JOB]) == {"url": URL}


def test_a_3d_job_gives_its_preview():
    file = MediaFile(url="https://x.test/a.glb", type="glb", preview_url="https://x.test/p.png")
    job = Job(kind="3d", model="hy-3d-3.0", id="990000", status="completed", files=[file])
    assert image("990000", jobs=[job]) == {"url": "https://x.test/p.png"}


def test_a_file_of_the_wrong_kind_is_refused():
    file = MediaFile(url="https://x.test/a.mp4", type="mp4")
    job = Job(kind="video", model="hy-video-1.5", id="550000", status="completed", files=[file])
    for value in ("550000", job, file):
        with pytest.raises(errors.InvalidRequestError, match="has mp4"):
            image(value, jobs=[job])


def test_a_dead_link_is_replaced_by_the_saved_file(tmp_path):
    (tmp_path / "a.png").write_bytes(DATA)
    past = datetime.now(UTC) - timedelta(hours=1)
    assert image(MediaFile(url=URL, type="png", expires_at=past, path=tmp_path / "a.png")) == {
        "base64": TEXT
    }


class Path2(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


class Upload:
    async def read(self):
        return DATA


def closed():
    stream = io.BytesIO(DATA)
    stream.close()
    return stream


@pytest.mark.parametrize("host", ["", "localhost", "LOCALHOST"])
def test_a_file_uri_is_a_path(tmp_path, host):
    path = tmp_path / "猫 #1%.png"
    path.write_bytes(DATA)
    uri = path.as_uri().replace("file://", f"file://{host}")
    assert image(uri) == {"base64": TEXT}
    assert image(uri.replace("file:", "FILE:"), folders=(tmp_path,)) == {"base64": TEXT}
    assert image({"type": "image", "url": uri}) == {"base64": TEXT}
    with pytest.raises(errors.InvalidRequestError, match="no such file"):
        image(uri, folders=(tmp_path / "other",))


@pytest.mark.parametrize("form", ["file://host.test{}", "file://user@localhost{}", "file://{}?x=1"])
def test_a_file_uri_of_another_host_is_refused(tmp_path, form):
    (tmp_path / "a.png").write_bytes(DATA)
    with pytest.raises(errors.InvalidRequestError, match="no such file"):
        image(form.format(tmp_path / "a.png"))


@pytest.mark.parametrize("shape", [(400, 400, 3), (400, 400), (0,), ()])
def test_an_array_is_refused_with_what_to_do(shape):
    array = np.zeros(shape, "uint8")
    for value in (array, {"url": array}, [array]):
        with pytest.raises((errors.InvalidRequestError, ValidationError)) as caught:
            body("hy-image-v3.0", prompt="雪", images=value)
    assert "PIL.Image.fromarray" in str(caught.value)
    with pytest.raises(errors.InvalidRequestError, match=r"PIL\.Image\.fromarray"):
        image(array)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "empty"),
        (io.BytesIO(b""), "the file is empty"),
        (Path("/dev/zero"), "not a regular file"),
        (io.StringIO("text"), "reading returns str, bytes are needed"),
        (Upload(), "reading returns coroutine, bytes are needed"),
        (closed(), "cannot be read"),
        (Path("/"), "Is a directory"),
        (Path("nowhere.png"), "No such file"),
        (Path("~nobody-of-that-name/a.png"), "No such file"),
        ("/nowhere/" + "long/" * 20 + "a.png", "nowhere.*no such file"),
        ("/", "no such file"),
        ("file:///etc/hostname", "no known type"),
        ("a%20b.png", "no such file"),
        ("data:image/svg+xml,%3Csvg%3E", "no such file"),
        ("https://x.test/a b.png", "no such file"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "the file is heic"),
        (b"GIF89a" + bytes(40), "the file is gif"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no known type"),
    ],
    ids=lambda value: ascii(value).partition(" object at ")[0],
)
def test_what_is_no_picture_is_refused_with_the_reason(value, words):
    with pytest.raises((errors.InvalidRequestError, ValidationError), match=words):
        image(value)


def test_a_link_may_be_written_oddly():
    assert image("HTTP://X.TEST/A.PNG") == {"url": "http://X.TEST/A.PNG"}
    assert image("  https://x.test/a.png\n") == {"url": "https://x.test/a.png"}


def test_a_file_beyond_the_limit_of_links_is_refused_where_no_other_is_known():
    heavy = b"\x89PNG\r\n\x1a\n" + bytes(9 * 1024**2)
    with pytest.raises(errors.InvalidRequestError, match=r"9\.0 MB, at most 8 MB"):
        body("yt-video-2.0", image=heavy)


@pytest.mark.parametrize(("side", "fits"), [(128, False), (129, True)])
def test_a_views_side_is_more_than_128_pixels(side, fits):
    views = [{"view_type": "left", "view_image_url": png(side, side)}]
    if fits:
        assert body("hy-3d-3.0", image_url=URL, multi_view_images=views)
        return
    with pytest.raises(errors.InvalidRequestError, match="129 to 4999"):
        body("hy-3d-3.0", image_url=URL, multi_view_images=views)


def test_a_human_actors_whole_request_has_a_limit():
    fields = {"prompt": "说" * 5000, "audio_url": "https://x.test/a.mp3"}
    most = 10 * 1024**2 // 4 * 3
    with pytest.raises(errors.InvalidRequestError, match=r"10\.0 MB.*at most 10 MB"):
        body("yt-video-humanactor", image_url=padded(most - 3000), **fields)
    assert body("yt-video-humanactor", image_url=padded(most - 15_000), **fields)


def padded(size):
    """Return a picture of `size` bytes."""
    return DATA + bytes(size - len(DATA))


BASE64_FIELDS = [
    ("hy-3d-3.0", {}),
    ("hy-3d-express", {}),
    ("yt-video-humanactor", {"prompt": "说", "audio_url": "https://x.test/a.mp3"}),
]


@pytest.mark.parametrize(("model", "fields"), BASE64_FIELDS)
@pytest.mark.parametrize("padding", ["", "="])
def test_base64_that_is_given_as_such_is_sent_as_it_is(model, fields, padding):
    text = TEXT.rstrip("=") + padding * (-len(TEXT.rstrip("=")) % 4)
    assert body(model, image_base64=text, **fields)["image_base64"] == text


@pytest.mark.parametrize(("model", "fields"), BASE64_FIELDS)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello world", "no known type"),
        (b"GIF89a" + bytes(40), "the file is gif"),
        (png(40, 40), "40x40 pixels"),
    ],
    ids=["text", "gif", "small"],
)
def test_base64_that_is_given_as_such_is_looked_into(model, fields, data, words):
    with pytest.raises(errors.InvalidRequestError, match=words) as caught:
        body(model, image_base64=base64.b64encode(data).decode(), **fields)
    assert str(caught.value).startswith("image_base64: ")


def test_a_view_in_base64_is_looked_into_too():
    views = [{"view_type": "left", "view_image_base64": "aGVsbG8="}]
    with pytest.raises(
        errors.InvalidRequestError, match=r"multi_view_images\[0\]\.view_image_base64"
    ):
        body("hy-3d-3.1", image_url=URL, multi_view_images=views)


def test_a_model_may_not_read_what_was_not_allowed(tmp_path):
    outside = tmp_path / "outside.png"
    outside.write_bytes(DATA)
    allowed = tmp_path / "in"
    allowed.mkdir()
    (allowed / "link.png").symlink_to(outside)
    for path in [outside, allowed / ".." / "outside.png", allowed / "link.png", "../outside.png"]:
        with pytest.raises(errors.InvalidRequestError, match="allowed folder"):
            image(str(path), folders=(allowed,))


def test_a_model_may_read_what_was_allowed_and_pass_no_base64(tmp_path):
    (tmp_path / "in.png").write_bytes(DATA)
    for path in (str(tmp_path / "in.png"), "in.png"):
        assert image(path, folders=(tmp_path,)) == {"base64": TEXT}
    with pytest.raises(errors.InvalidRequestError):
        image(TEXT, folders=())


def test_audio_is_taken_as_a_link_alone():
    wav = b"RIFF\x00\x00\x00\x00WAVEfmt " + b"\x00" * 64
    with pytest.raises(errors.InvalidRequestError, match="public link"):
        body("yt-video-humanactor", prompt="说", audio_url=wav, image_url=URL)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"%PDF-1.7", "no known type"),
        (b"glTF" + b"\x00" * 60, "the file is glb"),
        (png(20, 20), "20x20 pixels"),
        (png(1000, 100), "4 times"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 7 * 1024**2, "MB"),
        ("nowhere.png", "is accepted"),
        ({"type": "text"}, "is accepted"),
        (object(), "is accepted"),
    ],
    ids=["pdf", "glb", "small", "long", "heavy", "no file", "no image", "object"],
)
def test_what_the_service_would_refuse_is_refused_before(value, words):
    with pytest.raises(errors.InvalidRequestError, match=words) as caught:
        image(value)
    assert str(caught.value).startswith("image: ")


def test_a_refusal_shows_no_signature():
    with pytest.raises(errors.InvalidRequestError) as caught:
        image("ftp://x.test/a?q-signature=secret")
    assert "secret" not in str(caught.value)
