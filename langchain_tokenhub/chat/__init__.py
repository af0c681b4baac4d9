"""Conversion of LangChain's messages to requests, and of answers to LangChain's messages. Pure.

Modules are imported on first use: making a model needs few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import ContentBlock

from langchain_tokenhub._lazy import loader
from langchain_tokenhub.chat.provider import PROVIDER

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

__all__ = ["blocks", "messages", "reasoning", "request", "response", "structured", "tokens"]

__getattr__ = loader(__name__, (), "request", dict.fromkeys(__all__, ""))


def _blocks_of(message: AIMessage) -> list[ContentBlock]:
    from langchain_tokenhub.chat import blocks

    return blocks.blocks_of(message)


def _blocks_of_chunk(chunk: AIMessageChunk) -> list[ContentBlock]:
    from langchain_tokenhub.chat import blocks

    return blocks.blocks_of_chunk(chunk)


register_translator(PROVIDER, _blocks_of, _blocks_of_chunk)
