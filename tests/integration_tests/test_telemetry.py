"""Spans, metrics and trace headers, with OpenTelemetry's SDK and the instrumentors of LangChain."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langsmith import Client
from openinference.instrumentation.langchain import LangChainInstrumentor as OpenInference
from opentelemetry import baggage, context, metrics, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_tokenhub import (
    ChatTokenHub,
    JobFailedError,
    JobTimeoutError,
    SubmissionUnknownError,
    TokenHubEmbeddings,
    TokenHubImageTool,
    TokenHubJobTool,
    TokenHubVideoTool,
)
from langchain_tokenhub.catalogue import estimate_price

PROMPT = "只有这个测试知道的一句提示词"
ROOT = Path(__file__).parents[2]
OURS = "langchain_tokenhub"
PRICE = estimate_price("hy-image-v3.0", {})
TOKENS = "gen_ai.client.token.usage"


@pytest.fixture
def provider(monkeypatch):
    made = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: made)
    return made


@pytest.fixture
def exported(provider):
    """Return the spans that have ended: `exported()`."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter.get_finished_spans


@pytest.fixture
def ours(exported):
    """Return the package's own spans."""
    return lambda: [s for s in exported() if s.instrumentation_scope.name == OURS]


@pytest.fixture
def reader(monkeypatch):
    made = InMemoryMetricReader()
    meters = MeterProvider([made])
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    return made


@pytest.fixture
def stepped(hub):
    """Return options of a tool whose job is queued, in progress and completed, one a poll."""
    hub.speed = 0
    hub.advance(1)
    return {
        "progress": lambda job: hub.advance({"queued": 2, "in_progress": 60}.get(job.status, 0))
    }


def points(reader):
    """Return each point by metric: `{name: [(value, attributes)]}`."""
    data = reader.get_metrics_data()
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "value", None)
                    value = point.sum if value is None else value
                    found.setdefault(metric.name, []).append((value, dict(point.attributes)))
    return found


def names(span):
    return [event.name for event in span.events]


# --- spans ----------------------------------------------------------------------------------------


def test_generate_is_one_span_with_an_event_for_each_state(ours, stepped, call, tmp_path):
    made = call(TokenHubImageTool(save_to=tmp_path, **stepped), "generate", prompt=PROMPT)
    (span,) = ours()
    assert span.name == "generate_content hy-image-v3.0"
    assert span.kind is trace.SpanKind.CLIENT
    assert names(span) == ["submitted", "started", "completed", "saved"]
    assert sorted(event.timestamp for event in span.events) == [e.timestamp for e in span.events]
    known = dict(span.attributes)
    assert known.pop("tokenhub.job.queue_seconds") + known.pop(
        "tokenhub.job.run_seconds"
    ) == pytest.approx(known.pop("tokenhub.job.seconds"), abs=0.01)
    assert known == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "tokenhub",
        "gen_ai.request.model": "hy-image-v3.0",
        "gen_ai.response.id": made.job.id,
        "server.address": "127.0.0.1",
        "server.port": int(made.job.host.rpartition(":")[2]),
        "tokenhub.job.id": made.job.id,
        "tokenhub.job.kind": "image",
        "tokenhub.job.status": "completed",
        "tokenhub.job.price_low": PRICE.low,
        "tokenhub.job.price_high": PRICE.high,
        "tokenhub.request_id": made.job.request_id,
    }


def test_submit_and_result_are_a_span_each(ours, stepped, hub, call, tmp_path):
    video = TokenHubVideoTool(save_to=tmp_path, **stepped)
    job = call(video, "submit", prompt=PROMPT)
    call(video, "result", job)
    submit, result = ours()
    assert (submit.name, names(submit)) == ("submit hy-video-1.5", ["submitted"])
    assert (result.name, names(result)) == (
        "result hy-video-1.5",
        ["started", "completed", "saved"],
    )
    assert {s.attributes["tokenhub.job.id"] for s in (submit, result)} == {job.id}
    assert "tokenhub.job.price_high" in submit.attributes
    assert "tokenhub.job.price_high" not in result.attributes


def test_each_of_many_results_is_a_span(ours, hub, call):
    video = TokenHubVideoTool()
    jobs = [call(video, "submit", prompt=f"{PROMPT}{n}") for n in range(3)]
    call(video, "results", jobs)
    results = [span for span in ours() if span.name.startswith("result")]
    assert {span.attributes["tokenhub.job.id"] for span in results} == {job.id for job in jobs}
    assert all(names(span)[-1] == "completed" for span in results)


def test_a_model_that_answers_at_once_is_completed_without_a_start(ours, hub, call):
    call(TokenHubImageTool(model="hy-image-lite"), "generate", prompt=PROMPT)
    (span,) = ours()
    assert names(span) == ["submitted", "completed"]
    assert "tokenhub.job.queue_seconds" not in span.attributes


def test_a_resumed_call_is_not_submitted_and_has_no_price(ours, reader, hub, call, tmp_path):
    image = TokenHubImageTool(ledger=tmp_path)
    for _ in range(2):
        call(image, "generate", prompt=PROMPT)
    _, resumed = ours()
    assert not resumed.events
    assert "tokenhub.job.price_high" not in resumed.attributes
    ((jobs, _),) = points(reader)["tokenhub.jobs"]
    assert jobs == 1


def test_a_start_that_nobody_saw_is_not_guessed(ours, hub, call):
    image = TokenHubImageTool()
    job = call(image, "submit", prompt=PROMPT)
    hub.speed = 0
    old = job.model_copy(update={"submitted_at": job.submitted_at.replace(year=2020)})
    hub.advance(2)
    with pytest.raises(JobTimeoutError):
        call(image, "result", old, wait_timeout=0.1)
    assert not ours()[-1].events


# --- failures -------------------------------------------------------------------------------------


def test_a_failed_job_has_its_class_and_code_and_no_text(ours, hub, call):
    hub.fail("job")
    with pytest.raises(JobFailedError) as failed:
        call(TokenHubImageTool(), "generate", prompt=PROMPT)
    (span,) = ours()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description is None
    assert names(span)[-1] == "failed"
    assert span.attributes["error.type"] == type(failed.value).__name__
    assert span.attributes.get("tokenhub.error.code") == failed.value.code
    assert span.attributes["tokenhub.job.status"] == "failed"


def test_a_lost_submit_and_a_wait_that_ends_are_errors(ours, hub, call):
    hub.fail("lost-answer")
    with pytest.raises(SubmissionUnknownError):
        call(TokenHubImageTool(), "generate", prompt=PROMPT)
    hub.speed = 0
    with pytest.raises(JobTimeoutError):
        call(TokenHubVideoTool(), "generate", prompt=PROMPT, wait_timeout=0.1)
    lost, late = ours()
    assert lost.attributes["error.type"] == "SubmissionUnknownError"
    assert not lost.events
    assert late.attributes["error.type"] == "JobTimeoutError"
    assert late.attributes["tokenhub.job.status"] == "queued"


async def test_a_cancelled_call_is_an_error(ours, hub):
    hub.speed = 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(TokenHubImageTool().agenerate(prompt=PROMPT), 0.3)
    (span,) = ours()
    assert span.attributes["error.type"] == "CancelledError"
    assert names(span) == ["submitted"]


def test_no_prompt_link_or_key_is_exported(exported, reader, hub, call, tmp_path):
    video = TokenHubVideoTool(save_to=tmp_path)
    link = "https://example.com/a.png?sign=canary-of-a-link"
    call(video, "generate", prompt=PROMPT, image=link)
    for fault in ("job", "refuse", "lost-answer", "status"):
        hub.fail(fault, times=9) if fault == "status" else hub.fail(fault)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
            call(video, "generate", prompt=PROMPT, image=link)
        hub.recover()
    whole = "".join(span.to_json() for span in exported()) + reader.get_metrics_data().to_json()
    assert len(exported()) == 5
    for secret in (PROMPT, json.dumps(PROMPT), "canary", "sign=", "http"):
        assert secret not in whole


def test_a_processor_that_fails_does_not_stop_a_job(provider, hub, call, caplog):
    class Failing(SpanProcessor):
        def on_start(self, span, parent_context=None):
            raise RuntimeError

        def on_end(self, span):
            raise RuntimeError

    provider.add_span_processor(Failing())
    assert call(TokenHubImageTool(), "generate", prompt=PROMPT).files
    assert "telemetry failed" in caplog.text


# --- trace headers --------------------------------------------------------------------------------


def traceparents(hub):
    return {request.path: request.headers.get("traceparent") for request in hub.requests}


def test_every_request_names_the_span_of_its_job_but_no_file_request_does(
    ours, hub, call, tmp_path
):
    call(TokenHubImageTool(save_to=tmp_path), "generate", prompt=PROMPT)
    (span,) = ours()
    sent = traceparents(hub)
    files = {path for path in sent if not path.startswith("/v1/")}
    assert files
    for path, header in sent.items():
        assert (header is None) == (path in files)
        assert header is None or header.split("-")[2] == f"{span.context.span_id:016x}"


def test_a_chat_inside_a_span_names_it_and_sends_no_baggage(provider, hub, call):
    token = context.attach(baggage.set_baggage("user.email", "somebody"))
    try:
        with trace.get_tracer("app").start_as_current_span("outer") as outer:
            call(ChatTokenHub(model="hy3"), "invoke", "hi")
        call(ChatTokenHub(model="hy3"), "invoke", "hi")
    finally:
        context.detach(token)
    inside, outside = hub.requests
    assert inside.headers["traceparent"].split("-")[2] == f"{outer.context.span_id:016x}"
    assert "baggage" not in inside.headers
    assert "traceparent" not in outside.headers


def test_the_callers_own_traceparent_wins(provider, hub, call):
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with trace.get_tracer("app").start_as_current_span("outer"):
        call(ChatTokenHub(model="hy3", default_headers={"Traceparent": own}), "invoke", "hi")
    assert hub.requests[0].headers["traceparent"] == own


class Propagator(TextMapPropagator):
    """A propagator that sets more than the span."""

    fields = frozenset()

    def extract(self, carrier, context=None, getter=None):
        return context

    def inject(self, carrier, context=None, setter=None):
        carrier |= {"X-Trace": "1", "X-User": "José", "Host": "b.test", "Content-Length": "3"}
        carrier |= {
            "Transfer-Encoding": "chunked",
            "Authorization": "Basic x",
            "X-B": "a\r\nX-C: d",
        }


def test_a_propagator_changes_neither_the_request_nor_its_key(provider, hub, call, monkeypatch):
    monkeypatch.setattr(propagate, "inject", Propagator().inject)
    with trace.get_tracer("app").start_as_current_span("outer"):
        call(ChatTokenHub(model="hy3"), "invoke", "hi")
    (request,) = hub.requests
    assert request.headers["x-trace"] == "1"
    assert request.headers["authorization"].startswith("Bearer ")
    assert not {"x-user", "x-b", "x-c", "transfer-encoding"} & set(request.headers)


# --- metrics --------------------------------------------------------------------------------------


def test_jobs_are_counted_by_state_with_their_seconds_and_price(reader, stepped, hub, call):
    image = TokenHubImageTool(**stepped)
    call(image, "generate", prompt=PROMPT)
    hub.fail("job")
    with pytest.raises(JobFailedError):
        call(image, "generate", prompt=PROMPT)
    found = points(reader)
    common = {
        "gen_ai.provider.name": "tokenhub",
        "gen_ai.request.model": "hy-image-v3.0",
        "tokenhub.job.kind": "image",
    }
    counted = {a.pop("tokenhub.job.status"): (value, a) for value, a in found["tokenhub.jobs"]}
    assert counted == {"completed": (1, common), "failed": (1, common)}
    assert found["tokenhub.job.estimated_cost"] == [(2 * PRICE.high, common)]
    assert found["tokenhub.job.queue.duration"][0][0] > 0
    assert found["tokenhub.job.run.duration"][0][0] > 0


def test_a_job_is_counted_once_however_often_it_is_collected(reader, hub, call):
    video = TokenHubVideoTool()
    jobs = [call(video, "submit", prompt=f"{PROMPT}{n}") for n in range(2)]
    call(video, "results", jobs)
    call(video, "results", jobs)
    call(video, "result", jobs[0])
    call(TokenHubJobTool(), "invoke", {"action": "collect", "job_id": jobs[0].id})
    assert [value for value, _ in points(reader)["tokenhub.jobs"]] == [2]


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_a_chat_records_its_tokens(reader, hub, call, verb):
    said = call(ChatTokenHub(model="hy3"), verb, "hi")
    usage = (said if verb == "invoke" else sum(said[1:], said[0])).usage_metadata
    found = {a["gen_ai.token.type"]: (value, a) for value, a in points(reader)[TOKENS]}
    assert found["input"][0] == usage["input_tokens"]
    assert found["output"][0] == usage["output_tokens"]
    assert found["input"][1] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "tokenhub",
        "gen_ai.request.model": "hy3",
        "gen_ai.token.type": "input",
    }


def test_embeddings_record_their_tokens(reader, hub, call):
    call(TokenHubEmbeddings(), "embed_documents", ["一", "二"])
    ((tokens, attributes),) = points(reader)[TOKENS]
    assert tokens > 0
    assert attributes["gen_ai.operation.name"] == "embeddings"


# --- in a LangChain trace -------------------------------------------------------------------------


@pytest.fixture
def open_inference(provider):
    OpenInference().instrument(tracer_provider=provider)
    yield
    OpenInference().uninstrument()


def by_name(spans):
    return {span.name: span for span in spans}


def test_a_job_is_a_child_of_openinferences_tool_span(
    exported, open_inference, stepped, call, tmp_path
):
    call(TokenHubImageTool(save_to=tmp_path, **stepped), "invoke", {"prompt": PROMPT})
    spans = by_name(exported())
    job, run = spans["generate_content hy-image-v3.0"], spans["tokenhub_image"]
    assert job.parent.span_id == run.context.span_id
    metadata = json.loads(run.attributes["metadata"])
    assert {name: metadata[name] for name in job.attributes} == dict(job.attributes)
    assert "tokenhub.job.run_seconds" in metadata


def test_a_span_opened_inside_the_tool_is_the_nearer_parent(exported, open_inference, hub):
    @tool
    def draw(prompt: str) -> str:
        """画图。"""
        with trace.get_tracer("app").start_as_current_span("inner"):
            return str(TokenHubImageTool().generate(prompt=prompt))

    with trace.get_tracer("app").start_as_current_span("outer"):
        draw.invoke({"prompt": PROMPT})
    spans = by_name(exported())
    job = spans["generate_content hy-image-v3.0"]
    assert job.parent.span_id == spans["inner"].context.span_id


def test_a_job_is_a_child_of_openllmetrys_tool_span(hub):
    script = ROOT / "tests" / "data" / "clients" / "openllmetry.py"  # it cannot be taken out again
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spans = [json.loads(line) for line in done.stdout.splitlines()]
    runs = {span["id"] for span in spans if span["name"] == "execute_tool tokenhub_image"}
    jobs = [span for span in spans if span["name"] == "generate_content hy-image-v3.0"]
    assert {span["parent"] for span in jobs} == runs
    assert len(jobs) == 2


@pytest.fixture
def langsmith(peer, provider):
    """Make a tracer whose runs come to `langsmith.runs()`, or are exported as spans."""

    async def accept(connection, request):
        await connection.json({}, 202)

    def tracer(mode):
        client = Client(
            peer.url,
            api_key="any",
            auto_batch_tracing=mode == "otel",
            tracing_mode=mode,
            otel_tracer_provider=provider,
            info={},
        )
        clients.append(client)
        return LangChainTracer(client=client)

    clients, peer.answer = [], accept
    yield tracer
    for client in clients:
        client.close()


def test_a_langsmith_run_of_a_tool_has_the_facts_of_its_job(ours, langsmith, peer, stepped, call):
    image = TokenHubImageTool(**stepped)
    call(image, "invoke", {"prompt": PROMPT}, {"callbacks": [langsmith("langsmith")]})
    (span,) = ours()
    ended = [json.loads(request.body) for request in peer.requests if request.method == "PATCH"]
    (run,) = [run for run in ended if run["run_type"] == "tool"]
    metadata = run["extra"]["metadata"]
    assert {name: metadata[name] for name in span.attributes} == dict(span.attributes)


def test_a_job_is_in_the_trace_that_langsmith_exports(exported, langsmith, hub, call):
    tracer = langsmith("otel")
    with trace.get_tracer("app").start_as_current_span("outer") as outer:
        call(TokenHubImageTool(), "invoke", {"prompt": PROMPT}, {"callbacks": [tracer]})
    tracer.client.flush()
    spans = by_name(exported())
    job, run = spans["generate_content hy-image-v3.0"], spans["tokenhub_image"]
    assert job.parent.span_id == run.parent.span_id == outer.context.span_id
    name = "langsmith.metadata.tokenhub.job.id"
    assert run.attributes[name] == job.attributes["tokenhub.job.id"]


def test_a_failed_call_in_a_trace_says_which_job_and_why(ours, langsmith, peer, hub, call):
    hub.fail("job")
    with pytest.raises(JobFailedError):
        call(
            TokenHubImageTool(),
            "invoke",
            {"prompt": PROMPT},
            {"callbacks": [langsmith("langsmith")]},
        )
    metadata = json.loads(peer.requests[-1].body)["extra"]["metadata"]
    assert metadata["error.type"] == "JobBlockedError"
    assert metadata["tokenhub.job.id"] == next(iter(hub.jobs))


# --- without OpenTelemetry ------------------------------------------------------------------------

BLOCKED = """
import sys
sys.modules["opentelemetry"] = None
from langchain_tokenhub import ChatTokenHub, TokenHubImageTool
ChatTokenHub(model="hy3").invoke("hi")
print(len(TokenHubImageTool().generate(prompt="hi").files))
"""


def test_all_works_where_opentelemetry_is_absent(hub):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "1", done.stderr
    assert not any("traceparent" in request.headers for request in hub.requests)


def test_this_package_alone_imports_no_opentelemetry():
    code = "import sys, langchain_tokenhub.telemetry; print('opentelemetry.trace' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
