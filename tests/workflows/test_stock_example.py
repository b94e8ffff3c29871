"""
``examples/stock_workflow.py`` through the real engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_sold_twice(workflow_sidecar):
    """
    Twelve orders for nine pieces: nine are packed, three refused, none is left.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "stock_workflow.py"), "--orders", "12", "--stock", "9"],
        env={**env, **workflow_sidecar.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    assert {"left": 0, "packed": 9, "sold": 9, "refused": 3} == json.loads(ran.stdout)
