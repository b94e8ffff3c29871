"""
All commands on one simulated log of several processes, one of them compressed.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.review.every import COMMANDS, check_every_command
from toolkit.cli.log import app
from toolkit.review.simulate import Workload, write_logs


def test_every_command_is_known():
    """
    A command that is added is tried on the logs of these tests too.
    """
    assert {
        one.name or str(getattr(one.callback, "__name__", "")) for one in app.registered_commands
    } == COMMANDS


def test_every_command_answers_on_a_simulated_log(tmp_path: Path):
    """
    Exact against a plain recount and the simulator's truth.
    """
    logs = tmp_path / "logs"
    logs.mkdir()
    files = {writer: str(logs / f"occ-{writer}.jsonl") for writer in range(3)}
    load = Workload(operations=3_000, keys=30, writers=3, rate=600.0, max_attempts=4, outside=0.01)
    write_logs(load, files)
    packed = logs / "occ-2.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(files[2]).read_bytes()))
    Path(files[2]).unlink()
    check_every_command([files[0], files[1], str(packed)], tmp_path)
