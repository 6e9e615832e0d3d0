"""Spans of requests and their stages, with the real SDK of OpenTelemetry."""

import time

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("opentelemetry.sdk.trace", reason="the SDK of OpenTelemetry is not installed")


def test_a_request_is_a_span_and_each_stage_one_within_it(client):
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exported, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    trace.set_tracer_provider(provider)
    answer = client.post("/ask", json={"query": "unheard-of words about chaff"})
    spans, end = {}, time.monotonic() + 20
    while "POST /ask" not in spans and time.monotonic() < end:  # reported once the answer is sent
        spans = {span.name: span for span in exported.get_finished_spans()}
    whole = spans["POST /ask"]
    assert whole.attributes["http.status"] == 200
    stages = [stage["stage"] for stage in answer.json()["stages"]]
    assert stages == ["search", "select"]
    before = whole.start_time
    for stage in stages:
        span = spans[stage]
        assert span.parent.span_id == whole.context.span_id
        assert before <= span.start_time <= span.end_time <= whole.end_time
        before = span.end_time
    assert "unheard" not in "".join(span.to_json() for span in spans.values())
