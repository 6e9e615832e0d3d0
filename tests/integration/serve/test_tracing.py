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
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    answer = client.post("/ask", json={"query": "unheard-of words about chaff"}, headers=caller)
    client.get("/search", params={"q": "unheard-of words"})
    found, end = [], time.monotonic() + 20
    while sum(span.name.startswith(("POST", "GET")) for span in found) < 2 and time.monotonic() < end:
        found = exported.get_finished_spans()  # spans are reported once the answer is sent
    spans = {span.name: span for span in found if span.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C}
    assert sum(span.name == "POST /ask" for span in found) == 1
    whole = spans["POST /ask"]
    assert whole.parent.span_id == 0xB7AD6B7169203331
    assert whole.attributes == {
        "http.request.method": "POST", "http.route": "/ask", "http.response.status_code": 200
    }  # fmt: skip
    stages = [stage["stage"] for stage in answer.json()["stages"]]
    assert stages == ["search", "select"]
    before = whole.start_time
    for stage in stages:
        span = spans[stage]
        assert span.parent.span_id == whole.context.span_id
        assert before <= span.start_time <= span.end_time <= whole.end_time
        before = span.end_time
    assert "unheard" not in "".join(span.to_json() for span in found)
