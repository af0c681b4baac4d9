"""Videos in H.264 and MP4: a view that moves over each image and comes back. Pure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
from av.filter import Graph
from PIL import Image

SECONDS = 3
_ENLARGED = 1.08
"""How much larger an image is than the view."""
_ENCODER = {"preset": "ultrafast", "crf": "22", "threads": "1", "colorspace": "smpte170m"}


def encode_video(images: Sequence[Image.Image], fps: int) -> bytes:
    """Encode a video that shows each image for three seconds.

    Args:
        images: Images of the video's size, an even width and height in pixels.
        fps: Frames a second.
    """
    count, out = SECONDS * fps, io.BytesIO()
    options = {"moov_size": str(4096 + 16 * count * len(images))}  # the index before the frames
    with av.open(out, "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", fps, options=_ENCODER | {"g": str(count)})
        stream.width, stream.height = images[0].size
        view = _moving_view(images[0].size, fps)
        for number, image in enumerate([*images, images[-1]]):  # the repeat sets the last duration
            frame = av.VideoFrame.from_bytes(image.convert("RGBA").tobytes(), *image.size)
            frame.pts, frame.time_base = number, Fraction(SECONDS)
            view.vpush(frame)
        for _ in range(count * len(images)):
            container.mux(stream.encode(view.vpull()))
        container.mux(stream.encode())
    return out.getvalue()


def _moving_view(size: tuple[int, int], fps: int) -> Graph:
    """Return filters that turn each image into three seconds of a view on it."""
    width, height = size
    share = f"(1-cos(2*PI*n/{SECONDS * fps}))/2"
    graph = Graph()
    filters = {
        "buffer": f"video_size={width}x{height}:pix_fmt=rgba:time_base={SECONDS}",
        "scale": f"ceil(iw*{_ENLARGED}/2)*2:ceil(ih*{_ENLARGED}/2)*2:flags=lanczos",
        "format": "yuv420p",
        "fps": str(fps),
        "crop": f"{width}:{height}:(iw-ow)*{share}:(ih-oh)*{share}",
        "buffersink": None,
    }
    graph.link_nodes(*(graph.add(name, options) for name, options in filters.items())).configure()
    return graph
