"""
What an event of the conflict log costs: nobody listening, a file, structlog, hidden keys, Prometheus.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from bench.report import Row, save
from toolkit.core.events import Event
from toolkit.log import emit, log_to

ROUNDS, CALLS = 7, 5_000
SECRET = os.urandom(16)
EVENT = Event("occ.conflict", {
    "store": "statestore", "op": "rename", "call_id": "00c0ffee00c0ffee", "op_id": "msg-17", "key": "user-17",
    "base_etag": "41", "seen_etag": "42", "attempt": 1, "max_attempts": 0, "read_s": 0.001234, "fn_s": 1e-5,
    "write_s": 0.002, "lost_s": 0.003244, "wait_s": 0.01, "cause": "etag_mismatch", "transport": "grpc",
    "status": "ABORTED", "winner": "a1b2c3d4e5f60718-2a", "winner_kind": "committed",
})  # fmt: skip


def cost() -> float:
    """
    Microseconds an event costs now: the least of some rounds, since a busy machine only adds.
    """
    rounds: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            emit(EVENT)
        rounds.append((time.process_time() - began) / CALLS * 1e6)
    return min(rounds)


def through_file(path: Path, **settings: object) -> float:
    with log_to(path, **settings):  # type: ignore[arg-type]
        return cost()


def through_structlog() -> float:
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(io.StringIO()),
        cache_logger_on_first_use=True,
    )
    try:
        return cost()
    finally:
        structlog.reset_defaults()


def with_prometheus() -> float:
    from prometheus_client import CollectorRegistry

    from toolkit.log.prometheus import instrument, uninstrument

    hook = instrument(CollectorRegistry())
    try:
        return cost()
    finally:
        uninstrument(hook)


def main() -> int:
    rows: list[Row] = []

    def add(name: str, measure: Callable[[], float], target: float | None = None) -> None:
        rows.append(Row(name, round(measure(), 2), "µs", target))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        add("nobody listens", cost, 0.5)
        add("a line into a file", lambda: through_file(path / "a"), 15)
        add(
            "a line into a file, keys hashed",
            lambda: through_file(path / "b", keys="hash", secret=SECRET),
            20,
        )
        add("a line into a file, 1 % of races kept", lambda: through_file(path / "c", sample=0.01))
        add("through structlog, JSON into memory", through_structlog)
        add("Prometheus alone", with_prometheus)
        lines = (path / "a").read_bytes().splitlines()
        size = statistics.mean(map(len, lines))
    rows.append(Row("size of a conflict line", round(size), "bytes"))
    return save("log", rows, {"rounds": ROUNDS, "calls": CALLS})


if __name__ == "__main__":
    sys.exit(main())
