"""
``examples/trio_app.py`` on trio, through a real sidecar.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "trio_app.py"


def run_example(sidecar, *arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        env={**env, **sidecar.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_seat_is_sold_once(daprd):
    """
    Thirty impatient customers, twenty seats: as many buyers as seats, and the rest is told; also the second time.
    """
    sidecar = daprd()
    for _ in range(2):
        ran = run_example(sidecar)
        assert 0 == ran.returncode, ran.stderr
        assert "20 of 20 seats sold to 20 customers, 10 turned away\n" == ran.stdout


def test_an_unknown_store_is_a_sentence(daprd):
    """
    The error group of the nursery ends as one line with the cure.
    """
    ran = run_example(daprd(), "nope")
    assert 1 == ran.returncode
    assert "loaded for this app: statestore" in ran.stderr
    assert "Traceback" not in ran.stderr
