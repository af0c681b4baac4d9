from __future__ import annotations

import base64
import io
import re
import zipfile

import av
import pytest
import trimesh
from PIL import Image, ImageChops, ImageStat

from langchain_tokenhub.testing import cards
from langchain_tokenhub.testing.cards import draw_card, open_image, png
from langchain_tokenhub.testing.sample_files import (
    draw_preview,
    encode_model,
    encode_video,
    file_of,
    formats_of,
    text_of,
)
from langchain_tokenhub.testing.tables import table

ROWS = table("media_rules")["model"]
RED, BLUE = (220, 30, 40), (20, 60, 200)


def made(kind, model, *sources, **body):
    return file_of(kind, "1", ROWS[model], {"model": model, **body}, sources).make()


def mesh_of(*sources, **body):
    raw = made("glb", "hy-3d-3.0", *sources, **body)
    (mesh,) = trimesh.load(io.BytesIO(raw), file_type="glb").geometry.values()
    return mesh


def image(model="hy-image-v3.0", *sources, **body):
    return open_image(made("png", model, *sources, **body))


def halves(width=400, height=300):
    """Return a picture that is red on the left and blue on the right."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture


def coded(picture):
    return base64.b64encode(png(picture)).decode()


def frames_of(raw):
    with av.open(io.BytesIO(raw)) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        return [frame.to_image() for frame in video.decode(video=0)]


def difference(one, other):
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


# -- pictures ------------------------------------------------------------------------------------


def test_a_picture_has_the_size_asked_for():
    for model, sizes in {
        "hy-image-v3.0": [(1280, 720), (1024, 1024), (512, 2048), (1023, 515)],
        "hy-image-lite": [(4096, 4096), (160, 90), (160, 10), (10, 160), (3440, 1440)],
    }.items():
        for size in sizes:
            shown = image(model, prompt="字" * 900, resolution="{}:{}".format(*size))
            assert shown.size == size


def test_a_png_keeps_the_prompt():
    raw = made("png", "hy-image-v3.0", prompt="雨中竹林")
    assert Image.open(io.BytesIO(raw)).text["prompt"] == "雨中竹林"


def test_pictures_differ_by_prompt_and_are_the_same_for_the_same():
    rain, again, snow = (draw_card(text, "", (512, 512)) for text in ("rain", "rain", "snow"))
    assert difference(rain, again) == 0 < difference(rain, snow)


def test_a_card_says_what_was_asked_for():
    cards_of = {seed: image(prompt="rain", seed=seed) for seed in (1, 2)}
    box = ImageChops.difference(cards_of[1], cards_of[2]).getbbox()
    assert box[1] > 850  # only the caption at the foot differs


def test_long_words_and_long_prompts_stay_within_the_margins():
    for text in ("x" * 300, "a word " * 300, "字，" * 4000):
        edge = draw_card(text, "", (600, 400)).crop((545, 0, 600, 400))
        assert edge.convert("L").getextrema()[1] < 200  # the text is white


def test_a_text_without_a_font_is_described_by_its_length(monkeypatch):
    monkeypatch.setattr(cards, "_FONTS", {})
    cards._fonts.cache_clear()
    lines = " ".join(cards._fit("雨中竹林", (2000, 500), 720)[1])
    cards._fonts.cache_clear()
    assert lines == "a prompt of 4 characters (this machine has no font for them)"


def test_a_line_begins_with_no_chinese_punctuation():
    lines = cards._wrap("一二三四，五六七八。", cards._fonts()[0].font_variant(size=20), 75)
    assert not any(line[0] in "，。" for line in lines)


def test_a_reference_picture_is_shown_on_the_card():
    colours = {
        colour
        for _, colour in image("hy-image-v3.0", coded(halves()), prompt="x").getcolors(1 << 24)
    }
    assert {RED, BLUE} <= colours


def test_what_stands_for_a_prompt_is_the_template_or_the_model():
    assert [text_of({"model": "m", **body}) for body in ({}, {"template": "hug"})] == ["m", "hug"]


# -- videos --------------------------------------------------------------------------------------


def video(model="hy-video-1.5", *sources, **body):
    return frames_of(made("mp4", model, *sources, **body))


def test_a_video_can_start_before_it_is_whole():
    raw = made("mp4", "hy-video-1.5", prompt="小河流水")
    assert raw.index(b"moov") < raw.index(b"mdat")


@pytest.mark.parametrize(
    ("model", "resolution", "size"),
    [
        ("hy-video-1.5", "", (1280, 720)),
        ("yt-video-2.0", "", (854, 480)),
        ("yt-video-2.0", "1080p", (1920, 1080)),
        ("yt-video-fx", "540p", (960, 540)),
        ("yt-video-humanactor", "", (1920, 1080)),
    ],
)
def test_a_video_has_the_resolution_asked_for(model, resolution, size):
    assert {frame.size for frame in video(model, resolution=resolution)} == {size}


@pytest.mark.parametrize(("field", "fps"), [("fps", 16), ("frame_rate", 50), ("prompt", 24)])
def test_a_video_has_the_frame_rate_asked_for(field, fps):
    frames = video("yt-video-2.0", **{field: fps if field != "prompt" else "x"})
    assert len(frames) == 3 * fps


@pytest.mark.parametrize(
    ("shape", "size"),
    [((400, 300), (640, 480)), ((300, 400), (480, 640)), ((1000, 100), (1920, 480))],
)
def test_a_video_of_a_picture_has_its_shape(shape, size):
    assert video("yt-video-2.0", coded(halves(*shape)))[0].size == size


def test_a_video_shows_the_first_picture_that_can_be_read():
    for sent in (coded(halves()), f"data:image/png;base64,{coded(halves())}"):
        frames = video("yt-video-2.0", "https://a.test/b.png", "aGFsbG8=", sent)
        for frame in (frames[0], frames[-1]):
            for at, colour in (((40, 240), RED), ((600, 240), BLUE)):
                assert frame.getpixel(at) == pytest.approx(colour, abs=8)


def test_a_video_moves_over_its_picture_and_comes_back():
    size = (320, 180)
    card = draw_card("rain", "a caption", size)
    frames = frames_of(encode_video([card], 24))
    whole = card.resize((346, 196))  # the view shows a part of it
    assert difference(frames[0], whole.crop((0, 0, *size))) < 4
    assert difference(frames[36], whole.crop((26, 16, *whole.size))) < 4
    assert difference(frames[0], frames[71]) < 2 < difference(frames[0], frames[36])


def test_a_video_of_several_pictures_shows_each_in_its_turn():
    pictures = [coded(Image.new("RGB", (300, 300), colour)) for colour in (RED, BLUE, RED)]
    frames = video("yt-video-fx", *pictures, template="onestory")
    assert len(frames) == 3 * 72
    for number, colour in ((0, RED), (100, BLUE), (215, RED)):
        assert frames[number].getpixel((180, 100)) == pytest.approx(colour, abs=8)


# -- 3D models -----------------------------------------------------------------------------------


def test_a_glb_carries_the_picture_that_was_sent():
    mesh = mesh_of(coded(halves(300, 300)))
    texture = mesh.visual.material.baseColorTexture.convert("RGB")
    assert [texture.getpixel((x, 256)) for x in (100, 400)] == [RED, BLUE]
    assert len(mesh.visual.uv) == len(mesh.vertices)


def test_a_geometry_model_is_white():
    white = {"prompt": "塔", "generate_type": "Geometry"}
    texture = mesh_of(**white).visual.material.baseColorTexture.convert("RGB")
    preview = open_image(made("preview", "hy-3d-3.0", **white))
    assert len(texture.getcolors()) == 1
    assert all(max(c) - min(c) < 20 for _, c in preview.getcolors(1 << 20))
    assert list(formats_of({"model": "hy-3d-3.0", **white})) == ["glb"]


@pytest.mark.parametrize("kind", ["glb", "stl"])
def test_each_side_of_a_cube_faces_outwards(kind):
    raw = encode_model(kind, png(halves()))
    mesh = trimesh.load(io.BytesIO(raw), file_type=kind, force="mesh")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.is_watertight
    assert (len(mesh.faces), mesh.volume) == (192, pytest.approx(1))


def test_an_obj_is_a_zip_with_its_material_and_picture():
    archive = zipfile.ZipFile(io.BytesIO(encode_model("obj", png(halves()))))
    assert archive.namelist() == ["model.obj", "model.mtl", "texture.png"]
    mesh = trimesh.load(io.BytesIO(archive.read("model.obj")), file_type="obj")
    assert len(mesh.faces) == 192


def test_a_usdz_is_stored_and_aligned():
    raw = encode_model("usdz", b"")
    (member,) = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    assert member.compress_type == zipfile.ZIP_STORED
    assert raw.index(b"#usda") % 64 == 0


def test_an_fbx_has_its_version_and_as_many_numbers_as_it_tells():
    text = encode_model("fbx", b"").decode()
    assert "FBXVersion: 7400" in text
    for count, numbers in re.findall(r"\*(\d+) \{\s+a: (\S+)", text):
        assert len(list(map(float, numbers.split(",")))) == int(count)


def test_a_preview_shows_the_picture():
    preview = open_image(draw_preview(halves()))
    assert preview.size == (512, 512)
    colours = {colour for _, colour in preview.getcolors(1 << 20)}
    assert {RED, BLUE} <= colours  # the top side is not shaded


def test_a_glb_holds_what_it_says():
    raw = encode_model("glb", png(halves()))
    assert int.from_bytes(raw[8:12], "little") == len(raw)
