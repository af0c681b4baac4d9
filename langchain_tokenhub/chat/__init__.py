"""Chat: LangChain's messages to request bodies, and answers to LangChain's messages. Pure.

Modules are loaded when they are first used: making a model needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock

from langchain_tokenhub._lazy import loader

if TYPE_CHECKING:
    from langchain_tokenhub.chat import (
        blocks,
        messages,
        reasoning,
        request,
        response,
        structured,
        tokens,
    )

__all__ = [
    "PROVIDER",
    "blocks",
    "messages",
    "reasoning",
    "request",
    "response",
    "structured",
    "tokens",
]

PROVIDER = "tokenhub"
"""The one name in `ls_provider` and `model_provider`: middleware trusts usage where they agree."""

__getattr__ = loader(__name__, {name: () for name in __all__ if name != "PROVIDER"})


def _blocks_of(message: AIMessage) -> list[ContentBlock]:
    from langchain_tokenhub.chat import blocks

    return blocks.blocks_of(message)


def _blocks_of_chunk(chunk: AIMessageChunk) -> list[ContentBlock]:
    from langchain_tokenhub.chat import blocks

    return blocks.blocks_of_chunk(chunk)


register_translator(PROVIDER, _blocks_of, _blocks_of_chunk)
