from __future__ import annotations

import base64
import io
import zipfile

import av
import pytest
import trimesh
from PIL import Image

from langchain_tokenhub.testing.sample_files import (
    draw_picture,
    draw_preview,
    fbx,
    film_of,
    glb,
    mesh_of,
    obj,
    stl,
    subject_of,
    usdz,
)

PROMPTS = ["一个茶壶", "花瓶", "a ring"]


def opened(raw: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def test_a_picture_has_the_size_asked_for_and_keeps_the_prompt():
    image = opened(draw_picture("雨中竹林", 1280, 720))
    assert image.size == (1280, 720)
    assert image.text["prompt"] == "雨中竹林"


def test_pictures_differ_by_prompt_and_are_the_same_for_the_same():
    assert draw_picture("雨", 512, 512) != draw_picture("雪", 512, 512)
    assert draw_picture("雨", 512, 512) == draw_picture.__wrapped__("雨", 512, 512)


def test_what_is_made_of_a_picture_does_not_hang_on_the_port_and_the_time():
    first = subject_of({"image_url": f"http://127.0.0.1:1/files/{'a' * 32}?q-sign-time=1"})
    second = subject_of({"image_url": f"http://127.0.0.1:2/files/{'b' * 32}?q-sign-time=2"})
    assert first == second
    assert subject_of({"image_url": "https://a.test/b.png"}) != first


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_glb_loads_with_faces_and_colours(prompt):
    scene = trimesh.load(io.BytesIO(glb(mesh_of(prompt))), file_type="glb")
    (mesh,) = scene.geometry.values()
    assert len(mesh.faces) == len(mesh_of(prompt).faces)
    assert len({tuple(c) for c in mesh.visual.vertex_attributes["color"]}) > 1


def test_a_white_model_has_one_colour():
    assert len(set(mesh_of("塔", white=True).colours)) == 1


def test_an_stl_loads():
    mesh = trimesh.load(io.BytesIO(stl(mesh_of("塔"))), file_type="stl")
    assert len(mesh.faces) == len(mesh_of("塔").faces)


def test_an_obj_is_a_zip_with_its_material():
    archive = zipfile.ZipFile(io.BytesIO(obj(mesh_of("塔"))))
    assert archive.namelist() == ["model.obj", "model.mtl"]
    mesh = trimesh.load(io.BytesIO(archive.read("model.obj")), file_type="obj")
    assert len(mesh.faces) == len(mesh_of("塔").faces)


def test_a_usdz_is_stored_and_aligned():
    raw = usdz(mesh_of("塔"))
    (member,) = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    assert member.compress_type == zipfile.ZIP_STORED
    assert raw.index(b"#usda") % 64 == 0


def test_an_fbx_says_its_version():
    assert b"FBXVersion: 7400" in fbx(mesh_of("塔"))


def test_a_preview_is_a_picture():
    assert opened(draw_preview(mesh_of("一个茶壶"))).size == (256, 256)


def frames_of(raw):
    with av.open(io.BytesIO(raw)) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        return [frame.to_image() for frame in film.decode(video=0)]


def test_a_film_plays_and_can_start_before_it_is_whole():
    raw = film_of([], "小河流水")
    assert len(frames_of(raw)) == 72
    assert raw.index(b"moov") < raw.index(b"mdat")
    assert len(raw) < 40_000


def test_a_film_shows_the_first_picture_that_can_be_read():
    out = io.BytesIO()
    halves = Image.new("RGB", (208, 112), (220, 30, 40))
    halves.paste((20, 60, 200), (104, 0, 208, 112))
    halves.save(out, "PNG")
    picture = base64.b64encode(out.getvalue()).decode()
    for sent in (picture, f"data:image/png;base64,{picture}"):
        frames = frames_of(film_of(["https://a.test/b.png", "aGFsbG8=", sent], ""))
        for frame in (frames[0], frames[-1]):
            for at, colour in (((20, 50), (220, 30, 40)), ((180, 50), (20, 60, 200))):
                assert frame.getpixel(at) == pytest.approx(colour, abs=6)
