"""`tokenhub chat`: one answer, or a conversation."""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from langchain_tokenhub.cli.console import (
    Console,
    UsageError,
    join_words,
    read_stdin,
    report_error,
)
from langchain_tokenhub.cli.parser import Parser, connection
from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.files import HEAD, MEDIA_TYPES, file_type_of

MODEL = os.environ.get("TOKENHUB_MODEL") or "hy3"
"""Default model."""
_FIELDS = ("temperature", "max_tokens", "reasoning_effort", "thinking")


def add_chat(parser: Parser) -> None:
    """Add the options of `tokenhub chat`."""
    add, text = parser.add, parser.translate("model", default=MODEL)
    add("prompt", nargs="*", text="prompt-chat")
    parser.add_argument("-m", "--model", default=MODEL, metavar="MODEL", help=text)
    add("--system", metavar="TEXT")
    add("--image", action="append", default=[], metavar="FILE", text="chat-image")
    add("--think", dest="thinking", action=argparse.BooleanOptionalAction, default=None)
    add("--effort", dest="reasoning_effort", metavar="WORD")
    add("--show-thinking", action="store_true")
    add("--temperature", type=float, metavar="NUMBER")
    add("--max-tokens", type=int, metavar="N")
    add("--usage", action="store_true", text="usage-option")
    parser.add_output()
    parser.add_connection()
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer the prompt, or hold a conversation if there is none and stdin is a terminal."""
    from langchain_tokenhub.chat_models import ChatTokenHub

    model = ChatTokenHub(model=options.model, **connection(options, *_FIELDS))
    conversation = Conversation(console, model, options)
    if not options.prompt and sys.stdin.isatty():
        return conversation.converse(_read_lines(console))
    prompt = join_words(options.prompt) if options.prompt else read_stdin()
    if not prompt and not options.image:
        raise UsageError(console.translate("no-prompt"))
    conversation.ask(_content(prompt, options.image))
    return 0


class Conversation:
    """The messages so far, and how answers are printed."""

    def __init__(self, console: Console, model: Any, options: argparse.Namespace) -> None:
        self._console = console
        self._model = model
        self._options = options
        self._clear()

    def _clear(self) -> None:
        system = self._options.system
        self._messages: list[Any] = [("system", system)] if system else []

    def ask(self, content: Any) -> None:
        """Stream the answer to `content`; a failed or interrupted turn is not kept."""
        from langchain_core.messages import HumanMessage

        question = HumanMessage(content=content)
        answer = self._answer([*self._messages, question])
        self._messages += [question, answer]
        if self._console.as_json:
            self._console.write_json(_answer_as_dict(answer))
        if self._options.usage and (usage := answer.usage_metadata):
            self._console.write_text(
                "tokens",
                input=usage["input_tokens"],
                output=usage["output_tokens"],
                cached=usage.get("input_token_details", {}).get("cache_read", 0),
                reasoning=usage.get("output_token_details", {}).get("reasoning", 0),
            )

    def _answer(self, messages: list[Any]) -> Any:
        """Stream an answer: its reasoning to stderr, the rest to stdout."""
        whole: Any = None
        end = "", sys.stdout
        try:
            for chunk in self._model.stream(messages):
                whole = chunk if whole is None else whole + chunk
                for text, stream in self._pieces(chunk):
                    if stream is not end[1]:
                        self._console.write(*end)
                    self._console.write(text, stream)
                    end = "\n\n" if stream is sys.stderr else "\n", stream
        finally:
            self._console.write(*end)
        return whole

    def _pieces(self, chunk: Any) -> Iterator[tuple[str, TextIO]]:
        """Yield the parts of a chunk, and where each is written."""
        reasoning = chunk.additional_kwargs.get("reasoning_content")
        if reasoning and self._options.show_thinking:
            yield reasoning, sys.stderr
        if chunk.text and not self._console.as_json:
            yield chunk.text, sys.stdout

    def converse(self, lines: Iterator[str]) -> int:
        """Answer each line; an error ends the turn, not the conversation."""
        self._console.write_text("repl", model=self._options.model)
        for line in lines:
            if line == "/clear":
                self._clear()
            elif line:
                try:
                    self.ask(line)
                except KeyboardInterrupt:
                    self._console.write_text("stopped")
                except TokenHubError as error:
                    report_error(self._console, error, self._options)
        return 0


def _read_lines(console: Console) -> Iterator[str]:
    """Yield the lines typed, until Ctrl-D or Ctrl-C at the prompt."""
    with suppress(ImportError):  # not on Windows
        import readline  # noqa: F401 - makes `input` editable
    while True:
        try:
            yield input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.write_message("")
            return


def _content(prompt: str, images: Sequence[str]) -> Any:
    if not images:
        return prompt
    text = [{"type": "text", "text": prompt}] if prompt else []
    return [*map(_image_block, images), *text]


def _image_block(source: str) -> dict[str, Any]:
    """Return an image as a content block."""
    if source.startswith(("http://", "https://", "data:")):
        return {"type": "image", "url": source}
    data = Path(source).expanduser().read_bytes()
    mime_type = MEDIA_TYPES.get(file_type_of(data[:HEAD]) or "", "application/octet-stream")
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": mime_type}


def _answer_as_dict(answer: Any) -> dict[str, Any]:
    """Return an answer as plain data."""
    return {
        "model": answer.response_metadata.get("model_name"),
        "content": answer.text,
        "thinking": answer.additional_kwargs.get("reasoning_content"),
        "finish_reason": answer.response_metadata.get("finish_reason"),
        "request_id": answer.response_metadata.get("request_id"),
        "usage": answer.usage_metadata,
    }
