"""Spans, metrics and trace headers by OpenTelemetry's API, for programs that use it.

OpenTelemetry is used only where the program has imported it; elsewhere nothing is done.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from langchain_tokenhub._version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span

logger = logging.getLogger("langchain_tokenhub.telemetry")

SCOPE = "langchain_tokenhub"
PROVIDER = {"gen_ai.provider.name": "tokenhub"}

TOKENS = "gen_ai.client.token.usage"
JOBS = "tokenhub.jobs"
QUEUE_SECONDS = "tokenhub.job.queue.duration"
RUN_SECONDS = "tokenhub.job.run.duration"
COST = "tokenhub.job.estimated_cost"

_NOT_FORWARDED = frozenset(
    {"baggage"}  # it is meant for the program's own services
    | {"authorization", "host", "content-length", "transfer-encoding", "connection"}
)
"""Headers that a propagator cannot set."""
_COUNTERS = {
    JOBS: ("{job}", "Jobs that were seen to end, by their state"),
    COST: ("CNY", "Estimated price of the submitted jobs, the upper end"),
}
_HISTOGRAMS: dict[str, tuple[str, str, list[float] | None]] = {
    TOKENS: ("{token}", "Tokens of a request", [4.0**power for power in range(14)]),
    QUEUE_SECONDS: ("s", "From the submit to the start", None),
    RUN_SECONDS: ("s", "From the start to the end", None),
}


class _ErrorLog(AbstractContextManager[None]):
    """Logs errors of telemetry: the call continues."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if isinstance(error, Exception):
            logger.warning("telemetry failed; the call continues", exc_info=error)
        return isinstance(error, Exception)


LOG_ERRORS = _ErrorLog()
"""Is entered for each step of telemetry."""


def trace_headers() -> dict[str, str]:
    """Return the headers that name the current span, without those that are not the span's."""
    trace = sys.modules.get("opentelemetry.trace")
    headers: dict[str, str] = {}
    if trace is None:
        return headers
    with LOG_ERRORS:
        span = trace.get_current_span()
        if span is not trace.INVALID_SPAN and span.get_span_context().is_valid:
            from opentelemetry.propagate import inject

            carrier: dict[str, str] = {}
            inject(carrier)
            headers = {k.lower(): v for k, v in carrier.items() if _is_sendable(k.lower(), v)}
    return headers


def _is_sendable(name: str, value: str) -> bool:
    text = name + value
    return name not in _NOT_FORWARDED and text.isascii() and text.isprintable()


@contextmanager
def current_span(
    name: str, attributes: Mapping[str, Any], *, parent: Callable[[], Context], started_at: int
) -> Iterator[Span | None]:
    """Make a span current; None where the program has no OpenTelemetry.

    Args:
        name: The span's name.
        attributes: What a sampler may read.
        parent: Returns the context of the parent.
        started_at: When it began, in nanoseconds since 1970.
    """
    trace = sys.modules.get("opentelemetry.trace")
    span = None
    if trace is not None:
        with LOG_ERRORS:
            span = trace.get_tracer(SCOPE, __version__).start_span(
                name,
                context=parent(),
                kind=trace.SpanKind.CLIENT,
                attributes=attributes,
                start_time=started_at,
            )
    if trace is None or span is None:
        yield None
        return
    try:
        # the text of an error may quote the prompt
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except BaseException:
        with LOG_ERRORS:
            span.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        with LOG_ERRORS:
            span.end()


def record(name: str, value: float | None, attributes: Mapping[str, Any]) -> None:
    """Record a value of the metric `name`; None is not recorded."""
    metrics = sys.modules.get("opentelemetry.metrics")
    if metrics is None or value is None:
        return
    with LOG_ERRORS:
        _recorder(metrics.get_meter_provider(), name)(value, {**PROVIDER, **attributes})


def record_tokens(operation: str, model: str, usage: Mapping[str, Any] | None) -> None:
    """Record the tokens of a request.

    Args:
        operation: `chat` or `embeddings`.
        model: Model id as sent.
        usage: `input_tokens` and `output_tokens`, where they are known.
    """
    attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": model}
    for kind in ("input", "output"):
        count = usage.get(f"{kind}_tokens") if usage else None
        record(TOKENS, count, {**attributes, "gen_ai.token.type": kind})


@functools.lru_cache(maxsize=16)
def _recorder(provider: MeterProvider, name: str) -> Callable[[float, Mapping[str, Any]], None]:
    meter = provider.get_meter(SCOPE, __version__)
    if name in _COUNTERS:
        return meter.create_counter(name, *_COUNTERS[name]).add
    unit, description, bounds = _HISTOGRAMS[name]
    return meter.create_histogram(
        name, unit, description, explicit_bucket_boundaries_advisory=bounds
    ).record
