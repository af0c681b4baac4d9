"""Content blocks of every provider to the wire's parts. Pure.

The wire knows `text`, `image_url`, `video_url` and `file_url` (`tokenhub` chat completions,
multimodal input); everything that LangChain users hold is turned into one of them, dropped where
it says nothing to a model, or refused by name.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokenhub.errors import InvalidRequestError

Part = dict[str, Any]
Block = Mapping[str, Any]

_SILENT = frozenset(
    {
        "reasoning",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "input_json_delta",
        "function_call",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_result",
    }
)
"""Blocks whose meaning travels elsewhere in the message, or belongs to another provider."""
_KINDS = {"image": "image", "video": "video", "audio": "audio"}


def content_of(content: Any) -> str | list[Part]:
    """Return a user's content: a string where it is all text, else parts."""
    if isinstance(content, str):
        return content
    parts = [part for block in _blocks(content) for part in _part(block)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def text_of(content: Any) -> str:
    """Return the text in a content; whatever else it holds is left out."""
    match content:
        case str():
            return content
        case None:
            return ""
        case Mapping():
            return json.dumps(content, ensure_ascii=False, default=str)
    return "".join(_text(block) for block in _blocks(content))


def split_results(content: Any) -> tuple[list[Block], Any]:
    """Return the Anthropic `tool_result` blocks in a user's content, and the rest."""
    if isinstance(content, str):
        return [], content
    blocks = _blocks(content)
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return results, [block for block in blocks if block.get("type") != "tool_result"]


def result_text(content: Any) -> str:
    """Return the text of a tool's result; blocks that nobody knows are data, and go as JSON."""
    if isinstance(content, str) or not isinstance(content, Sequence):
        return text_of(content)
    return "".join(_text(block) or _data(block) for block in _blocks(content))


def shown_in(content: Any) -> list[Part]:
    """Return the pictures, videos and files in a tool's result, as parts."""
    if isinstance(content, (str, Mapping)) or content is None:
        return []
    blocks = [block for block in _blocks(content) if not _text(block) and not _data(block)]
    return [part for block in blocks for part in _part(block) if part["type"] != "text"]


def calls_of(content: Any) -> list[tuple[str, Any, str | None]]:
    """Return name, arguments and id of the calls that stand in an assistant's blocks."""
    if isinstance(content, str):
        return []
    found = []
    for block in _blocks(content):
        match block:
            case {"type": "tool_use", "name": str(name), "input": args}:
                found.append((name, args, block.get("id")))
            case {"type": "tool_call", "name": str(name), "args": args}:
                found.append((name, args, block.get("id")))
    return found


def _data(block: Block) -> str:
    """Return a tool's own data as JSON: what has no type means nothing to any provider."""
    if "type" in block or "text" in block:
        return ""
    return json.dumps(block, ensure_ascii=False, default=str)


def _blocks(content: Any) -> list[Block]:
    if not isinstance(content, Sequence):
        raise InvalidRequestError(f"content is a {type(content).__name__}, not text or blocks")
    return [_block(block) for block in content]


def _block(block: Any) -> Block:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if isinstance(block, Mapping):
        return block
    raise InvalidRequestError(f"content holds a {type(block).__name__}, not text or blocks")


def _text(block: Block) -> str:
    match block:
        case {"type": "text" | "text-plain" | "output_text" | "input_text", "text": str(text)}:
            return text
        case {"type": "file", "source_type": "text", "text": str(text)}:
            return text  # LangChain's blocks before v1
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return text  # Anthropic
        case {"type": "document", "source": {"type": "content", "content": content}}:
            return text_of(content)
        case {"text": str(text)} if "type" not in block:
            return text  # Bedrock, Google
        case {"type": "text-plain" | "file", "base64": str(data)} if _is_plain(block):
            return _decoded(data)
        case {"type": "json", **rest}:
            return json.dumps(rest.get("json", rest), ensure_ascii=False, default=str)
        case {"type": "tool_result", "content": content}:
            return text_of(content)
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case _:
            return ""


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except ValueError as problem:
        reason = str(problem)
    raise InvalidRequestError(f"a plain text is no base64: {reason}")


def _part(block: Block) -> list[Part]:
    """Return the wire's part for a block, or none where it has nothing to say."""
    text = _text(block)
    if text:
        return [{"type": "text", "text": text}]
    match block:
        case {"type": "text" | "output_text" | "input_text"}:
            return []
        case {"type": "image_url" | "video_url" | "file_url" as kind}:
            return [_wired(str(kind), block.get(kind))]
        case {"type": "image" | "input_image"}:
            return [_link("image_url", _address(block, "image/png"))]
        case {"type": "video"}:
            return [_link("video_url", _address(block, "video/mp4"))]
        case {"type": "file" | "document" | "input_file" | "text-plain"}:
            return [_file(block)]
        case {"type": "media", "mime_type": str(kind)}:
            return _part({**block, "type": _KINDS.get(kind.split("/")[0], "file")})  # Google
        case {"type": "non_standard", "value": Mapping() as value}:
            return _part(value)
        case {"type": kind} if kind in _SILENT:
            return []
        case {"type": "audio" | "input_audio"}:
            raise InvalidRequestError("TokenHub's chat takes no audio; send a transcript")
        case _:
            raise InvalidRequestError(
                f"cannot send a block of type {block.get('type')!r}; "
                "use text, image_url, video_url or file_url"
            )


def _wired(kind: str, value: object) -> Part:
    """Return a part that is the wire's own already; only its URL is looked at."""
    match value:
        case str() if value:
            return _link(kind, value)
        case {"url": str(url)} if url:
            return {"type": kind, kind: value}
        case _:
            raise InvalidRequestError(f"a block of type {kind!r} has no url")


def _link(kind: str, url: str) -> Part:
    return {"type": kind, kind: {"url": url}}


def _address(block: Block, media_type: str) -> str:
    """Return the URL in a block, or its bytes as a data URL, whichever provider wrote it."""
    match block:
        case {"source": Mapping() as source}:  # Anthropic
            return _address(source, media_type)
        case {"image_url": {"url": str(url)}} | {"image_url": str(url)} | {"url": str(url)}:
            return url
        case {"file_uri": str(url)} | {"file_url": str(url)}:
            return url
        case {"base64": str(data)} | {"data": str(data)} | {"file_data": str(data)}:
            kind = block.get("mime_type") or block.get("media_type") or media_type
            return data if data.startswith("data:") else f"data:{kind};base64,{data}"
        case {"file_id": _} | {"id": str(_), "type": "file"}:
            raise InvalidRequestError("file ids of other services mean nothing to TokenHub")
        case _:
            raise InvalidRequestError(f"a block of type {block.get('type')!r} has no url or base64")


def _is_plain(block: Block) -> bool:
    kind = block.get("mime_type") or ("text/plain" if block["type"] == "text-plain" else "")
    return str(kind).startswith("text/")


def _file(block: Block) -> Part:
    """Return a file by its link; the wire has no base64 for files."""
    inner = block.get("file")
    address = _address(inner if isinstance(inner, Mapping) else block, "application/pdf")
    if not address.startswith(("http://", "https://")):
        raise InvalidRequestError(
            "TokenHub takes files by http(s) link only; upload it, or send its text"
        )
    return _link("file_url", address)


MOST_IMAGES = 20
"""Pictures in one request."""
LARGEST_IMAGE = 10_000_000
"""Bytes of one picture."""
LARGEST_REQUEST = 100_000_000
"""Bytes of a request with a video in it."""
_IMAGE_KINDS = ("image/jpeg", "image/jpg", "image/png", "image/webp")


def check_image(url: str) -> None:
    """Refuse a picture that is sent as bytes and is of another kind, or too large.

    Raises:
        InvalidRequestError: Names the kind or the size, and the limit.
    """
    if not url.startswith("data:"):
        return
    head, _, data = url.partition(",")
    kind = head.removeprefix("data:").partition(";")[0].lower()
    if kind not in _IMAGE_KINDS:
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
