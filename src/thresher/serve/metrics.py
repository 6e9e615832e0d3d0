"""Counts and times for Prometheus, spans for OpenTelemetry, and the access log: lines of JSON.

None of them holds texts, queries or keys. Spans are made, one a request and one a stage, where the API of OpenTelemetry
is installed and a provider is set.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thresher.records import Usage

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What a server counts. Safe to share between threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        of = {"registry": registry}
        self.requests = Counter("thresher_requests", "Requests by route and status.", ["route", "status"], **of)
        self.seconds = Histogram(
            "thresher_request_seconds", "Seconds from arrival to answer.", ["route"], buckets=_SECONDS, **of
        )
        self.stages = Histogram("thresher_stage_seconds", "Seconds by stage.", ["stage"], buckets=_SECONDS, **of)
        self.waited = Histogram("thresher_queue_seconds", "Seconds in the queue.", buckets=_SECONDS, **of)
        self.waiting = Gauge("thresher_queue_length", "Requests that wait for a worker.", **of)
        self.running = Gauge("thresher_running", "Calls that run.", **of)
        self.batches = Histogram(
            "thresher_batch_size", "Queries a batch of a model had.", ["work"], buckets=_SIZES, **of
        )
        self.refused = Counter("thresher_refused", "Requests refused, by reason.", ["reason"], **of)
        self.failures = Counter("thresher_failures", "Requests that the server failed to answer.", ["error"], **of)
        self.dropped = Counter("thresher_dropped", "Requests whose client went away.", **of)
        self.commit = Gauge("thresher_commit", "The commit an index answers from.", ["index"], **of)
        self.certificate = Gauge(
            "thresher_certificate", "1 for the state that an index's certificate is in.", ["index", "state"], **of
        )
        self.shard_seconds = Histogram(
            "thresher_shard_seconds", "Seconds that a shard took to answer.", ["index", "shard"], buckets=_SECONDS, **of
        )
        self.shard_missing = Counter(
            "thresher_shard_missing", "Answers for which a shard was missing.", ["index", "shard"], **of
        )
        self.partial = Counter(
            "thresher_partial_answers", "Answers that were sent although a shard was missing.", ["index"], **of
        )
        self.unread = Counter("thresher_refresh_failures", "Commits that could not be opened.", ["index"], **of)

    def observe(self, usage: Usage) -> None:
        """Take note of what stages took."""
        for stage in usage.stages:
            self.stages.labels(stage.stage).observe(stage.seconds)

    def batch(self, work: str, queries: int) -> None:
        """Take note of a model's batch."""
        self.batches.labels(work).observe(queries)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Take note of an answer."""
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return bytes(generate_latest(self.registry))


def log_request(fields: dict[str, object]) -> None:
    """Write a line of the access log on standard output."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


@cache
def _installed() -> bool:
    return find_spec("opentelemetry") is not None


def trace(
    name: str,
    started: float,
    attributes: dict[str, str | int],
    usage: Usage | None = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Report a request that has been answered, and its stages one after the other.

    Args:
        name: method and route.
        started: when it arrived, by `time.perf_counter`.
        attributes: of the request; no texts.
        usage: its stages.
        headers: of the request; its span becomes part of the trace that they name (`traceparent`), if any.
    """
    if not _installed():
        return
    from opentelemetry import propagate
    from opentelemetry import trace as api

    tracer = api.get_tracer("thresher")
    now, spent = time.time_ns(), int((time.perf_counter() - started) * 1e9)
    caller = propagate.extract({name.decode("latin-1"): value.decode("latin-1") for name, value in headers})
    span = tracer.start_span(
        name, context=caller, start_time=now - spent, attributes=attributes, kind=api.SpanKind.SERVER
    )
    if span.is_recording() and usage is not None:
        within = api.set_span_in_context(span)
        at = now - spent + max(0, spent - int(sum(stage.seconds for stage in usage.stages) * 1e9))
        for stage in usage.stages:
            end = at + int(stage.seconds * 1e9)
            counts = {f"thresher.{key}": value for key, value in stage.counts.items()}
            tracer.start_span(stage.stage, context=within, start_time=at, attributes=counts).end(end)
            at = end
    span.end(now)
