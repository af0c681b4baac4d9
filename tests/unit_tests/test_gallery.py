"""The page of a folder: self-contained, relative, escaped, in two languages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.parse

import pytest

from langchain_tokenhub.gallery import write_gallery
from langchain_tokenhub.jobs.history import write_sidecar
from langchain_tokenhub.jobs.models import Job, MediaFile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECRET = "https://files.test/a?q-signature=canary"
without_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="needs chromium: apt-get install -y chromium"
)


def save(folder, name="a.png", *, data=b"x", kind="image", job_id="100001", **facts):
    """Save a file as the tools do, with its sidecar."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    suffix = path.suffix.lstrip(".")
    file = MediaFile(url=SECRET, type=facts.pop("type", suffix), path=path)
    job = Job(kind=kind, model="hy-image-v3.0", id=job_id, status="completed", files=[file])
    said = {"type": file.type, "parameters": {"prompt": "雪地里的猫"}, **facts}
    write_sidecar(path, {**said, "job": job.model_dump(mode="json")})
    return path


def page_of(folder, **options):
    page, _ = write_gallery(folder, **options)
    return page.read_text("utf-8")


def links(text):
    found = re.findall(r'(?:href|src)="([^"]*)"', text)
    return [urllib.parse.unquote(link) for link in found]


@pytest.fixture
def cube():
    trimesh = pytest.importorskip("trimesh")
    return trimesh.creation.box().export(file_type="glb")


def test_a_picture_stands_with_its_prompt_model_and_job(tmp_path):
    save(tmp_path)
    text = page_of(tmp_path)
    assert '<img loading="lazy" src="a.png"' in text
    assert all(word in text for word in ("雪地里的猫", "hy-image-v3.0", "100001"))


def test_a_video_has_a_player_that_shows_a_frame(tmp_path):
    save(tmp_path, "a.mp4", kind="video")
    assert '<video controls preload="metadata" playsinline src="a.mp4#t=0.1">' in page_of(tmp_path)


def test_the_page_needs_no_network(tmp_path):
    save(tmp_path)
    save(tmp_path, "b.mp4", kind="video", job_id="100002")
    text = page_of(tmp_path)
    assert "//" not in "".join(links(text))
    assert not re.findall(r"https?://", text)


def test_no_signature_reaches_the_page(tmp_path):
    save(tmp_path, parameters={"prompt": f"see {SECRET}", "image": {"url": SECRET}})
    text = page_of(tmp_path)
    assert "canary" not in text
    assert "files.test/a" in text


@pytest.mark.parametrize("field", ["prompt", "resolution", "<b>"])
def test_other_peoples_text_is_escaped(tmp_path, field):
    revised = "<img onerror> \ud83d"
    save(tmp_path, parameters={field: "<script>alert(1)</script>"}, revised_prompt=revised)
    text = page_of(tmp_path, title="<i>&")
    assert "<script>alert" not in text
    assert "<img onerror" not in text
    assert "<b>" not in text.replace("<b>hy-image-v3.0</b>", "")
    assert "<title>&lt;i&gt;&amp;</title>" in text


@pytest.mark.parametrize("name", ["50% #1?.png", "猫 &c.png", 'a"b.png', "films/it's.png"])
def test_links_lead_to_files_of_any_name(tmp_path, name):
    save(tmp_path, name)
    assert name in links(page_of(tmp_path))


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "missing.png", "", 5, None])
def test_a_sidecar_that_names_another_file_is_passed_over(tmp_path, name):
    folder = tmp_path / "in"
    save(tmp_path, "outside.png")
    save(folder, "inside.png", file=name)
    assert write_gallery(folder)[1] == 0


def test_files_of_one_job_share_a_card(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    save(tmp_path, "a.glb", kind="3d")
    save(tmp_path, "a.zip", kind="3d", type="obj")
    text = page_of(tmp_path)
    assert text.count("<article") == 1
    assert {"a.glb", "a.zip"} <= set(links(text))


def test_the_newest_stands_first(tmp_path):
    save(tmp_path, "old.png", job_id="100001", saved_at="2026-01-01T00:00:00+00:00")
    save(tmp_path, "new.png", job_id="100002", saved_at="2026-02-01T00:00:00+00:00")
    assert links(page_of(tmp_path))[0] == "new.png"


def test_more_pictures_of_a_job_stand_in_a_strip(tmp_path):
    save(tmp_path, "a.png")
    save(tmp_path, "b.png")
    assert '<div class="strip">' in page_of(tmp_path)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_opens_in_the_language_that_was_asked_for(tmp_path, language):
    save(tmp_path)
    text = page_of(tmp_path, language=language)
    assert f'<html lang="{language}">' in text
    assert "参数与任务" in text
    assert "Parameters and job" in text


def test_an_empty_folder_has_a_page(tmp_path):
    assert "这个文件夹里还没有结果" in page_of(tmp_path)


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_gallery(tmp_path / "none")


def test_a_page_of_somebody_else_is_replaced_only_when_asked(tmp_path):
    theirs = tmp_path / "index.html"
    theirs.write_text("<h1>theirs</h1>", "utf-8")
    with pytest.raises(FileExistsError):
        write_gallery(tmp_path)
    assert theirs.read_text("utf-8") == "<h1>theirs</h1>"
    assert "theirs" not in page_of(tmp_path, replace=True)


def test_our_own_page_is_made_anew(tmp_path):
    write_gallery(tmp_path)
    save(tmp_path)
    assert "a.png" in page_of(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.png.json", "index.html"]


def test_a_model_has_a_viewer_beside_it(tmp_path, cube):
    save(tmp_path, "a.glb", kind="3d", data=cube)
    assert "a.viewer.html" in links(page_of(tmp_path))
    viewer = (tmp_path / "a.viewer.html").read_text("utf-8")
    assert not re.findall(r'(?:src|href)\s*=\s*"(?:https?:)?//', viewer)


def test_without_trimesh_a_model_is_a_link(tmp_path, monkeypatch, cube):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    save(tmp_path, "a.glb", kind="3d", data=cube)
    found = links(page_of(tmp_path))
    assert "a.glb" in found
    assert "a.viewer.html" not in found


def test_a_preview_is_shown_by_the_name_that_the_sidecar_gives(tmp_path):
    save(tmp_path, "a.glb", kind="3d", preview="b.preview-2.png")
    (tmp_path / "b.preview-2.png").write_bytes(b"x")
    assert "b.preview-2.png" in links(page_of(tmp_path))


@pytest.mark.parametrize("name", ["../secret.png", "/etc", "..", "../in", 5, ["a"], "gone.png"])
def test_a_sidecar_names_no_preview_and_no_folder_elsewhere(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(b"x")
    save(tmp_path / "in", "a.zip", kind="3d", type="obj", preview=name, unpacked=name)
    assert links(page_of(tmp_path / "in")) == ["a.zip"]


def test_an_unpacked_model_is_linked(tmp_path):
    save(tmp_path, "a.zip", kind="3d", type="obj", unpacked="a")
    (tmp_path / "a").mkdir()
    assert "a/" in links(page_of(tmp_path))


# --- in a browser ---------------------------------------------------------------------------------


def seen(page, tmp_path, *options):
    """Return what a browser shows of a page, as a picture; it has no network."""
    image = pytest.importorskip("PIL.Image")
    shot = tmp_path / "shot.png"
    quiet = ("--disable-quic", "--no-first-run", "--disable-background-networking")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet]
    command += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'u'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=900,700"]
    command += ["--virtual-time-budget=3000", f"--screenshot={shot}", *options, page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with image.open(shot) as picture:
        return picture.convert("RGB")


def colours(picture):
    return {colour for _, colour in picture.getcolors(maxcolors=1 << 24)}


@pytest.fixture
def red(tmp_path):
    """A folder with a red picture whose name is hard to link."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "成果 #1"
    path = save(folder, "红 50%.png")
    image.new("RGB", (400, 300), (250, 10, 20)).save(path)
    return folder


@pytest.mark.needs_chromium
@without_chromium
def test_a_browser_shows_the_picture_from_disk(tmp_path, red):
    page, _ = write_gallery(red)
    assert (250, 10, 20) in colours(seen(page, tmp_path))


@pytest.mark.needs_chromium
@without_chromium
@pytest.mark.parametrize(
    ("scheme", "corner"),
    [("1", (0xF4, 0xF3, 0xF0)), ("0", (0x14, 0x15, 0x17))],
    ids=["light", "dark"],
)
def test_a_browser_shows_it_light_or_dark_as_the_system_is(tmp_path, red, scheme, corner):
    page, _ = write_gallery(red)
    picture = seen(page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    assert picture.getpixel((899, 699)) == corner
