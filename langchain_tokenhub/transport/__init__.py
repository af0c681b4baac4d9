"""The one transport: everything that this package sends, and all of its waiting.

A `Transport` is an `Endpoint` (which hosts, whose key, how patient) over a wire (sync or async).
It knows bytes, JSON and events; it knows nothing of LangChain, of chat or of jobs.

Names are loaded when they are first used: whoever only makes a model need not wait for httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader

if TYPE_CHECKING:
    from langchain_tokenhub.transport.calls import Answer, Call, Endpoint, Timeouts
    from langchain_tokenhub.transport.runtime import AsyncRuntime, Runtime, SyncRuntime
    from langchain_tokenhub.transport.send_state import SendState
    from langchain_tokenhub.transport.sync_bridge import drain, finish
    from langchain_tokenhub.transport.transport import Transport

__all__ = [
    "Answer",
    "AsyncRuntime",
    "Call",
    "Endpoint",
    "Runtime",
    "SendState",
    "SyncRuntime",
    "Timeouts",
    "Transport",
    "drain",
    "finish",
]

__getattr__ = loader(
    __name__,
    {
        "calls": ("Answer", "Call", "Endpoint", "Timeouts"),
        "send_state": ("SendState",),
        "sync_bridge": ("drain", "finish"),
        "transport": ("Transport",),
        "runtime": ("AsyncRuntime", "Runtime", "SyncRuntime"),
    },
)
