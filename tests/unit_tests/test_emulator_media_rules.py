from __future__ import annotations

import base64
import io
import struct

import pytest
from PIL import Image

from langchain_tokenhub.testing.errors import MediaRefusedError
from langchain_tokenhub.testing.media_validation import check_media
from langchain_tokenhub.testing.state import estimate_credits
from langchain_tokenhub.testing.tables import table


def picture(side=600):
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


PICTURE = picture()
BMP_HEAD = struct.pack("<2s3I3I2H6I", b"BM", 54, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6)
HUGE = base64.b64encode(BMP_HEAD).decode()
URL = "https://example.com/x.png"
SKETCH = {"prompt": "塔", "image_url": URL, "generate_type": "Sketch"}
TOP = [{"view_type": "top", "view_image_base64": PICTURE}]
VIEWS = [{"view_type": "left", "view_image_url": URL}]
PATHS = {
    "hy-image-lite": "lite",
    "hy-image-v3.0": "image",
    "hy-video-1.5": "video",
    "yt-video-2.0": "video",
    "yt-video-fx": "video",
    "yt-video-humanactor": "video",
    "hy-3d-3.0": "3d",
    "hy-3d-3.1": "3d",
    "hy-3d-express": "3d",
}


def check(model, **body):
    return check_media(PATHS.get(model, "image"), {"model": model, **body})


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("hy-image-lite", {"prompt": "雨中, 竹林, 小路", "rsp_img_type": "url"}),
        ("hy-image-v3.0", {"prompt": "在图片中增加一个橘猫", "images": [URL, PICTURE]}),
        ("hy-image-v3.0", {"prompt": "猫", "images": [f"data:image/png;base64,{PICTURE}"]}),
        ("hy-image-v3.0", {"prompt": "猫", "resolution": "2048:512", "seed": 1, "revise": 0}),
        ("hy-video-1.5", {"prompt": "小河流水", "image": {"base64": PICTURE}}),
        ("hy-video-1.5", {"prompt": " " * 9 + "字" * 200}),
        ("yt-video-2.0", {"image": {"url": URL}, "fps": 24}),
        ("yt-video-fx", {"template": "hug", "images": [{"url": URL}, {"url": URL}]}),
        ("yt-video-fx", {"template": "a-new-one", "images": [{"url": URL}], "bgm": True}),
        ("yt-video-humanactor", {"prompt": "#3#笑", "audio_url": URL, "image_base64": PICTURE}),
        ("hy-3d-3.0", {"prompt": "一只小狗"}),
        ("hy-3d-3.0", SKETCH),
        ("hy-3d-3.0", {"image_url": URL, "multi_view_images": VIEWS}),
        ("hy-3d-3.0", {"prompt": "塔", "generate_type": "LowPoly", "polygon_type": "triangle"}),
        ("hy-3d-3.1", {"image_url": URL, "multi_view_images": TOP}),
        ("hy-3d-express", {"prompt": "塔", "result_format": "usdz"}),
        ("ep-12345", {"anything": "goes"}),
    ],
)  # fmt: skip
def test_what_the_service_takes_is_accepted(model, body):
    check(model, **body)


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("hy-image-lite", {"prompt": "字" * 1025}),
        ("hy-image-lite", {"prompt": "猫", "resolution": "1000:1000"}),
        ("hy-image-lite", {"prompt": "猫", "images": [URL]}),
        ("hy-image-lite", {"prompt": "猫", "seed": -1}),
        ("hy-image-v3.0", {}),
        ("hy-image-v3.0", {"prompt": "  "}),
        ("hy-image-v3.0", {"prompt": "猫", "resolution": "1024x1024"}),
        ("hy-image-v3.0", {"prompt": "猫", "resolution": "2048:1024"}),
        ("hy-image-v3.0", {"prompt": "猫", "resolution": "256:1024"}),
        ("hy-image-v3.0", {"prompt": "猫", "images": [URL] * 4}),
        ("hy-image-v3.0", {"prompt": "猫", "images": [{"url": URL}]}),
        ("hy-image-v3.0", {"prompt": "猫", "images": [picture(40)]}),
        ("hy-image-v3.0", {"prompt": "猫", "seed": 0}),
        ("hy-image-v3.0", {"prompt": "猫", "revise": True}),
        ("hy-image-v3.0", {"prompt": "猫", "negative_prompt": "狗"}),
        ("hy-video-1.5", {"prompt": "字" * 201}),
        ("hy-video-1.5", {"prompt": "水", "image": URL}),
        ("hy-video-1.5", {"prompt": "水", "image": {"base64": f"data:image/png;base64,{PICTURE}"}}),
        ("hy-video-1.5", {"prompt": "水", "image": {"base64": base64.b64encode(b"x").decode()}}),
        ("hy-video-1.5", {"prompt": "水", "image": {"base64": "图"}}),
        ("hy-video-1.5", {"prompt": "水", "image": {"base64": HUGE}}),
        ("hy-video-1.5", {"prompt": "水", "image": {"url": "file:///etc/passwd"}}),
        ("hy-video-1.5", {"prompt": "水", "resolution": "1080p"}),
        ("yt-video-2.0", {"prompt": "水"}),
        ("yt-video-2.0", {"image": {"url": URL}, "fps": 25}),
        ("yt-video-fx", {"template": "hug"}),
        ("yt-video-fx", {"template": "ridefly", "images": [{"url": URL}]}),
        ("yt-video-fx", {"template": "pinch", "images": [{"url": URL}] * 2}),
        ("yt-video-fx", {"template": "hug", "images": [{"url": URL}], "prompt": "no prompt here"}),
        ("yt-video-humanactor", {"prompt": "笑", "audio_url": URL}),
        ("hy-3d-3.0", {}),
        ("hy-3d-3.0", {"prompt": "塔", "image_url": URL}),
        ("hy-3d-3.0", {"prompt": "塔", "generate_type": "normal"}),
        ("hy-3d-3.0", {"prompt": "塔", "polygon_type": "triangle"}),
        ("hy-3d-3.0", {"prompt": "塔", "multi_view_images": VIEWS}),
        ("hy-3d-3.0", {"image_url": URL, "multi_view_images": VIEWS * 2}),
        ("hy-3d-3.0", {"image_url": URL, "multi_view_images": TOP}),
        ("hy-3d-3.0", {"prompt": "塔", "result_format": "GLB"}),
        ("hy-3d-3.0", {"prompt": "塔", "face_count": 2999}),
        ("hy-3d-3.1", {"prompt": "塔", "generate_type": "LowPoly"}),
        ("hy-3d-express", {"prompt": "塔", "enable_geometry": True, "result_format": "OBJ"}),
        ("hy-3d-express", {"prompt": "塔", "face_count": 5000}),
        ("hy-3d-9", {"prompt": None, "model": None}),
    ],
)  # fmt: skip
def test_what_the_service_refuses_is_refused(model, body):
    with pytest.raises(MediaRefusedError):
        check_media(PATHS.get(model, "image"), {"model": model, **body})


@pytest.mark.parametrize(
    ("model", "body", "credits_"),
    [
        ("hy-3d-3.0", {}, 20),
        ("hy-3d-3.0", {"generate_type": "LowPoly", "enable_pbr": True}, 35),
        ("yt-video-2.0", {"resolution": "1080p"}, 5),
    ],
)
def test_a_job_is_priced_by_its_fields(model, body, credits_):
    row = table("media_rules")["model"][model]
    assert estimate_credits(row, {"model": model, **body}) == credits_
