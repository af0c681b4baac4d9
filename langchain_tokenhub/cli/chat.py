"""`tokenhub chat`: one answer, or a conversation."""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from langchain_tokenhub.cli.console import Console, Words, from_stdin
from langchain_tokenhub.cli.exit_codes import UsageError, failed
from langchain_tokenhub.cli.parser import add_connection, add_output, connection
from langchain_tokenhub.errors import TokenHubError
from langchain_tokenhub.jobs.media_types import HEAD, MEDIA_TYPES, media_type_of

MODEL = os.environ.get("TOKENHUB_MODEL") or "hy3"
"""The service's own model, unless the environment names another."""
_FIELDS = ("temperature", "max_tokens", "reasoning_effort", "thinking")


def add_chat(parser: argparse.ArgumentParser, words: Words, arguments: Sequence[str]) -> None:
    """Add the options of `tokenhub chat`."""
    del arguments
    add = parser.add_argument
    add("prompt", nargs="*", help=words("prompt-chat"))
    add("-m", "--model", default=MODEL, metavar="MODEL", help=words("model", default=MODEL))
    add("--system", metavar="TEXT", help=words("system"))
    add("--image", action="append", default=[], metavar="FILE", help=words("chat-image"))
    switch = argparse.BooleanOptionalAction
    add("--think", dest="thinking", action=switch, default=None, help=words("think"))
    add("--effort", dest="reasoning_effort", metavar="WORD", help=words("effort"))
    add("--show-thinking", action="store_true", help=words("show-thinking"))
    add("--temperature", type=float, metavar="NUMBER", help=words("temperature"))
    add("--max-tokens", type=int, metavar="N", help=words("max-tokens"))
    add("--usage", action="store_true", help=words("usage-option"))
    add_output(parser, words)
    add_connection(parser, words)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer the prompt; or talk, where there is none and somebody sits at the terminal."""
    from langchain_tokenhub.chat_models import ChatTokenHub

    given = {name: getattr(options, name) for name in _FIELDS}
    fields = {name: value for name, value in given.items() if value is not None}
    talk = Talk(
        console, ChatTokenHub(model=options.model, **fields, **connection(options)), options
    )
    if not options.prompt and sys.stdin.isatty():
        return talk.converse(_typed(console))
    prompt = _prompt(options.prompt)
    if not prompt and not options.image:
        raise UsageError(console.words("nothing-said"))
    talk.ask(_content(prompt, options.image))
    return 0


class Talk:
    """A conversation: what was said so far, and how answers are shown."""

    def __init__(self, console: Console, model: Any, options: argparse.Namespace) -> None:
        self._console = console
        self._model = model
        self._options = options
        self._begin()

    def _begin(self) -> None:
        system = self._options.system
        self._said: list[Any] = [("system", system)] if system else []

    def ask(self, content: Any) -> None:
        """Stream the answer to `content`; what fails or is stopped is not remembered."""
        from langchain_core.messages import HumanMessage

        asked = HumanMessage(content=content)
        answer = self._answer([*self._said, asked])
        self._said += [asked, answer]
        if self._console.as_json:
            self._console.data(_plain(answer))
        if self._options.usage and answer.usage_metadata:
            self._console.note(_usage(self._console.words, answer.usage_metadata))

    def _answer(self, messages: list[Any]) -> Any:
        whole: Any = None
        with closing(Pen(self._console, aloud=self._options.show_thinking)) as pen:
            for chunk in self._model.stream(messages):
                whole = chunk if whole is None else whole + chunk
                pen.think(chunk.additional_kwargs.get("reasoning_content") or "")
                pen.write(chunk.text)
        return whole

    def converse(self, lines: Iterator[str]) -> int:
        """Answer line by line; an error ends an answer, not the conversation."""
        self._console.note(self._console.words("repl", model=self._options.model))
        for line in lines:
            if line == "/clear":
                self._begin()
            elif line:
                self._turn(line)
        return 0

    def _turn(self, line: str) -> None:
        try:
            self.ask(line)
        except KeyboardInterrupt:
            self._console.note(self._console.words("stopped"))
        except TokenHubError as error:
            failed(self._console, error, self._options)


class Pen:
    """Writes an answer as it comes: its thinking to stderr, the rest to stdout."""

    def __init__(self, console: Console, *, aloud: bool) -> None:
        self._console = console
        self._aloud = aloud
        self._thinking = False
        self._writing = False

    def think(self, text: str) -> None:
        """Write a piece of the thinking, if it is wanted."""
        if text and self._aloud:
            self._console.write_status(text)
            self._thinking = True

    def write(self, text: str) -> None:
        """Write a piece of the answer."""
        if not text or self._console.as_json:
            return
        self._rest()
        self._console.stream(text)
        self._writing = True

    def close(self) -> None:
        """End the line."""
        self._rest()
        if self._writing:
            self._console.stream("\n")

    def _rest(self) -> None:
        if self._thinking:
            self._console.write_status("\n\n")
            self._thinking = False


def _typed(console: Console) -> Iterator[str]:
    """Yield what is typed, until Ctrl-D or Ctrl-C at the prompt."""
    with suppress(ImportError):  # not on Windows
        import readline  # noqa: F401 - makes `input` editable
    while True:
        try:
            yield input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            console.note("")
            return


def _prompt(given: Sequence[str]) -> str:
    if not given:
        return from_stdin()
    return " ".join(from_stdin() if word == "-" else word for word in given)


def _content(prompt: str, images: Sequence[str]) -> Any:
    if not images:
        return prompt
    text = [{"type": "text", "text": prompt}] if prompt else []
    return [*map(_picture, images), *text]


def _picture(place: str) -> dict[str, Any]:
    """Return a picture as a content block."""
    if place.startswith(("http://", "https://", "data:")):
        return {"type": "image", "url": place}
    data = Path(place).expanduser().read_bytes()
    kind = MEDIA_TYPES.get(media_type_of(data[:HEAD]) or "", "application/octet-stream")
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": kind}


def _plain(answer: Any) -> dict[str, Any]:
    """Return an answer as plain data."""
    return {
        "model": answer.response_metadata.get("model_name"),
        "content": answer.text,
        "thinking": answer.additional_kwargs.get("reasoning_content"),
        "finish_reason": answer.response_metadata.get("finish_reason"),
        "request_id": answer.response_metadata.get("request_id"),
        "usage": answer.usage_metadata,
    }


def _usage(words: Words, usage: Any) -> str:
    return words(
        "tokens",
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cached=usage.get("input_token_details", {}).get("cache_read", 0),
        reasoning=usage.get("output_token_details", {}).get("reasoning", 0),
    )
