"""
OpenTelemetry and Prometheus count what happened, and never by key.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.log.conftest import committed, conflict, gave_up
from toolkit.log import emit


def test_prometheus_counts():
    """
    Conflicts, give-ups, durations and lost time are there under their names.
    """
    prometheus_client = pytest.importorskip("prometheus_client", reason="needs the prometheus extra")
    from toolkit.log.prometheus import instrument, uninstrument

    registry = prometheus_client.CollectorRegistry()
    hook = instrument(registry)
    emit(conflict())
    emit(conflict(key="user-18"))
    emit(committed())
    emit(gave_up())
    labels = {"op": "rename", "store": "statestore", "key_tpl": "user-{id}", "cause": "etag_mismatch"}
    ended = {"op": "rename", "store": "statestore", "result": "committed"}
    assert registry.get_sample_value("occ_conflicts_total", labels) == 2
    assert registry.get_sample_value("occ_lost_work_seconds_total", labels) == pytest.approx(0.006489)
    assert registry.get_sample_value("occ_operation_duration_seconds_count", ended) == 1
    assert (
        registry.get_sample_value(
            "occ_gave_up_total", {"op": "rename", "store": "statestore", "reason": "attempts"}
        )
        == 1
    )
    assert "user-17" not in prometheus_client.generate_latest(registry).decode()
    uninstrument(hook)
    emit(conflict())
    assert registry.get_sample_value("occ_conflicts_total", labels) is None


def points(reader: Any) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = list(metric.data.data_points)
    return found


def test_opentelemetry_counts_and_marks_the_span():
    """
    Metrics have operation, store, template and cause; the active span gets one event per event, without the key.
    """
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    from toolkit.log.otel import instrument, uninstrument

    reader = InMemoryMetricReader()
    hook = instrument(MeterProvider(metric_readers=[reader]))
    with TracerProvider().get_tracer("test").start_as_current_span("order") as span:
        emit(conflict())
        emit(committed())
        emit(gave_up())
    uninstrument(hook)
    found = points(reader)
    (conflicts,) = found["occ.conflicts"]
    assert conflicts.value == 1
    assert dict(conflicts.attributes) == {
        "occ.operation.name": "rename", "occ.store.name": "statestore", "occ.key.template": "user-{id}",
        "occ.conflict.cause": "etag_mismatch",
    }  # fmt: skip
    assert sum(point.count for point in found["occ.operation.duration"]) == 2
    assert {point.attributes["occ.attempt.result"] for point in found["occ.attempt.duration"]} == {
        "conflict",
        "committed",
    }
    assert [event.name for event in span.events] == ["occ.conflict", "occ.committed", "occ.gave_up"]  # type: ignore[attr-defined]
    assert "user-17" not in str([dict(event.attributes) for event in span.events])  # type: ignore[attr-defined]


def test_lines_carry_the_active_span(tmp_path: Any):
    """
    A line written inside a span has its ids.
    """
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
    from opentelemetry.sdk.trace import TracerProvider

    from tests.log.conftest import lines_of
    from toolkit.log import log_to

    with (
        log_to(tmp_path / "occ.jsonl", summary_every=0) as log,
        TracerProvider().get_tracer("t").start_as_current_span("s") as span,
    ):
        emit(conflict())
    (line,) = lines_of(log.path)
    context = span.get_span_context()
    assert (line["trace_id"], line["span_id"]) == (
        format(context.trace_id, "032x"),
        format(context.span_id, "016x"),
    )
