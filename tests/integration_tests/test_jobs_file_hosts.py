"""Results from a file host that does everything wrong: saved whole, or not at all."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import shutil
import subprocess
import sys
import threading

import pytest

from langchain_tokenhub import Job, MediaFile, Tokenhub3DTool, TokenHubVideoTool, errors
from langchain_tokenhub.errors import JobRef
from langchain_tokenhub.jobs import media_file

GLB = b"glTF\x02\x00\x00\x00" + (300_012).to_bytes(4, "little") + bytes(range(250)) * 1200
HALF = len(GLB) // 2


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(media_file, "PAUSE", 0.0)


class FileHost:
    """Serves one file, cut once in the middle; tests say how it behaves otherwise."""

    def __init__(self, *, data=GLB, cuts=1, etags=('"1"',), **behaviour):
        self.data, self.cuts, self.etags = data, cuts, list(etags)
        self.behaviour = behaviour
        self.ranges = []

    async def __call__(self, connection, request):
        self.ranges.append(request.headers.get("range"))
        refusal = self.behaviour.get("refusals", [])
        if refusal:
            return await connection.json({}, refusal.pop(0))
        etag = self.etags.pop(0) if len(self.etags) > 1 else self.etags[0]
        start = self._start(request, etag)
        await connection.send(self._head(start, etag))
        body = self.data[start:]
        if self.cuts:
            self.cuts -= 1
            await connection.send(body[:HALF])
            return connection.writer.close()
        await connection.send(body)
        return connection.writer.close()

    def _start(self, request, etag):
        said = request.headers.get("range")
        same = self.behaviour.get("careless") or request.headers.get("if-range") == etag
        known = said and same and not self.behaviour.get("no_ranges")
        return int(said[6:-1]) if known else 0

    def _head(self, start, etag):
        length = len(self.data) - start
        part = f"bytes {start + self.behaviour.get('lie', 0)}-{len(self.data) - 1}/{len(self.data)}"
        lines = ["HTTP/1.1 206 X" if start else "HTTP/1.1 200 X", "Connection: close"]
        lines += [f"ETag: {etag}"] if etag else []
        lines += [] if self.behaviour.get("no_length") else [f"Content-Length: {length}"]
        lines += [f"Content-Range: {part}"] if start else []
        return "\r\n".join([*lines, "", ""]).encode()


def file_of(peer, answer, kind="glb"):
    """Return a file of a job whose API is on loopback."""
    peer.answer = answer
    file = MediaFile(url=f"{peer.url}/f?q-signature=s", type=kind)
    return file._of_job(JobRef(kind="3d", model="m", id="1", host="127.0.0.1:1"), 0)


def saved(peer, call, folder, host, kind="glb"):
    return call(file_of(peer, host, kind), "save", folder)


def test_a_cut_download_goes_on_where_it_was(peer, call, tmp_path):
    host = FileHost()
    assert saved(peer, call, tmp_path, host).path.read_bytes() == GLB
    assert host.ranges[0] is None
    assert host.ranges[1].startswith("bytes=1")


def test_a_download_that_gets_further_is_not_given_up(peer, call, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "HALF", len(GLB) // 20)
    host = FileHost(cuts=15)
    assert saved(peer, call, tmp_path, host).path.read_bytes() == GLB
    assert len(host.ranges) == 16


def test_a_download_that_gets_no_further_is_given_up(peer, call, tmp_path):
    host = FileHost(cuts=99, no_ranges=True)
    with pytest.raises(errors.APIConnectionError):
        saved(peer, call, tmp_path, host)
    assert len(host.ranges) == media_file.MAX_STALLED_TRIES
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["png", "mp4", "glb"])
def test_a_file_that_is_not_what_it_should_be_is_saved_with_a_warning(peer, call, tmp_path, kind):
    host = FileHost(data=b"\x00\x01 nobody knows what", cuts=0)
    with pytest.warns(UserWarning, match=f"declared as {kind} is not recognised as one"):
        assert saved(peer, call, tmp_path, host, kind).path.read_bytes() == host.data


@pytest.mark.parametrize(
    "behaviour",
    [
        {"no_ranges": True},
        {"etags": ['"1"', '"2"']},
        {"etags": ['"1"', '"2"'], "careless": True},
        {"etags": [""]},
        {"lie": 5},
        {"lie": -5},
        {"refusals": []},
    ],
    ids=str,
)
def test_a_file_is_never_put_together_from_parts_that_do_not_fit(peer, call, tmp_path, behaviour):
    host = FileHost(**behaviour)
    assert saved(peer, call, tmp_path, host).path.read_bytes() == GLB


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_trouble_of_the_host_is_waited_out(peer, call, tmp_path, status):
    host = FileHost(cuts=0, refusals=[status, status])
    assert saved(peer, call, tmp_path, host).path.read_bytes() == GLB


def test_a_range_that_the_host_cannot_satisfy_begins_anew(peer, call, tmp_path):
    class Stubborn(FileHost):
        async def __call__(self, connection, request):
            if request.headers.get("range"):
                return await connection.json({}, 416)
            return await super().__call__(connection, request)

    assert saved(peer, call, tmp_path, Stubborn()).path.read_bytes() == GLB


@pytest.mark.parametrize("kind", ["glb", "png", "jpg", "zip"])
def test_a_file_whose_length_nobody_says_is_whole_all_the_same(peer, call, tmp_path, kind):
    data = _whole(kind)
    host = FileHost(data=data, no_length=True, cuts=0)

    class Cut(FileHost):
        async def __call__(self, connection, request):
            self.data = data if self.ranges else data[: len(data) // 2]
            await super().__call__(connection, request)

    assert saved(peer, call, tmp_path, host, kind).path.read_bytes() == data
    cut = Cut(no_length=True, cuts=0, etags=[""])
    assert saved(peer, call, tmp_path, cut, kind).path.read_bytes() == data


def _whole(kind):
    import zipfile

    from PIL import Image

    buffer = io.BytesIO()
    match kind:
        case "glb":
            return GLB
        case "zip":
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("a.obj", "v 0 0 0\n" * 1000)
        case _:
            names = {"png": "PNG", "jpg": "JPEG"}
            Image.effect_noise((200, 200), 50).save(buffer, format=names[kind])
    return buffer.getvalue()


def test_a_file_packed_unasked_is_saved_plain(peer, call, tmp_path):
    async def packed(connection, request):
        data = gzip.compress(GLB)
        head = f"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: {len(data)}\r\n\r\n"
        await connection.send(head.encode() + data)

    assert saved(peer, call, tmp_path, packed).path.read_bytes() == GLB


@pytest.mark.parametrize("length", [True, False])
def test_a_file_that_is_too_large_is_given_up(peer, call, tmp_path, monkeypatch, length):
    monkeypatch.setattr(media_file, "MAX_BYTES", HALF)
    with pytest.raises(errors.InvalidRequestError, match="larger"):
        saved(peer, call, tmp_path, FileHost(cuts=0, no_length=not length))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "page",
    [b'{"error": {"code": "AccessDenied"}}', b"<html>", b"\n<?xml version='1.0'?><Error/>"],
)
def test_words_instead_of_a_file_are_a_dead_link(peer, call, tmp_path, page):
    async def words(connection, request):
        length = len(page)
        await connection.send(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % length + page)

    with pytest.raises(errors.ResultExpiredError):
        saved(peer, call, tmp_path, words, "png")
    assert list(tmp_path.iterdir()) == []


def test_many_saves_at_once_of_one_name_keep_every_file(peer, tmp_path):
    file = file_of(peer, FileHost(cuts=0))
    names = []

    def work(name):
        names.append(file.save(tmp_path / name).path.name)

    threads = [threading.Thread(target=work, args=("chair.glb",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 8
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    assert all((tmp_path / name).read_bytes() == GLB for name in names)


def test_a_redirect_carries_no_key_and_is_checked(peer, peers, call, tmp_path):
    other = peers(FileHost(cuts=0))

    async def elsewhere(connection, request):
        await connection.json({}, 302, Location=f"{other.url}/g")

    assert saved(peer, call, tmp_path, elsewhere).path.read_bytes() == GLB
    (request,) = other.requests
    assert not {"authorization", "cookie", "referer"} & set(request.headers)


async def test_a_cancelled_save_leaves_nothing(peer, tmp_path):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def endless(connection, request):
        await connection.send(b"HTTP/1.1 200 X\r\nContent-Length: 99999999\r\n\r\n" + GLB)
        loop.call_soon_threadsafe(begun.set)
        await connection.until_gone()

    task = asyncio.create_task(file_of(peer, endless).asave(tmp_path))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from langchain_tokenhub import MediaFile
from langchain_tokenhub.errors import JobRef
from langchain_tokenhub.jobs import media_file

media_file._flush = lambda _: os.kill(os.getpid(), 9)
file = MediaFile(url=sys.argv[1], type="glb")
file = file._of_job(JobRef(kind="3d", model="m", id="1", host="127.0.0.1:1"), 0)
file.save(sys.argv[2])
"""


def test_a_killed_save_leaves_no_file_under_the_final_name(peer, tmp_path):
    peer.answer = FileHost(data=GLB + bytes(10**6), cuts=0, no_length=True)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, f"{peer.url}/f", str(tmp_path)], check=False, timeout=60
    )
    assert done.returncode == -9
    assert [path.suffix.partition("-")[0] for path in tmp_path.iterdir()] == [".part"]


# --- previews of 3D models ------------------------------------------------------------------------


def chair(call, folder, **fields):
    return call(Tokenhub3DTool(save_to=folder, **fields), "generate", prompt="椅子")


def test_a_models_preview_is_saved_beside_it_byte_for_byte(hub, call, tmp_path):
    result = chair(call, tmp_path)
    (path,) = {file.preview_path for file in result.files}
    fetched = [r for r in hub.requests if r.path.startswith("/files/")]
    assert path.name == f"{result.files[0].path.stem}.preview.png"
    assert path.read_bytes() == call(
        result.files[0].preview.model_copy(update={"path": None}), "read"
    )
    assert len({request.path for request in fetched}) == len(result.files) + 1
    assert all("authorization" not in request.headers for request in fetched)


def test_a_sidecar_names_the_preview(hub, call, tmp_path):
    for file in chair(call, tmp_path).files:
        facts = json.loads(file.path.with_name(f"{file.path.name}.json").read_text("utf-8"))
        assert facts["preview"] == file.preview_path.name
        assert Job.model_validate(facts["job"]).files[0].preview_path == file.preview_path
    assert not list(tmp_path.glob("*.preview*.json"))


def test_a_preview_that_was_deleted_with_its_model_is_saved_again(hub, call, tmp_path):
    fields = {"ledger": tmp_path / "ledger"}
    chair(call, tmp_path / "out", **fields)
    shutil.rmtree(tmp_path / "out")
    files = chair(call, tmp_path / "out", **fields).files
    assert {file.preview_path for file in files} == {*tmp_path.rglob("*.preview.png")}


def test_a_preview_that_fails_costs_a_warning_and_nothing_else(hub, call, tmp_path, monkeypatch):
    saving = MediaFile._save_as

    async def failing(file, runtime, folder, stem):
        if stem.endswith(".preview"):
            raise ZeroDivisionError
        return await saving(file, runtime, folder, stem)

    monkeypatch.setattr(MediaFile, "_save_as", failing)
    with pytest.warns(UserWarning, match="the preview was not saved: ZeroDivisionError"):
        result = chair(call, tmp_path)
    assert all(file.path and file.preview_path is None for file in result.files)
    assert len(list(tmp_path.glob("*.json"))) == len(result.files)


def test_a_models_preview_is_another_tools_picture_after_its_link_died(hub, call, tmp_path):
    result = chair(call, tmp_path)
    past = {"expires_at": result.job.submitted_at}
    dead = [file.model_copy(update=past) for file in result.files]
    call(
        TokenHubVideoTool(model="yt-video-2.0"),
        "generate",
        image=result.model_copy(update={"files": dead}),
    )
    (sent,) = [r.body["image"] for r in hub.requests if r.path == "/v1/api/video/submit"]
    assert base64.b64decode(sent["base64"]) == result.files[0].preview_path.read_bytes()
