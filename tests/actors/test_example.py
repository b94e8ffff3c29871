"""
``examples/inventory_actor.py`` through a real sidecar: nothing is oversold, nothing delivered is lost.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_inventory_adds_up(workflow_sidecar):
    """
    As many reservations are stored as were promised, and the example ends with 0; also on a shelf it has used before.
    """
    env = {**os.environ, **workflow_sidecar.environment, "PYTHONPATH": str(ROOT)}
    article = f"bolt-{uuid.uuid4()}"
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "inventory_actor.py"), "--article", article],
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert 0 == ran.returncode, ran.stdout + ran.stderr
        promised, kept = re.findall(r"^(\d+) of 10 .* (\d+) are in the store$", ran.stdout, re.MULTILINE)[0]
        assert promised == kept
