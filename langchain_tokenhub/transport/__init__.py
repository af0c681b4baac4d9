"""The transport: sends all requests of this package, and does all of its waiting.

A `Transport` is an `Endpoint` (hosts, key, retries) over a `Runtime` (sync or async). It handles
bytes, JSON and events, and is independent of LangChain, chat and jobs.

Names are loaded on first use, so that creating a model does not import httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokenhub._lazy import loader

if TYPE_CHECKING:
    from langchain_tokenhub.transport.calls import (
        Answer,
        Call,
        Endpoint,
        Events,
        SendState,
        Timeouts,
    )
    from langchain_tokenhub.transport.runtime import (
        AsyncRuntime,
        Runtime,
        SyncRuntime,
        iterate_sync,
        run_sync,
    )
    from langchain_tokenhub.transport.transport import Transport

__all__ = ["Answer", "AsyncRuntime", "Call", "Endpoint", "Events", "Runtime", "SendState"]
__all__ += ["SyncRuntime", "Timeouts", "Transport", "iterate_sync", "run_sync"]

_MODULES = {
    "runtime": "AsyncRuntime Runtime SyncRuntime iterate_sync run_sync",
    "transport": "Transport",
}
__getattr__ = loader(__name__, __all__, "calls", _MODULES)
