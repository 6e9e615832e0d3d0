"""Spans for OpenTelemetry, one a request and one a stage, where its API is installed and a provider is set."""

from __future__ import annotations

import time
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thresher.records import Usage


@cache
def _installed() -> bool:
    return find_spec("opentelemetry") is not None


def trace(name: str, started: float, attributes: dict[str, str | int], usage: Usage | None = None) -> None:
    """Report a request that has been answered, and its stages one after the other.

    Args:
        name: method and route.
        started: when it arrived, by `time.perf_counter`.
        attributes: of the request; no texts.
        usage: its stages.
    """
    if not _installed():
        return
    from opentelemetry import trace as api

    tracer = api.get_tracer("thresher")
    now, spent = time.time_ns(), int((time.perf_counter() - started) * 1e9)
    span = tracer.start_span(name, start_time=now - spent, attributes=attributes, kind=api.SpanKind.SERVER)
    if span.is_recording() and usage is not None:
        within = api.set_span_in_context(span)
        at = now - spent + max(0, spent - int(sum(stage.seconds for stage in usage.stages) * 1e9))
        for stage in usage.stages:
            end = at + int(stage.seconds * 1e9)
            counts = {f"thresher.{key}": value for key, value in stage.counts.items()}
            tracer.start_span(stage.stage, context=within, start_time=at, attributes=counts).end(end)
            at = end
    span.end(now)
