"""
Real signals: the main thread of a process is interrupted again and again while its other threads use the same store.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["in-memory", "sqlite", "redis"])
def test_signals_in_one_thread_hold_up_no_other(live_named: Any, name: str, seed: int) -> None:
    """No other thread fails or waits for long, and what is stored agrees with the outcome of every operation."""
    live = live_named(name)
    job = {"store": live.name, "address": live.address, "run": uuid4().hex[:8], "seed": seed, "strikes": 150}
    command = [sys.executable, "-m", "tests.contract.interrupted", json.dumps(job)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, f"{' '.join(command[1:])}\n{run.stdout}{run.stderr}"
    report = json.loads(run.stdout)
    assert report["struck"] == job["strikes"]
    assert report["errors"] == report["unknown"] == []
    assert (report["stuck"], report["lost"], report["pots"]) == (0, 0, 1600)
    # The lease of a commit that was struck in the protocol itself is 3 s.
    assert report["slowest"] < 8
