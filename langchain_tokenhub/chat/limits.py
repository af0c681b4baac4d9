"""What pictures and videos the service takes: kinds, sizes, how many. Pure.

Source: product pages 1823/130988 and 1823/136956 (vision): jpeg, png or webp, 10 MB each, at most
20 in a request; 1823/136957 (video): a request has at most 100 MB, and some models take videos by
link only. Links are not fetched; of them only the number counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokenhub.errors import InvalidRequestError

MOST_IMAGES = 20
"""Pictures in one request."""
LARGEST_IMAGE = 10_000_000
"""Bytes of one picture."""
LARGEST_REQUEST = 100_000_000
"""Bytes of a request with a video in it."""
_KINDS = ("image/jpeg", "image/jpg", "image/png", "image/webp")


def check_image(url: str) -> None:
    """Refuse a picture that is sent as bytes and is of another kind, or too large.

    Raises:
        InvalidRequestError: Names the kind or the size, and the limit.
    """
    if not url.startswith("data:"):
        return
    head, _, data = url.partition(",")
    kind = head.removeprefix("data:").partition(";")[0].lower()
    if kind not in _KINDS:
        raise InvalidRequestError(f"a picture is {kind or 'of no kind'}; send jpeg, png or webp")
    size = len(data) * 3 // 4
    if size > LARGEST_IMAGE:
        raise InvalidRequestError(
            f"a picture has {size / 1e6:.1f} MB, at most {LARGEST_IMAGE / 1e6:.0f} MB; "
            "make it smaller, or send a link"
        )


def check_video(url: str, model: str, *, by_link_only: bool) -> None:
    """Refuse a video that is sent as bytes where the model wants a link, or that is too large.

    Raises:
        InvalidRequestError: Says what to send instead.
    """
    if not url.startswith("data:"):
        return
    if by_link_only:
        raise InvalidRequestError(f"{model!r} takes videos by http(s) link only; upload the video")
    if len(url) > LARGEST_REQUEST:
        raise InvalidRequestError(
            f"a video has {len(url) / 1e6:.0f} MB as base64, a request at most "
            f"{LARGEST_REQUEST / 1e6:.0f} MB; send a link"
        )


def check_number(wire: Sequence[Mapping[str, Any]]) -> None:
    """Refuse more pictures than one request may hold.

    Raises:
        InvalidRequestError: Names the number and the limit.
    """
    contents = (message["content"] for message in wire)
    parts = [part for content in contents if isinstance(content, list) for part in content]
    number = sum(part["type"] == "image_url" for part in parts)
    if number > MOST_IMAGES:
        raise InvalidRequestError(
            f"the history holds {number} pictures, at most {MOST_IMAGES} a request",
            hint="drop the oldest ones, for instance with trim_messages",
        )
