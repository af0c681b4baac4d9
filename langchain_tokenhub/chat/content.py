"""Convert content blocks of every provider to the service's content parts. Pure.

The service takes `text`, `image_url`, `video_url` and `file_url` parts (chat completions,
multimodal input). Every other block is converted to one of them, dropped if it holds nothing for a
model, or refused by its type.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_tokenhub.catalogue import ChatModel
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
MAX_IMAGE_BYTES = 10_000_000
"""Bytes of one image."""
MAX_REQUEST_BYTES = 100_000_000
"""Bytes of a request with a video in it."""
_IMAGE_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})


def content_of(content: Any) -> str | list[Part]:
    """Return a user's content: a string if it is all text, else parts.

    Text blocks are separated by a line break.
    """
    parts = [part for block in _blocks(content) for part in _part(block)]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def text_of(content: Any, separator: str = "\n") -> str:
    """Return the text of a content, without its other blocks.

    The blocks of an assistant are one text; those of other roles are separate texts.
    """
    if isinstance(content, Mapping):
        return to_json(content)
    return separator.join(filter(None, map(_text, _blocks(content))))


def split_tool_results(content: Any) -> tuple[list[Block], list[Block]]:
    """Return the Anthropic `tool_result` blocks of a user's content, and the rest."""
    blocks = _blocks(content)
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return results, [block for block in blocks if block.get("type") != "tool_result"]


def read_result(content: Any) -> tuple[str, list[Part]]:
    """Return the text of a tool's result, one line or more for each block, and its media.

    A block without a type is the tool's own data and becomes JSON on one line, unless it holds
    only a text.
    """
    if isinstance(content, Mapping):
        return to_json(content), []
    parts = [part for block in _blocks(content) for part in _result_part(block)]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    return text, [part for part in parts if part["type"] != "text"]


def _result_part(block: Block) -> list[Part]:
    match block:
        case {"type": _}:
            return _part(block)
        case {"text": str(), **rest} if not rest:
            return _part(block)
        case _:
            return [{"type": "text", "text": to_json(block)}]


def calls_of(content: Any) -> list[tuple[str, Any, str | None]]:
    """Return name, arguments and id of the tool calls among an assistant's blocks."""
    found = []
    for block in _blocks(content):
        match block:
            case {"type": "tool_use" | "tool_call", "name": str(name)}:
                found.append((name, block.get("input", block.get("args")), block.get("id")))
    return found


def to_json(value: Any) -> str:
    """Return a value as JSON; what JSON lacks is written as its string, and an array is refused."""
    return json.dumps(value, ensure_ascii=False, default=_as_string)


def _as_string(value: Any) -> str:
    if hasattr(value, "__array__"):
        raise InvalidRequestError(
            f"content holds a {type(value).__name__}",
            hint="send numbers as a list, an image as base64",
        )
    return str(value)


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
        raise InvalidRequestError(f"a plain text is not base64: {problem}") from None


def _part(block: Block) -> list[Part]:
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
    match value:
        case str() if value:
            return _link(kind, value)
        case {"url": str(url)} if url:
            return {**_link(kind, url), kind: value}
        case _:
            raise InvalidRequestError(f"a block of type {kind!r} has no url")


def _link(kind: str, url: str) -> Part:
    """Return a part with a URL that the service can read.

    Local files are never read, because a model or a tool may have named them.
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
            raise InvalidRequestError("TokenHub does not accept file IDs of other services")
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


# -- what a model accepts -------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What a model accepts in a history, and whether it reasons in this request."""

    model: str
    row: ChatModel | None
    is_reasoning: bool

    def refuses(self, part: Part) -> bool:
        """Return True if the model is known not to accept parts of this kind."""
        known = {
            "audio": False,  # the service has no such part
            "image_url": self.row and self.row.image,
            "video_url": self.row and self.row.video,
            "file_url": self.row and self.row.accepts_files,
        }
        return known.get(part["type"]) is False

    def check(self, part: Part) -> None:
        """Refuse a part that the model or the service is known not to accept."""
        kind = part["type"].removesuffix("_url")
        if self.refuses(part):
            instead = "send a transcript" if kind == "audio" else "choose another model"
            raise InvalidRequestError(f"{self.model!r} accepts no {kind} input; {instead}")
        match part:
            case {"image_url": {"url": str(url)}} if self.row and url.startswith("data:"):
                _check_image(url)
            case {"video_url": {"url": str(url)}} if self.row and url.startswith("data:"):
                if self.row.video_by_link_only:
                    raise self._by_link_only("videos", "upload the video")
                _check_video(url)
            case {"file_url": {"url": str(url)}} if url.startswith("data:"):
                raise self._by_link_only("files", "upload it, or send its text")

    def _by_link_only(self, things: str, advice: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"{self.model!r} accepts {things} by http(s) link only; {advice}"
        )

    def echoes(self, *, with_tools: bool) -> bool:
        """Return True if reasoning goes back with an assistant's message."""
        echo = self.row.echo_reasoning if self.row else "tool_calls"
        return self.is_reasoning and (echo == "always" or (echo == "tool_calls" and with_tools))


def _check_image(url: str) -> None:
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


def _check_video(url: str) -> None:
    if len(url) > MAX_REQUEST_BYTES:
        raise InvalidRequestError(
            f"a video has {len(url) / 1e6:.0f} MB as base64, a request at most "
            f"{MAX_REQUEST_BYTES / 1e6:.0f} MB; send a link"
        )
