"""How far a request has come. This is the proof that a request was not sent."""

from __future__ import annotations

from typing import Any


class SubmitCancelledError(Exception):
    """A submit was interrupted before its first byte and must not be sent any more."""


class SendState:
    """How far a request has come, reported by the connection or by the HTTP library's trace."""

    is_cancelled = False
    """Whether the submit was interrupted: a request that has not begun must not be sent."""
    body_sent = held_back = answered = False
    """Whether the last byte was sent; part of the body is never sent; an answer has begun."""

    def __init__(self) -> None:
        self.renew()

    def renew(self, target: tuple[str, int] | None = None) -> None:
        """Reset for another attempt, at `target` (host and port)."""
        self._target = self._peer = target
        self._tunnel = self.handed = self.traced = self.started = self.answered = False
        self.body_sent = self.held_back = False

    @property
    def is_under_way(self) -> bool:
        """Whether the request may have left: it started, or its transport reports nothing."""
        return self.started or (self.handed and not self.traced)

    @property
    def by_proxy(self) -> bool:
        """Whether the connection went to a proxy."""
        return self._peer != self._target

    def mark_started(self) -> None:
        """Record that the first byte is about to be sent; raise if the submit was interrupted."""
        self.traced = self.started = True
        self._check_cancelled()

    def mark_handed_over(self) -> None:
        """Record that the caller's own client takes over; its transport may report nothing."""
        self.handed = True
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        # The order matters: here the state is set before `is_cancelled` is read;
        # `SyncRuntime.shielded` sets it before it reads the state, so that one of them notices.
        if self.is_cancelled:
            self.started = self.handed = False
            raise SubmitCancelledError("interrupted before anything was sent")

    def note(self, name: str, info: dict[str, Any]) -> None:
        """Record one event of the HTTP library's trace."""
        self.traced = True
        match name.partition(".")[2]:
            case "connect_tcp.started":
                self._peer = info["host"], info["port"]
            case "send_request_headers.started":
                # the CONNECT request that opens a proxy's tunnel is not the request itself
                self._tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
                if not self._tunnel:
                    self.mark_started()
            case "send_request_body.complete":
                self.body_sent = not self._tunnel
            case "receive_response_headers.complete":
                self.answered = not self._tunnel
