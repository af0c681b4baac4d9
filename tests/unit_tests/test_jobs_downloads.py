"""Saved whole or not at all, under a name that every system takes, over nothing."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import pickle
import struct
import zipfile

import httpx
import pytest

from langchain_tokenhub import errors
from langchain_tokenhub.errors import JobRef
from langchain_tokenhub.jobs.files import file_type_of, image_size, stem_of, unpack
from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult
from langchain_tokenhub.transport import run_sync
from tests.conftest import ScriptedRuntime

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (7).to_bytes(4) + (9).to_bytes(4) + b"IEND"
GLB = b"glTF\x02\x00\x00\x00" + b"x" * 200


def linked(**fields):
    """Return a file of a job whose API is on loopback."""
    file = MediaFile(**{"url": "http://127.0.0.1:1/f?q=1", "type": "png", **fields})
    return file._of_job(JobRef(kind="image", model="m", id="1", host="127.0.0.1:1"), 0)


def save(w, folder, stem="cat", **fields):
    return run_sync(linked(**fields)._save_as(w, folder, stem))


def body(data, status=200, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"content-length": str(len(data)), **names}
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(data))


def runtime(*script):
    return ScriptedRuntime(*script)


class Cut(httpx.AsyncByteStream):
    def __init__(self, data):
        self.data = data

    async def __aiter__(self):
        yield self.data
        raise httpx.ReadError("cut")


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("一只橘猫，在雪地里奔跑", "一只橘猫_在雪地里奔跑"),
        ("a/b\\c:d*e?f", "a_b_c_d_e_f"),
        ("../../etc/passwd", "etc_passwd"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("COM¹.png", "_COM¹.png"),
        ("aux .", "_aux"),
        ("a\u202egnp.exe\u200b", "a_gnp.exe"),
        ("e\u0301tude", "étude"),
        ("  .hidden. ", "hidden"),
        ("\x00\x1f", "tokenhub"),
        ("🐱", "tokenhub"),
    ],
)
def test_a_name_is_safe_everywhere(text, stem):
    assert stem_of(text) == stem


@pytest.mark.parametrize("text", ["猫" * 500, "🐈猫" * 300, "a" * 9000])
def test_a_name_is_cut_by_bytes_and_ends_with_the_jobs_id(text):
    stem = stem_of(text, "1429890795996585984")
    assert len(stem.encode()) <= 100
    assert stem.endswith("-795996585984")


@pytest.fixture(params=["links", "no links"])
def disk(request, monkeypatch):
    """A disk with hard links, and one without."""

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr("os.link", refuse)


@pytest.mark.usefixtures("disk")
def test_nothing_is_overwritten(tmp_path):
    paths = [save(runtime(body(PNG)), tmp_path).path for _ in range(3)]
    assert [path.name for path in paths] == ["cat.png", "cat-2.png", "cat-3.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.read_bytes() == PNG for path in paths)


def md5_of(data):
    """Return the checksum of `data` as a file host sends it."""
    return {"content_md5": base64.b64encode(hashlib.md5(data).digest()).decode()}


def in_two(data, whole=PNG):
    """Return the answers of a host that is cut, and goes on with `data`."""
    names = {name.replace("_", "-"): value for name, value in md5_of(whole).items()}
    first = httpx.Response(200, headers={"etag": '"v1"', **names}, stream=Cut(whole[:10]))
    return first, body(data, 206, etag='"v1"', content_range="bytes 10-31/32", **md5_of(data))


@pytest.mark.parametrize("script", [[body(PNG, **md5_of(PNG))], in_two(PNG[10:])])
def test_a_file_that_has_its_hosts_checksums_is_fetched_once(tmp_path, script):
    w = runtime(*script)
    assert save(w, tmp_path).path.read_bytes() == PNG
    assert w.script == []


@pytest.mark.parametrize("script", [[body(PNG, **md5_of(b"other"))], in_two(PNG[11:] + b"!")])
def test_a_file_that_has_not_is_fetched_once_more(tmp_path, script):
    w = runtime(*script, body(PNG, **md5_of(PNG)))
    assert save(w, tmp_path).path.read_bytes() == PNG
    assert w.script == []


def test_a_file_that_has_not_twice_is_kept_with_a_warning(tmp_path):
    w = runtime(*[body(PNG, **md5_of(b"other")) for _ in range(2)])
    with pytest.warns(UserWarning, match="MD5"):
        saved = save(w, tmp_path)
    assert saved.path.read_bytes() == PNG


def test_a_file_is_named_by_what_it_is(tmp_path):
    saved = save(runtime(body(b"\xff\xd8\xff\xe0" + b"x" * 99)), tmp_path)
    assert saved.path.name == "cat.jpg"


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_an_obj_that_is_a_zip_is_kept_and_unpacked_beside(tmp_path):
    data = zipped({"model.obj": "v 0 0 0", "tex/skin.png": "x"})
    saved = save(runtime(body(data)), tmp_path, "chair", type="obj")
    assert saved.path.name == "chair.zip"
    assert saved.path.read_bytes() == data
    assert (saved.unpacked / "model.obj").read_text() == "v 0 0 0"
    assert (saved.unpacked / "tex" / "skin.png").exists()


OUTSIDE = ["../evil", "a/../../evil", "/etc/evil", "C:evil", "..\\evil"]
NOT_PORTABLE = ["con.obj", "a./b.obj", "b.obj ", "a\u202ejbo", "a\x1b[2J.obj"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "leads outside") for name in OUTSIDE),
        *((name, "is not a portable file name") for name in NOT_PORTABLE),
    ],
)
def test_an_archive_writes_neither_outside_its_folder_nor_names_that_a_system_refuses(
    tmp_path, name, reason
):
    archive = tmp_path / "in" / "a.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({name: "x"}))
    with pytest.raises(errors.InvalidRequestError, match=reason):
        unpack(archive)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


def odd_archive():
    """Return a ZIP with one good member among odd ones."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        for name in ("", "/", "folder/", "./", "/etc/evil", "../evil", "con.obj", "x" * 300):
            opened.writestr(zipfile.ZipInfo(name or "/"), b"" if name.endswith("/") else b"x")
        opened.writestr("model.obj", "v 0 0 0")
        opened.writestr("model.obj", "v 1 1 1")
        opened.filelist[0].filename = ""
    return buffer.getvalue()


def test_odd_members_cost_a_warning_and_the_rest_is_unpacked(tmp_path):
    data = odd_archive()
    with pytest.warns(UserWarning, match="unpacked in part"):
        saved = save(runtime(body(data)), tmp_path, "chair", type="obj")
    assert saved.path.read_bytes() == data
    assert [path.name for path in saved.unpacked.rglob("*")] == ["model.obj"]
    assert (saved.unpacked / "model.obj").read_text() == "v 0 0 0"


def test_an_archive_that_states_smaller_sizes_than_it_has_is_given_up(tmp_path):
    bomb = bytearray(zipped({"bomb": "0" * 5000}))
    for at in (22, bomb.index(b"PK\x01\x02") + 24):
        struct.pack_into("<I", bomb, at, 100)
    (tmp_path / "a.zip").write_bytes(bomb)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        unpack(tmp_path / "a.zip")
    assert not (tmp_path / "a").exists()


def test_a_link_that_is_not_public_is_refused():
    with pytest.raises(errors.InvalidRequestError):
        run_sync(MediaFile(url="http://127.0.0.1:1/f", type="png")._read(runtime(body(PNG))))


def test_bytes_from_the_answer_need_no_request(call):
    assert call(MediaFile._from_bytes(PNG, type="png"), "read") == PNG


@pytest.mark.parametrize(
    ("to", "path"),
    [
        ("mine.png", "mine.png"),
        ("v1.2", "v1.2/tokenhub.png"),
        ("2026.11.22", "2026.11.22/tokenhub.png"),
        ("猫.d", "猫.d/tokenhub.png"),
    ],
)
def test_a_file_name_or_a_folder_may_be_given(tmp_path, call, to, path):
    saved = call(MediaFile._from_bytes(PNG, type="png"), "save", tmp_path / to)
    assert saved.path == tmp_path / path
    assert saved.path.read_bytes() == PNG


def test_a_saved_file_is_read_and_copied_from_disk(tmp_path, call):
    (tmp_path / "a.png").write_bytes(PNG)
    file = MediaFile(type="png", path=tmp_path / "a.png", url="https://dead.invalid/a.png")
    assert call(file, "read") == PNG
    assert call(file, "save", tmp_path / "copies").path.read_bytes() == PNG


@pytest.mark.parametrize("again", [copy.deepcopy, lambda file: pickle.loads(pickle.dumps(file))])
def test_a_file_can_be_read_after_copying_and_pickling(again):
    assert again(MediaFile._from_bytes(PNG, type="png")).read() == PNG


def test_bytes_lost_by_json_are_lost_with_a_warning():
    with pytest.warns(UserWarning, match="not dumped"):
        dumped = MediaFile._from_bytes(PNG, type="png").model_dump(mode="json")
    assert "PNG" not in str(dumped)


def test_a_repr_cuts_a_links_query():
    file = MediaFile(url="https://x.test/a.png?q-signature=secret", type="png")
    assert "secret" not in repr(file)
    assert "https://x.test/a.png" in repr(file)


def test_a_result_leads_with_its_job_id():
    file = MediaFile(url="https://x.test/a.mp4?s=1", type="mp4")
    job = Job(kind="video", model="hy-video-1.5", id="143", status="completed", files=[file])
    result = MediaResult(job=job, files=[file], seconds=90)
    assert str(result) == (
        "job 143 (hy-video-1.5) completed in 90 s: mp4 url: https://x.test/a.mp4?s=1"
    )


def test_a_result_names_the_saved_file_in_place_of_its_link():
    link = {"url": "https://x.test/a.mp4?s=1", "expires_at": "2030-01-01T00:00:00Z"}
    file = MediaFile(type="mp4", path="out/a.mp4", **link)
    job = Job(kind="video", model="hy-video-1.5", id="143", status="completed", files=[file])
    assert str(MediaResult(job=job, files=[file])).endswith("completed: mp4 saved: out/a.mp4")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (PNG, "png"),
        (GLB, "glb"),
        (b"\xff\xd8\xff\xe0", "jpg"),
        (b"RIFF1234WEBPVP8 ", "webp"),
        (b"RIFF1234WAVEfmt ", "wav"),
        (b"\x00\x00\x00\x20ftypisom", "mp4"),
        (b"PK\x03\x04", "zip"),
        (b"v 0.1 0.2 0.3", None),
        (b"", None),
    ],
)
def test_a_type_is_known_by_its_first_bytes(head, name):
    assert file_type_of(head) == name


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_sides_are_read_from_the_header(kind):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (37, 21)).save(buffer, format=kind)
    assert image_size(buffer.getvalue()) == (37, 21)
