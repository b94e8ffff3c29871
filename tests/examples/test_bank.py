"""
``examples/bank.py`` through a real sidecar: two guarded writes are no transaction.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "bank.py"


def bank(live, *arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE), "--json", "--store", live.name, *arguments],
        env={**env, **live.sidecar.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    return {result["way"]: result for result in map(json.loads, ran.stdout.splitlines())}


def test_money_is_lost_by_hand_and_kept_by_the_toolkit(live_named):
    """
    The loop over two keys makes or loses money; transactions keep the total, in the end and for every audit.
    """
    results = bank(live_named("sqlite"))
    assert ["etag-loop", "toolkit"] == list(results)
    assert results["etag-loop"]["off"] != 0
    assert (0, 0, 24) == tuple(results["toolkit"][name] for name in ("off", "torn", "audits"))


@pytest.mark.parametrize("store", ["redis", "postgresql-v2"])
def test_transactions_hold_on_other_stores(live_named, store):
    """
    The same program on stores with and without transactions of their own.
    """
    result = bank(live_named(store), "--way", "toolkit")["toolkit"]
    assert (0, 0) == (result["off"], result["torn"])
