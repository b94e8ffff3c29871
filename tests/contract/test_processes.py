"""
Several processes on one key of a real store: nothing is lost, and every conflict line names who won.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LiveStore
from tests.faults.crew import Crew
from toolkit import StateStore

STORES = ("in-memory", "sqlite", "redis", "postgresql-v1", "postgresql-v2", "mysql")


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in directory.glob("*.log") for line in path.read_bytes().splitlines()]


def run(store: LiveStore, log: Path, *, processes: int, threads: int, times: int) -> tuple[int, int]:
    """Let a crew count on one key; tells what was acknowledged and what is stored."""
    key = f"p-{uuid.uuid4().hex}"
    job = {
        "mode": "count",
        "store": store.name,
        "address": store.address,
        "keys": [key],
        "threads": threads,
        "times": times,
        "deadline": 60.0,
    }
    with Crew([job] * processes, {"OCC_LOG": str(log / f"{store.name}-{{pid}}.log")}) as crew:
        report = crew.work()
    assert (report.receipts, report.failed) == ([], {})
    with StateStore(store.name, address=store.address) as reader:
        return report.acked, reader.get(key)["n"]


@pytest.mark.parametrize("name", STORES)
def test_four_processes_of_four_threads(
    name: str, live_named: Callable[[str], LiveStore], tmp_path: Path
) -> None:
    """4 processes x 4 threads x 25 increments make exactly 400."""
    assert run(live_named(name), tmp_path, processes=4, threads=4, times=25) == (400, 400)


def test_conflict_lines_name_their_winner(
    live: Any, live_named: Callable[[str], LiveStore], tmp_path: Path
) -> None:
    """Over at least 500 conflict lines 99 % name a winner, and it is a write that some committed line reports."""
    stores = [name for name in ("redis", "postgresql-v2", "mysql", "sqlite") if name not in live.missing]
    conflicts: list[dict[str, Any]] = []
    written: set[str] = set()
    for _ in range(10):
        for name in stores:
            log = tmp_path / uuid.uuid4().hex
            log.mkdir()
            assert run(live_named(name), log, processes=4, threads=1, times=100) == (400, 400)
            for line in lines_of(log):
                if line["event"] == "occ.conflict":
                    conflicts.append(line)
                elif line["event"] == "occ.committed" and "write_id" in line:
                    written.add(line["write_id"])
        if len(conflicts) >= 500:
            break
    named = [line for line in conflicts if line.get("winner") in written]
    assert len(conflicts) >= 500
    assert len(named) >= 0.99 * len(conflicts)
    assert {line["winner_kind"] for line in named} == {"committed"}
