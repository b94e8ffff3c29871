"""
The documented commands of the ready workflows, run as the page shows them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.cli.app import app
from workflows.library import READY

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "ready-workflows.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^occ (workflow run .+)$", PAGE, re.MULTILINE)


def test_every_ready_workflow_has_a_command_and_a_row():
    """
    None is left out of the page, and none is on it that is not there.
    """
    assert sorted(READY) == sorted(shlex.split(command)[2] for command in COMMANDS)
    assert sorted(READY) == sorted(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: shlex.split(command)[2])
def test_a_documented_command_runs(command, daprd_binaries):
    """
    From the root of the checkout, with no sidecar named: all is done, and what must hold holds.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    ran = subprocess.run(
        [sys.executable, "-c", "from toolkit.cli import main; main()", *shlex.split(command)],
        cwd=ROOT,
        env={**env, "OCC_DAPRD": str(daprd_binaries.daprd)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    assert re.search(r"^ok +True$", ran.stdout, re.MULTILINE), ran.stdout
    assert "Traceback" not in ran.stderr


def test_no_sidecar_within_the_time():
    """
    The limit is for all of it, the wait for the sidecar too.
    """
    port = "127.0.0.1:1"  # nobody listens there
    ran = CliRunner().invoke(app, ["workflow", "run", "transfer", "--address", port, "--timeout", "1"])
    assert (1, True) == (ran.exit_code, "no Dapr sidecar answered at 127.0.0.1:1 within 1 s" in ran.stderr)
