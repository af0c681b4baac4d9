"""Convert content blocks of every provider to the service's content parts. Pure.

The service takes `text`, `image_url`, `video_url` and `file_url` parts (chat completions,
multimodal input). Every other block is converted to one of them, dropped if it holds nothing for a
model, or refused by its type.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_tokenhub.errors import InvalidRequestError

Part = dict[str, Any]
Block = Mapping[str, Any]

_IGNORED = frozenset(
    {"reasoning", "thinking", "redacted_thinking", "input_json_delta", "function_call"}
    | {"tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call"}
    | {"server_tool_call", "server_tool_call_chunk", "server_tool_result"}
)
"""Blocks that are sent in other fields of the message, or belong to another provider."""
_TEXT_TYPES = frozenset({"text", "text-plain", "output_text", "input_text"})
MAX_IMAGES = 20
"""Images in one request."""
MAX_IMAGE_BYTES = 10_000_000
"""Bytes of one image."""
MAX_REQUEST_BYTES = 100_000_000
"""Bytes of a request with a video in it."""
_IMAGE_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})


def content_of(content: Any) -> str | list[Part]:
    """Return a user's content: a string if it is all text, else parts.

    Text blocks are separated by a line break.
    """
    if isinstance(content, str):
        return content
    parts = [part for block in _blocks(content) for part in _part(block)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def text_of(content: Any, separator: str = "\n") -> str:
    """Return the text of a content, without its other blocks.

    Args:
        content: A string, blocks, or a tool's own value.
        separator: Text between two blocks. The blocks of an assistant are one text; those of
            other roles are separate texts.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return to_json(content)
    return separator.join(filter(None, map(_text, _blocks(content))))


def split_tool_results(content: Any) -> tuple[list[Block], Any]:
    """Return the Anthropic `tool_result` blocks of a user's content, and the rest."""
    if isinstance(content, str):
        return [], content
    blocks = _blocks(content)
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return results, [block for block in blocks if block.get("type") != "tool_result"]


def result_text(content: Any) -> str:
    """Return the text of a tool's result, one line or more for each block.

    A block without a type is the tool's own data and becomes JSON on one line, unless it holds
    only a text.
    """
    if isinstance(content, Mapping):
        return to_json(content)
    return "\n".join(filter(None, (_data(block) or _text(block) for block in _blocks(content))))


def media_of(content: Any) -> list[Part]:
    """Return the images, videos, files and audio of a content, as parts."""
    if isinstance(content, Mapping):
        return []
    blocks = [block for block in _blocks(content) if not _text(block) and not _data(block)]
    return [part for block in blocks for part in _part(block) if part["type"] != "text"]


def calls_of(content: Any) -> list[tuple[str, Any, str | None]]:
    """Return name, arguments and id of the tool calls among an assistant's blocks."""
    found = []
    for block in _blocks(content):
        match block:
            case {"type": "tool_use", "name": str(name), "input": args}:
                found.append((name, args, block.get("id")))
            case {"type": "tool_call", "name": str(name), "args": args}:
                found.append((name, args, block.get("id")))
    return found


def to_json(value: Any) -> str:
    """Return a value as JSON; what JSON lacks is written as its string.

    Raises:
        InvalidRequestError: It holds an array, whose string would be truncated.
    """
    return json.dumps(value, ensure_ascii=False, default=_as_string)


def _as_string(value: Any) -> str:
    if hasattr(value, "__array__"):
        raise InvalidRequestError(
            f"content holds a {type(value).__name__}",
            hint="send numbers as a list, an image as base64",
        )
    return str(value)


def _data(block: Block) -> str:
    """Return a block without a type as JSON; an empty string for any other block."""
    return "" if "type" in block or _is_text(block) else to_json(block)


def _is_text(block: Block) -> bool:
    return block.keys() == {"text"} and isinstance(block["text"], str)


def _blocks(content: Any) -> list[Block]:
    if isinstance(content, str | None):
        return [{"type": "text", "text": content}] if content else []
    if not isinstance(content, Sequence):
        raise InvalidRequestError(f"content is a {type(content).__name__}, not text or blocks")
    return [_block(block) for block in content]


def _block(block: Any) -> Block:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if isinstance(block, Mapping):
        return block
    raise InvalidRequestError(
        f"content holds a {type(block).__name__}, not text or blocks",
        hint='send an image as {"type": "image", "base64": …, "mime_type": "image/png"}',
    )


def _text(block: Block) -> str:
    match block:
        case {"type": kind, "text": str(text)} if kind in _TEXT_TYPES:
            return text
        case {"type": kind, "text": text} if kind in _TEXT_TYPES and text is not None:
            raise InvalidRequestError(f"a text block holds a {type(text).__name__}, not a string")
        case {"type": "file", "source_type": "text", "text": str(text)}:
            return text  # LangChain's blocks before v1
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return text  # Anthropic
        case {"type": "document", "source": {"type": "content", "content": content}}:
            return text_of(content)
        case {"text": str(text)} if "type" not in block:
            return text  # Bedrock, Google
        case {"type": "text-plain" | "file", "base64": str(data)} if _is_plain(block):
            return _decode_text(data)
        case {"type": "json", **rest}:
            return to_json(rest.get("json", rest))
        case {"type": "tool_result", "content": content}:
            return text_of(content)
        case {"type": "refusal", "refusal": str(text)}:
            return text
        case _:
            return ""


def _decode_text(data: str) -> str:
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except ValueError as problem:
        reason = str(problem)
    raise InvalidRequestError(f"a plain text is not base64: {reason}")


def _part(block: Block) -> list[Part]:
    """Return the part for a block, or none if it holds nothing for a model."""
    text = _text(block)
    if text:
        return [{"type": "text", "text": text}]
    match block:
        case {"type": "text" | "output_text" | "input_text"}:
            return []
        case {"type": "image_url" | "video_url" | "file_url" as kind}:
            return [_native_part(str(kind), block.get(kind))]
        case {"type": "image" | "input_image"}:
            return [_link("image_url", _address(block, "image/png"))]
        case {"type": "video"}:
            return [_link("video_url", _address(block, "video/mp4"))]
        case {"type": "file" | "document" | "input_file" | "text-plain"}:
            inner = block.get("file")
            file = inner if isinstance(inner, Mapping) else block
            return [_link("file_url", _address(file, "application/pdf"))]
        case {"type": "media", "mime_type": str(kind)}:
            major = kind.partition("/")[0]  # Google
            known = major in {"image", "video", "audio"}
            return _part({**block, "type": major if known else "file"})
        case {"type": "non_standard", "value": Mapping() as value}:
            return _part(value)
        case {"type": kind} if kind in _IGNORED:
            return []
        case {"type": "audio" | "input_audio" | "audio_url"}:
            return [{"type": "audio"}]  # refused with the model's name, by `Rules.check`
        case _:
            raise InvalidRequestError(
                f"cannot send a block of type {block.get('type')!r}; "
                "use text, image_url, video_url or file_url"
            )


def _native_part(kind: str, value: object) -> Part:
    """Return a part that is in the service's form already, with its URL checked."""
    match value:
        case str() if value:
            return _link(kind, value)
        case {"url": str(url)} if url:
            return {**_link(kind, url), kind: value}
        case _:
            raise InvalidRequestError(f"a block of type {kind!r} has no url")


def _link(kind: str, url: str) -> Part:
    """Return a part with a URL.

    Raises:
        InvalidRequestError: The service cannot read it. Local files are never read, because a
            model or a tool may have named them.
    """
    scheme = url.partition(":")[0].lower() if ":" in url[:32] else ""
    if scheme not in {"http", "https", "data"}:
        start = f"a {scheme}: address" if scheme.isalnum() else "a path or bare base64"
        raise InvalidRequestError(
            f"a block of type {kind!r} has {start}; the service reads http(s) links and data URLs",
            hint="read the file yourself and send its bytes: "
            '{"type": "image", "base64": …, "mime_type": "image/png"}',
        )
    return {"type": kind, kind: {"url": url}}


def _address(block: Block, media_type: str) -> str:
    """Return the URL of a block of any provider, or its bytes as a data URL."""
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
            raise InvalidRequestError("TokenHub does not know file IDs of other services")
        case {"base64": data} | {"data": data} | {"url": data}:
            raise InvalidRequestError(
                f"a block of type {block.get('type')!r} holds a {type(data).__name__}; "
                "send bytes as base64 text"
            )
        case _:
            raise InvalidRequestError(f"a block of type {block.get('type')!r} has no url or base64")


def _is_plain(block: Block) -> bool:
    kind = block.get("mime_type") or ("text/plain" if block["type"] == "text-plain" else "")
    return str(kind).startswith("text/")


# -- limits of a request --------------------------------------------------------------------------


def check_image(url: str) -> None:
    """Refuse an image, sent as a data URL, that is of another type or too large."""
    head, _, data = url.partition(",")
    kind = head.removeprefix("data:").partition(";")[0].lower()
    if kind not in _IMAGE_TYPES:
        raise InvalidRequestError(
            f"an image is of type {kind or 'unknown'}; send jpeg, png or webp"
        )
    size = len(data) * 3 // 4
    if size > MAX_IMAGE_BYTES:
        raise InvalidRequestError(
            f"an image has {size / 1e6:.1f} MB, at most {MAX_IMAGE_BYTES / 1e6:.0f} MB; "
            "make it smaller, or send a link"
        )


def check_video(url: str) -> None:
    """Refuse a video, sent as a data URL, that is too large."""
    if len(url) > MAX_REQUEST_BYTES:
        raise InvalidRequestError(
            f"a video has {len(url) / 1e6:.0f} MB as base64, a request at most "
            f"{MAX_REQUEST_BYTES / 1e6:.0f} MB; send a link"
        )


def check_image_count(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse more images than one request may hold."""
    contents = (message["content"] for message in messages)
    parts = [part for content in contents if isinstance(content, list) for part in content]
    number = sum(part["type"] == "image_url" for part in parts)
    if number > MAX_IMAGES:
        raise InvalidRequestError(
            f"the history holds {number} images, at most {MAX_IMAGES} per request",
            hint="drop the oldest ones, for instance with trim_messages",
        )
