"""The one transport: everything that this package sends, and all of its waiting.

A `Transport` is an `Endpoint` (which hosts, whose key, how patient) over a wire (sync or async).
It knows bytes, JSON and events; it knows nothing of LangChain, of chat or of jobs.

Names are loaded when they are first used: whoever only makes a model need not wait for httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader

if TYPE_CHECKING:
    from langchain_tokenhub.transport.calls import Answer, Call, Endpoint, Patience
    from langchain_tokenhub.transport.progress import Progress
    from langchain_tokenhub.transport.stepping import drain, finish
    from langchain_tokenhub.transport.transport import Transport
    from langchain_tokenhub.transport.wire import AsyncWire, SyncWire, Wire

__all__ = [
    "Answer",
    "AsyncWire",
    "Call",
    "Endpoint",
    "Patience",
    "Progress",
    "SyncWire",
    "Transport",
    "Wire",
    "drain",
    "finish",
]

__getattr__ = loader(
    __name__,
    {
        "calls": ("Answer", "Call", "Endpoint", "Patience"),
        "progress": ("Progress",),
        "stepping": ("drain", "finish"),
        "transport": ("Transport",),
        "wire": ("AsyncWire", "SyncWire", "Wire"),
    },
)
