"""What results look like in a notebook: small files inside, large ones linked, no network."""

from __future__ import annotations

import html
import re
import sys

import pytest

from langchain_tokenhub.jobs import render
from langchain_tokenhub.jobs.models import Job, MediaFile, MediaResult

LINK = "https://files.test/a?q-signature=s&x=1"


def saved(folder, name, data=b"x", **facts):
    path = folder / name
    path.write_bytes(data)
    return MediaFile(type=path.suffix.lstrip("."), path=path, **facts)


def page_of(file):
    return file._repr_html_()


@pytest.fixture
def cube():
    trimesh = pytest.importorskip("trimesh")
    return trimesh.creation.box().export(file_type="glb")


def test_a_small_picture_is_in_the_page(tmp_path):
    assert '<img src="data:image/png;base64,eA=="' in page_of(saved(tmp_path, "a.png"))


def test_a_small_video_is_in_a_player(tmp_path):
    text = page_of(saved(tmp_path, "a.mp4"))
    assert '<video src="data:video/mp4;base64,eA==" controls' in text


def test_bytes_that_came_inside_the_answer_are_shown():
    assert "base64,eA==" in page_of(MediaFile._from_bytes(b"x", type="png"))


@pytest.mark.parametrize(("more", "inside"), [(0, True), (1, False)])
def test_only_small_files_are_in_the_page(tmp_path, more, inside):
    file = saved(tmp_path, "a.png", bytes(render.MAX_INLINE + more))
    assert ("data:" in page_of(file)) is inside


def test_a_large_file_below_the_notebook_is_linked_by_its_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, "猫 #1.png", bytes(render.MAX_INLINE + 1), url=LINK)
    assert '<img src="%E7%8C%AB%20%231.png"' in page_of(file)


def test_a_large_file_elsewhere_is_shown_by_its_link(tmp_path):
    file = saved(tmp_path, "a.png", bytes(render.MAX_INLINE + 1), url=LINK)
    assert f'<img src="{html.escape(LINK)}"' in page_of(file)


def test_a_large_file_elsewhere_without_a_link_is_named(tmp_path):
    file = saved(tmp_path, "a.png", bytes(render.MAX_INLINE + 1))
    assert str(file.path) in page_of(file)
    assert "<img" not in page_of(file)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/hostname", "data:text/html,x"])
def test_only_links_of_the_web_are_links(url):
    text = page_of(MediaFile(type="glb", url=url, preview_url=url))
    assert "href" not in text
    assert "src" not in text


def test_a_dead_link_is_no_link():
    file = MediaFile(type="png", url=LINK, expires_at="2020-01-01T00:00:00Z")
    assert "files.test" not in page_of(file)


def test_a_picture_that_browsers_do_not_show_is_a_link(tmp_path):
    text = page_of(saved(tmp_path, "a.tiff"))
    assert '<a href="data:image/tiff' in text
    assert 'download="a.tiff"' in text


def test_names_and_links_are_escaped(tmp_path):
    assert "<b>" not in page_of(saved(tmp_path, "<b>&.png"))
    assert "<b>" not in page_of(MediaFile(url='https://x.test/a.mp4?"><b>', type="mp4"))


def test_a_model_has_a_viewer_inside_that_needs_no_network(tmp_path, cube):
    text = page_of(saved(tmp_path, "a.glb", cube))
    inner = html.unescape(re.fullmatch(r'<iframe srcdoc="([^"]*)"[^>]*></iframe>', text).group(1))
    assert "GLTFLoader" in inner
    assert not re.findall(r'(?:src|href)\s*=\s*"(?:https?:)?//', inner)


def test_without_trimesh_a_model_is_its_preview_and_a_link(tmp_path, monkeypatch, cube):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    text = page_of(saved(tmp_path, "a.glb", cube, preview_url=LINK))
    assert text.startswith(f'<img src="{html.escape(LINK)}"')
    assert 'download="a.glb"' in text


def test_a_saved_preview_is_shown_after_its_link_died(tmp_path):
    preview = saved(tmp_path, "a.preview.png").path
    dead = {"preview_url": LINK, "expires_at": "2020-01-01T00:00:00Z"}
    text = page_of(saved(tmp_path, "a.zip", preview_path=preview, **dead))
    assert '<img src="data:image/png;base64,eA=="' in text
    assert "files.test" not in text


def test_a_broken_model_is_a_link(tmp_path):
    assert "<a href" in page_of(saved(tmp_path, "a.glb", b"glTF and nonsense"))


def test_a_large_model_is_a_link(tmp_path, monkeypatch, cube):
    monkeypatch.setattr(render, "MAX_MESH", len(cube) - 1)
    assert "<iframe" not in page_of(saved(tmp_path, "a.glb", cube))


def test_a_file_that_is_missing_is_named(tmp_path):
    file = saved(tmp_path, "a.png")
    file.path.unlink()
    assert page_of(file) == f"<div>{file.path}</div>"


def test_a_result_shows_every_file_and_its_job(tmp_path):
    files = [saved(tmp_path, "a.png"), saved(tmp_path, "b.mp4")]
    job = Job(kind="image", model="hy-image-v3.0", id="<100001>", status="completed", files=files)
    bundle = MediaResult(job=job, files=files)._repr_mimebundle_(include=None, exclude=None)
    assert all(part in bundle["text/html"] for part in ("<img", "<video", "&lt;100001&gt;"))
    assert "job <100001>" in bundle["text/plain"]
