"""
Secrets planted wherever a caller can put one reach no line, no span and no metric.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.log.conftest import lines_of
from toolkit import Access, AccessDeniedError, AttemptsExhaustedError, RetryPolicy, StateStore, log_to
from toolkit.log._keys import metric_label
from toolkit.testing import MemoryStore

SECRET = "hunter2-classified"


def everything_goes_wrong() -> None:
    """
    A lost race, a give-up, an exception from a change, a recorded error, a refused call: each with secrets around.
    """
    port = MemoryStore(profile="sqlite")
    key, value, op_id = f"user-{SECRET}", {"card": SECRET, SECRET: 1}, f"msg-{SECRET}"
    with (
        StateStore("statestore", port=port, api_token=SECRET) as store,
        StateStore("statestore", port=port) as rival,
        StateStore("statestore", port=port, access=Access.READ) as reader,
    ):
        store.create(key, value)
        met: list[bool] = []

        def beaten(held: dict[str, Any]) -> dict[str, Any]:
            if not met:
                met.append(True)
                rival_writes(rival, key)
            return held | {"card": SECRET + "!"}

        store.update(key, beaten, op_id=op_id)

        def always_beaten(held: dict[str, Any]) -> dict[str, Any]:
            rival_writes(rival, key)
            return held | {"n": SECRET}

        hasty = StateStore("statestore", port=port, retry=RetryPolicy(attempts=2))
        with hasty, pytest.raises(AttemptsExhaustedError):
            hasty.update(key, always_beaten)

        def broken(held: dict[str, Any]) -> dict[str, Any]:
            raise ValueError(f"card {SECRET} refused")

        with pytest.raises(ValueError, match="refused"):
            store.update(key, broken)
        with pytest.raises(ValueError, match="refused"):
            store.transact(lambda tx: broken(tx.get(key)))
        with pytest.raises(AccessDeniedError):
            reader.set(key, value)


def rival_writes(rival: StateStore, key: str) -> None:
    # In its own thread: a store call inside a change is refused.
    one = threading.Thread(target=rival.set, args=(key, {"card": f"{SECRET}-rival"}))
    one.start()
    one.join()


@pytest.mark.parametrize("keys", ["hash", "template"])
def test_no_line_has_a_secret(tmp_path: Path, keys: Any):
    """
    With hidden keys the secrets in keys and op ids are gone too; the lines themselves are all there.
    """
    structlog.contextvars.bind_contextvars(api_token=SECRET, password=SECRET, request_id="r-1")
    secret = {"secret": "s"} if keys == "hash" else {}
    with log_to(tmp_path / "occ.jsonl", keys=keys, templates=["user-{id}"], **secret) as log:
        everything_goes_wrong()
    text = Path(log.path).read_text(encoding="utf-8")
    events = {line["event"] for line in lines_of(log.path)}
    assert {"occ.conflict", "occ.committed", "occ.gave_up", "occ.access_denied", "occ.summary"} <= events
    assert SECRET not in text
    assert "hunter2" not in text


def test_plain_keys_are_the_only_place(tmp_path: Path):
    """
    Where keys are logged as they are, what is in values, tokens and errors still is not.
    """
    with log_to(tmp_path / "occ.jsonl") as log:
        everything_goes_wrong()
    for line in lines_of(log.path):
        for name in ("key", "keys", "op_id", "key_tpl", "receipt"):
            line.pop(name, None)
        assert SECRET not in json.dumps(line)


def test_structlog_is_told_no_more():
    """
    The same events through the application's own structlog configuration.
    """
    with structlog.testing.capture_logs() as events:
        everything_goes_wrong()
    assert {"occ.conflict", "occ.gave_up"} <= {event["event"] for event in events}
    for event in events:
        kept = {
            name: value
            for name, value in event.items()
            if name not in ("key", "keys", "op_id", "key_tpl", "receipt")
        }
        assert SECRET not in str(kept)


@pytest.mark.parametrize(
    ("keys", "templates", "key", "label"),
    [
        ("plain", (), "user-17", "user-{id}"),
        ("plain", (), "alice@example.org", "_other"),
        ("plain", ("alice@example.org",), "alice@example.org", "alice@example.org"),
        ("plain", ("user-{name}",), "user-alice", "user-{name}"),
        ("template", (), "user-17", "_other"),
        ("hash", ("user-{id}",), "user-17", "user-{id}"),
    ],
)
def test_a_key_is_never_its_own_label(
    monkeypatch: pytest.MonkeyPatch, keys: str, templates: tuple[str, ...], key: str, label: str
):
    """
    Metrics name a key by a template with a part that varies, or by one that was declared; hidden keys by declared ones.
    """
    # A hash without its secret is a mistake of the environment: then too only what was declared is shown.
    monkeypatch.setenv("OCC_LOG_KEYS", keys)
    assert metric_label(templates)(key) == label


def test_spans_and_metrics_have_no_secret():
    """
    Not even those of keys: only templates are attributes.
    """
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
    prometheus_client = pytest.importorskip("prometheus_client", reason="needs the prometheus extra")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    from toolkit.log import otel, prometheus

    reader, registry = InMemoryMetricReader(), prometheus_client.CollectorRegistry()
    hooks = otel.instrument(MeterProvider(metric_readers=[reader])), prometheus.instrument(registry)
    with TracerProvider().get_tracer("test").start_as_current_span("order") as span:
        everything_goes_wrong()
    metrics = prometheus_client.generate_latest(registry).decode() + str(reader.get_metrics_data())
    otel.uninstrument(hooks[0])
    prometheus.uninstrument(hooks[1])
    told = [dict(event.attributes) for event in span.events]  # type: ignore[attr-defined]
    assert told
    assert "occ_conflicts_total" in metrics
    assert SECRET not in str(told) + metrics
