"""Videos in H.264 and MP4, written without an encoder. Pure.

The first frame of a shot is lossless: macroblocks of the type I_PCM, or Intra_16x16 without a
residual. Each other frame shows that frame moved by one vector, which takes a few bytes. The coded
image is a little larger than the part that is shown, so that the view can move over it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Sequence
from functools import partial

from PIL import Image

from langchain_tokenhub.testing.cards import Size

SECONDS = 3
_HIDDEN = 0.08
"""Share of a side that the view does not show at a time."""
_LUMA = [16 + v * 219 // 255 for v in range(256)]
_CHROMA = [16 + v * 224 // 255 for v in range(256)]
_SIDES = (16, 8, 8)
"""Width and height of a macroblock in each plane."""


def coded_size(size: Size) -> Size:
    """Return the size of the images for a video of this size: whole macroblocks."""
    width, height = (math.ceil(side * (1 + _HIDDEN) / 16) * 16 for side in size)
    return width, height


def encode_video(images: Sequence[Image.Image], size: Size, fps: int) -> bytes:
    """Encode a video that shows each image for three seconds.

    Args:
        images: Images of `coded_size(size)`.
        size: Even width and height in pixels.
        fps: Frames a second.
    """
    samples: list[bytes] = []
    for number, image in enumerate(images):
        samples.append(_key_frame(image, number))
        samples += _moved_frames(image.size, size, SECONDS * fps)
    keys = range(1, len(samples) + 1, SECONDS * fps)
    return _mp4([struct.pack(">I", len(s)) + s for s in samples], keys, size, fps)


# -- H.264 --------------------------------------------------------------------------------------


def _ue(value: int) -> str:
    """Write an unsigned Exp-Golomb code."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _se(value: int) -> str:
    """Write a signed Exp-Golomb code."""
    return _ue(2 * value - 1 if value > 0 else -2 * value)


def _to_bytes(bits: str) -> bytes:
    """Pad bits to bytes."""
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8))


def _nal(head: int, raw: bytes) -> bytes:
    """Write a unit of the bit stream."""
    return bytes([head]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", raw)


def _parameter_sets(size: Size) -> tuple[bytes, bytes]:
    """Write the sequence parameter set (size, colours, no delay) and the picture parameter set."""
    coded = coded_size(size)
    macroblocks = "".join(_ue(side // 16 - 1) for side in coded)
    hidden = [(whole - shown) // 2 for whole, shown in zip(coded, size, strict=True)]
    crop = "".join(_ue(0) + _ue(pairs) for pairs in hidden)  # decoders want it right and below
    colours = "001101" + "01" + f"{6:08b}" * 3
    no_delay = "00000" + "11" + _ue(0) * 2 + _ue(15) * 2 + _ue(0) + _ue(1)
    head = f"{66:08b}{0xC0:08b}{50:08b}" + _ue(0) * 3 + _ue(12) + _ue(1) + "0"
    sequence = head + macroblocks + "111" + crop + "1" + colours + no_delay
    picture = _ue(0) * 2 + "00" + _ue(0) * 3 + "000" + _se(-26) + _se(0) * 2 + "000"
    return _nal(0x67, _to_bytes(sequence + "1")), _nal(0x68, _to_bytes(picture + "1"))


def _key_frame(image: Image.Image, number: int) -> bytes:
    """Write an image. What repeats the column to its left is predicted, all else plain samples."""
    y, cb, cr = image.convert("YCbCr").split()
    planes = [y.point(_LUMA), cb.reduce(2).point(_CHROMA), cr.reduce(2).point(_CHROMA)]
    bits = _ue(0) + _ue(7) + _ue(0) + "0000" + _ue(number % 2) + "0" * 16 + "00" + _se(0)
    parts, plain_above = list[bytes](), [False] * (image.width // 16)
    for row in range(image.height // 16):
        lines = [
            _lines(plane, side * row, side) for plane, side in zip(planes, _SIDES, strict=True)
        ]
        is_plain = False
        for column, is_plain_above in enumerate(plain_above):
            left_is_plain, is_plain = is_plain, not (column and _repeats_left(lines, column))
            plain_above[column] = is_plain
            if is_plain:
                samples = (
                    line[side * column :][:side]
                    for side, block in zip(_SIDES, lines, strict=True)
                    for line in block
                )
                parts += [_to_bytes(bits + _ue(25)), *samples]
                bits = ""
            else:
                no_residual = "000011" if left_is_plain or is_plain_above else "1"
                bits += _ue(2) + _ue(1) + _se(0) + no_residual
    return _nal(0x65, b"".join(parts) + _to_bytes(bits + "1"))


def _lines(plane: Image.Image, top: int, count: int) -> list[bytes]:
    raw = plane.crop((0, top, plane.width, top + count)).tobytes()
    return [raw[at : at + plane.width] for at in range(0, len(raw), plane.width)]


def _repeats_left(lines: Sequence[Sequence[bytes]], column: int) -> bool:
    """Return True if each line of a macroblock goes on with the sample to its left."""
    return all(
        line[at : at + side] == line[at - 1 : at] * side
        for side, block in zip(_SIDES, lines, strict=True)
        for at in [side * column]
        for line in block
    )


def _moved_frames(coded: Size, size: Size, count: int) -> Iterator[bytes]:
    """Yield the other frames of a shot: the view moves to the far corner and back."""
    reach = [4 * (whole - shown) for whole, shown in zip(coded, size, strict=True)]
    for order in range(1, count):
        share = (1 - math.cos(2 * math.pi * order / count)) / 2
        yield _moved_frame(coded, [round(share * quarters) for quarters in reach], order)


def _moved_frame(coded: Size, vector: Sequence[int], order: int) -> bytes:
    """Show the key frame moved by a vector, in quarters of a pixel.

    The first macroblock names the vector. The others of the first row and column repeat it; all
    else is skipped, which means the vector of the neighbours.
    """
    head = _ue(0) + _ue(5) + _ue(0) + "0001" + f"{2 * order:016b}" + "00" + _se(0)
    first = _ue(0) + _se(vector[0]) + _se(vector[1]) + _ue(0)
    same = _ue(0) + _se(0) * 2 + _ue(0)
    columns, rows = coded[0] // 16, coded[1] // 16
    none, rest = _ue(0), _ue(columns - 1)
    top = none + first + (none + same) * (columns - 1)
    below = none + same + (rest + same) * (rows - 2) + rest
    return _nal(0x01, _to_bytes(head + top + below + "1"))


# -- MP4 ----------------------------------------------------------------------------------------

_MATRIX = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def _box(kind: str, *parts: bytes, version: int | None = None) -> bytes:
    """Write a box; a full box begins with its version and flags."""
    body = b"" if version is None else struct.pack(">I", version)
    body += b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind.encode()) + body


def _mp4(samples: Sequence[bytes], keys: Sequence[int], size: Size, fps: int) -> bytes:
    """Write the index before the samples, so that a video can start before it is whole."""
    head = _box("ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
    index = partial(_index, samples, keys, size, fps)
    start = len(head) + len(index(0)) + 8
    return head + index(start) + _box("mdat", *samples)


def _index(
    samples: Sequence[bytes], keys: Sequence[int], size: Size, fps: int, start: int
) -> bytes:
    count, numbers = len(samples), struct.Struct(">I").pack
    entries = [
        _box("stsd", numbers(1), _sample_entry(size), version=0),
        _box("stts", struct.pack(">3I", 1, count, 1), version=0),
        _box("stss", numbers(len(keys)), *map(numbers, keys), version=0),
        _box("stsc", struct.pack(">4I", 1, 1, count, 1), version=0),
        _box("stsz", struct.pack(">2I", 0, count), *(numbers(len(s)) for s in samples), version=0),
        _box("stco", struct.pack(">2I", 1, start), version=0),
    ]
    data = _box("dinf", _box("dref", numbers(1), _box("url ", version=1), version=0))
    media = [
        _box("mdhd", struct.pack(">5I", 0, 0, fps, count, 0x55C40000), version=0),
        _box("hdlr", bytes(4), b"vide", bytes(12), b"TokenHub emulator\0", version=0),
        _box("minf", _box("vmhd", bytes(8), version=1), data, _box("stbl", *entries)),
    ]
    movie = struct.pack(">5I", 0, 0, fps, count, 1 << 16)
    track = struct.pack(">5I", 0, 0, 1, 0, count)
    shape = struct.pack(">2I", size[0] << 16, size[1] << 16)
    header = _box("tkhd", track, bytes(16), _MATRIX, shape, version=7)
    return _box(
        "moov",
        _box("mvhd", movie, bytes(12), _MATRIX, bytes(24), numbers(2), version=0),
        _box("trak", header, _box("mdia", *media)),
    )


def _sample_entry(size: Size) -> bytes:
    sequence, pictures = _parameter_sets(size)
    sets = [struct.pack(">H", len(one)) + one for one in (sequence, pictures)]
    avcc = _box("avcC", b"\1", sequence[1:4], b"\xff\xe1", sets[0], b"\1", sets[1])
    shape = struct.pack(">2H3IH", *size, 72 << 16, 72 << 16, 0, 1)
    return _box("avc1", bytes(7), b"\1", bytes(16), shape, bytes(32), b"\0\x18\xff\xff", avcc)
