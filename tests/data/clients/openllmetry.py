"""Run an image tool in both faces under OpenLLMetry; print each span as a line of JSON."""

from __future__ import annotations

import asyncio
import json

from opentelemetry import trace
from opentelemetry.instrumentation.langchain import LangchainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_tokenhub import TokenHubImageTool

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
LangchainInstrumentor().instrument()

TokenHubImageTool().invoke({"prompt": "hi"})
asyncio.run(TokenHubImageTool().ainvoke({"prompt": "hi"}))
for span in exporter.get_finished_spans():
    parent = span.parent and span.parent.span_id
    print(json.dumps({"name": span.name, "id": span.context.span_id, "parent": parent}))
