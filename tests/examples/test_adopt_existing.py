"""
``examples/adopt_existing.py`` through a real sidecar: three changed lines, and nothing is lost.
"""

from __future__ import annotations

import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "adopt_existing.py"


def test_the_adopted_function_loses_nothing(daprd):
    """
    The example ends with 0 and says that the three lines lose nothing.
    """
    sidecar = daprd()
    env = {**os.environ, **sidecar.environment}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE)], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert 0 == ran.returncode, ran.stderr
    lost = re.findall(r"^(.*): 80 items added, (\d+) lost$", ran.stdout, re.MULTILINE)
    assert ["as it was", "three lines later"] == [title for title, _ in lost]
    assert "0" == lost[1][1]


def test_three_lines_are_changed():
    """
    The two functions differ by the decorator and the ETag; the import is the third line.
    """
    names = runpy.run_path(str(EXAMPLE), run_name="example")
    before = inspect.getsource(names["add_item"]).splitlines()
    after = inspect.getsource(names["add_item_safely"]).splitlines()
    # The name of the function differs only since both stand in one file.
    after = [line.replace("add_item_safely", "add_item") for line in after]
    added = [line for line in after if line not in before]
    gone = [line for line in before if line not in after]
    assert (2, 1) == (len(added), len(gone))
    marked = re.findall(r"# ([123]): ", EXAMPLE.read_text(encoding="utf-8"))
    assert ["1", "2", "3"] == marked
