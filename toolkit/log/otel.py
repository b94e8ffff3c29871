"""
The events as OpenTelemetry metrics, and as events of the active span; needs ``opentelemetry-api``.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider

from toolkit.core.events import Event
from toolkit.log._emitter import add_hook, remove_hook
from toolkit.log._keys import metric_label

_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_ATTEMPTS: Final = (1, 2, 3, 4, 5, 8, 13, 21)

# Fields of an event that a span event carries: nothing that grows with the data, and no key.
SPAN_FIELDS: Final = {
    "op": "occ.operation.name",
    "store": "occ.store.name",
    "call_id": "occ.call.id",
    "attempt": "occ.attempt.number",
    "cause": "occ.conflict.cause",
    "winner": "occ.conflict.winner",
    "winner_kind": "occ.conflict.winner_kind",
    "write_id": "occ.write.id",
    "reason": "occ.give_up.reason",
    "wait_s": "occ.retry_delay.time",
    "lost_s": "occ.lost_work.time",
    "combined": "occ.write.combined",
}


class OpenTelemetryHook:
    """
    A hook that counts and marks; ``instrument()`` makes and adds one.

    Keys appear only as templates, at most 100 of them; *templates* names your own.
    """

    def __init__(self, provider: MeterProvider | None = None, *, templates: tuple[str, ...] = ()) -> None:
        meter = metrics.get_meter("dapr-occ", meter_provider=provider)
        self._template = metric_label(templates)
        self._duration = meter.create_histogram(
            "occ.operation.duration", "s", "First read to end", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._attempts = meter.create_histogram(
            "occ.operation.attempts",
            "{attempt}",
            "Attempts made",
            explicit_bucket_boundaries_advisory=_ATTEMPTS,
        )
        self._delay = meter.create_histogram(
            "occ.operation.retry_delay",
            "s",
            "Wait before the next attempt",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._attempt = meter.create_histogram(
            "occ.attempt.duration",
            "s",
            "Read, function and write",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._conflicts = meter.create_counter(
            "occ.conflicts", "{conflict}", "Attempts lost to another write"
        )
        self._lost = meter.create_counter("occ.lost_work.time", "s", "Work thrown away")

    def __call__(self, event: Event, /) -> None:
        fields = event.fields
        span = trace.get_current_span()
        if span.is_recording():
            span.add_event(
                event.name, {dotted: fields[name] for name, dotted in SPAN_FIELDS.items() if fields.get(name)}
            )
        if event.name == "occ.conflict":
            self._conflict(fields)
        elif event.name in ("occ.committed", "occ.gave_up", "occ.outcome_unknown"):
            self._end(event.name, fields)

    def _conflict(self, fields: dict[str, Any]) -> None:
        operation = _operation(fields)
        key = fields.get("key") or next(iter(fields.get("keys") or ()), "")
        lost = operation | {
            "occ.key.template": self._template(key) if key else "",
            "occ.conflict.cause": fields.get("cause") or "unknown",
        }
        self._conflicts.add(1, lost)
        self._lost.add(fields.get("lost_s") or 0.0, lost)
        self._delay.record(fields.get("wait_s") or 0.0, operation)
        self._attempt.record(_spent(fields), operation | {"occ.attempt.result": "conflict"})

    def _end(self, name: str, fields: dict[str, Any]) -> None:
        operation = _operation(fields)
        if name == "occ.committed":
            self._attempt.record(_spent(fields), operation | {"occ.attempt.result": "committed"})
        else:
            operation["error.type"] = (
                "outcome_unknown" if name == "occ.outcome_unknown" else fields.get("reason") or "error"
            )
        if (total := fields.get("total_s")) is not None:
            self._duration.record(total, operation)
        if attempt := fields.get("attempt"):
            self._attempts.record(attempt, operation)


def _operation(fields: dict[str, Any]) -> dict[str, str]:
    return {"occ.operation.name": fields.get("op") or "", "occ.store.name": fields.get("store") or ""}


def _spent(fields: dict[str, Any]) -> float:
    return float(sum(fields.get(name) or 0.0 for name in ("read_s", "fn_s", "write_s")))


def instrument(
    provider: MeterProvider | None = None, *, templates: tuple[str, ...] = ()
) -> OpenTelemetryHook:
    """
    Count all events of this process with OpenTelemetry; ``uninstrument`` with what this returns ends it.
    """
    hook = OpenTelemetryHook(provider, templates=templates)
    add_hook(hook)
    return hook


def uninstrument(hook: OpenTelemetryHook) -> None:
    """
    Stop counting.
    """
    remove_hook(hook)
