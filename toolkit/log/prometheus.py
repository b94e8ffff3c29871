"""
The events as Prometheus metrics; needs ``prometheus-client``.
"""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from toolkit.core.events import Event
from toolkit.log._emitter import add_hook, remove_hook
from toolkit.log._keys import metric_label

_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_ATTEMPTS: Final = (1, 2, 3, 4, 5, 8, 13, 21)
_RESULTS: Final = {
    "occ.committed": "committed",
    "occ.gave_up": "gave_up",
    "occ.outcome_unknown": "outcome_unknown",
}


class PrometheusHook:
    """
    A hook that counts; ``instrument()`` makes and adds one.

    Keys appear only as templates, at most 100 of them; *templates* names your own.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, templates: tuple[str, ...] = ()) -> None:
        self._template = metric_label(templates)
        lost = ("op", "store", "key_tpl", "cause")
        ended = ("op", "store", "result")
        self._conflicts = Counter("occ_conflicts", "Attempts lost to another write", lost, registry=registry)
        self._lost = Counter("occ_lost_work_seconds", "Work thrown away", lost, registry=registry)
        self._gave_up = Counter(
            "occ_gave_up", "Operations that gave up", ("op", "store", "reason"), registry=registry
        )
        self._duration = Histogram(
            "occ_operation_duration_seconds", "First read to end", ended, registry=registry, buckets=_SECONDS
        )
        self._attempts = Histogram(
            "occ_operation_attempts", "Attempts made", ended, registry=registry, buckets=_ATTEMPTS
        )
        self._all = (self._conflicts, self._lost, self._gave_up, self._duration, self._attempts)
        self._registry = registry

    def __call__(self, event: Event, /) -> None:
        fields: dict[str, Any] = event.fields
        op, store = fields.get("op") or "", fields.get("store") or ""
        if event.name == "occ.conflict":
            key = fields.get("key") or next(iter(fields.get("keys") or ()), "")
            labels = (op, store, self._template(key) if key else "", fields.get("cause") or "unknown")
            self._conflicts.labels(*labels).inc()
            self._lost.labels(*labels).inc(fields.get("lost_s") or 0.0)
        elif (result := _RESULTS.get(event.name)) is not None:
            if result == "gave_up":
                self._gave_up.labels(op, store, fields.get("reason") or "error").inc()
            self._duration.labels(op, store, result).observe(fields.get("total_s") or 0.0)
            self._attempts.labels(op, store, result).observe(fields.get("attempt") or 0)

    def unregister(self) -> None:
        """
        Take the metrics out of their registry.
        """
        for metric in self._all:
            self._registry.unregister(metric)


def instrument(registry: CollectorRegistry = REGISTRY, *, templates: tuple[str, ...] = ()) -> PrometheusHook:
    """
    Count all events of this process in *registry*; ``uninstrument`` with what this returns ends it.
    """
    hook = PrometheusHook(registry, templates=templates)
    add_hook(hook)
    return hook


def uninstrument(hook: PrometheusHook) -> None:
    """
    Stop counting and take the metrics out of their registry.
    """
    remove_hook(hook)
    hook.unregister()
