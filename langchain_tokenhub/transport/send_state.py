"""How far a request has come: the proof that it was not sent."""

from __future__ import annotations

from typing import Any


class AbandonedError(Exception):
    """A submit was interrupted before its first byte, and must not be sent any more."""


class SendState:
    """How far a request has come, told by its lane, or by the HTTP library's trace."""

    __slots__ = (
        "_peer",
        "_target",
        "_tunnel",
        "abandoned",
        "answered",
        "body_sent",
        "handed",
        "held_back",
        "started",
        "traced",
    )

    def __init__(self) -> None:
        self.abandoned = False
        self.renew()

    def renew(self, goal: tuple[str, int] | None = None) -> None:
        """Begin anew, for another attempt at `goal` (host and port)."""
        self._target = self._peer = goal
        self._tunnel = self.handed = self.traced = self.started = self.answered = False
        self.body_sent = self.held_back = False

    @property
    def under_way(self) -> bool:
        """Whether it may have left: it began to, or somebody has it who tells nothing."""
        return self.started or (self.handed and not self.traced)

    @property
    def by_proxy(self) -> bool:
        """Whether it was somebody else than the host who was connected to."""
        return self._peer != self._target

    def begin(self) -> None:
        """Take note that the first byte is about to leave.

        Raises:
            AbandonedError: The submit was interrupted, and must not be sent any more.
        """
        self.traced = self.started = True
        self._heed()

    def hand(self) -> None:
        """Take note that the caller's own client gets it, whose transport may tell nothing.

        Raises:
            AbandonedError: The submit was interrupted, and must not be sent any more.
        """
        self.handed = True
        self._heed()

    def _heed(self) -> None:
        if self.abandoned:  # looked at after the note is made: see `SyncWire.shielded`
            raise AbandonedError("interrupted before anything was sent")

    def hold_back(self) -> None:
        """Take note that some of the body never went to the connection, and never will."""
        self.held_back = True

    def sent(self) -> None:
        """Take note that the last byte has left."""
        self.body_sent = True

    def heard(self) -> None:
        """Take note that an answer has begun."""
        self.answered = True

    def note(self, name: str, info: dict[str, Any]) -> None:
        """Take one event of the HTTP library's trace."""
        self.traced = True
        match name.partition(".")[2]:
            case "connect_tcp.started":
                self._peer = info["host"], info["port"]
            case "send_request_headers.started":
                # a proxy's tunnel is opened by a request of its own, which is not ours
                self._tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
                if not self._tunnel:
                    self.begin()
            case "send_request_body.complete":
                self.body_sent = not self._tunnel
            case "receive_response_headers.complete":
                self.answered = not self._tunnel

    async def anote(self, name: str, info: dict[str, Any]) -> None:
        """Take one event of the HTTP library's async trace, which has to be awaited."""
        self.note(name, info)
