"""
Several processes find what one finds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.review import answers, parallel, run, series
from toolkit.review.simulate import Workload, write_logs


def test_cuts_change_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    Totals, keys, pairs, attempts, rates, heat, latency and stories are those of one pass, also around the cuts.
    """
    load = Workload(operations=24_000, keys=40, writers=3, rate=60.0, skew=1.6, max_attempts=4, read_s=0.02)
    files = {writer: str(tmp_path / f"occ-{writer}.jsonl") for writer in range(3)}
    write_logs(load, files)
    monkeypatch.setattr(parallel, "LEAST_BYTES", 1_000_000)
    planned = parallel.plan(list(files.values()), 3)
    assert planned is not None
    assert len(planned[1]) == 3
    several, one = parallel.review([str(tmp_path)], workers=3), run.review([str(tmp_path)])
    assert answers.summary(several) == answers.summary(one)
    assert answers.top(several, limit=100) == answers.top(one, limit=100)
    assert answers.pairs(several, limit=1_000) == answers.pairs(one, limit=1_000)
    assert series.attempts(several) == series.attempts(one)
    assert series.over_time(several) == series.over_time(one)
    assert series.heat(several) == series.heat(one)
    assert series.latency(several) == series.latency(one)
    assert series.gave_up(several, limit=1_000) == series.gave_up(one, limit=1_000)


def test_a_worker_that_fails_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    If a worker dies, one process reads everything.
    """
    path = str(tmp_path / "log.jsonl")
    truth = write_logs(Workload(operations=20_000, rate=60.0), path)
    monkeypatch.setattr(parallel, "LEAST_BYTES", 1_000_000)
    monkeypatch.setattr(parallel, "_work", lambda *_: False)
    assert parallel.review([path], workers=2).conflicts == truth.conflicts


def test_small_or_packed_logs_are_read_by_one(tmp_path: Path):
    """
    Starting processes costs more than reading a few megabytes.
    """
    path = str(tmp_path / "log.jsonl")
    write_logs(Workload(operations=500), path)
    assert parallel.plan([path], 4) is None
