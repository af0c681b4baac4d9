"""What is heard of a stream: values, an end, a complaint, or nothing for too long. Never waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from pydantic_core import from_json

from langchain_tokenhub.errors import APITimeoutError, IncompleteStreamError, TokenHubError
from langchain_tokenhub.transport.calls import Patience
from langchain_tokenhub.transport.events import EventDecoder
from langchain_tokenhub.transport.verdicts import values_of

Batch = list[Any]
"""The values of the events that came together."""


class Ear:
    """Hears a stream: its values, its end, its complaint, and how long it says nothing."""

    def __init__(
        self, response: httpx.Response, patience: Patience, now: Callable[[], float]
    ) -> None:
        self._response, self._patience, self._now = response, patience, now
        self._decoder = EventDecoder()
        self._heard, self._limit = now(), patience.first
        self._failure: TokenHubError | None = None
        self.stopped = False

    def hear(self, piece: bytes) -> Batch:
        """Return the values that `piece` completes; what comes before a complaint is one."""
        values: Batch = []
        for name, data in self._decoder.feed(piece):
            try:
                value = from_json(data)
            except ValueError:
                value = None
            if type(value) is dict and "choices" in value and not name:
                values.append(value)  # as nearly all are
            else:
                self._odd(name, data, values)
            if self.stopped:
                return values
        if not values:
            self._check_silence()
        return values

    def _odd(self, name: bytes, data: bytes, values: Batch) -> None:
        """Take an event that is no chunk of a completion."""
        if data.strip() == b"[DONE]":
            self.stopped = True
            return
        try:
            values += values_of(name, data, self._response)
        except TokenHubError as error:
            self.stopped, self._failure = True, error

    def rest(self) -> None:
        """Start the clock again; the time that the reader took is not the service's."""
        self._heard, self._limit = self._now(), self._patience.content

    def judge(self) -> None:
        """Raise what is wrong with how the stream ended."""
        if self._failure is not None:
            raise self._failure
        if not self.stopped:
            where = " inside an event" if self._decoder.pending else ""
            raise IncompleteStreamError(
                f"the stream ended{where} without `[DONE]`", phase="streaming"
            )

    def _check_silence(self) -> None:
        if self._limit is not None and self._now() - self._heard > self._limit:
            raise APITimeoutError(
                f"the stream was kept alive for {self._limit:g} s and said nothing",
                phase="streaming",
                hint="raise `timeout` if the model may think that long",
            )
