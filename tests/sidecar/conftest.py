"""
Helpers for tests that start programs of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OCC = (sys.executable, "-c", "from toolkit.cli import main; main()")


@pytest.fixture
def occ_environment(tmp_path) -> dict[str, str]:
    """
    The environment of a child that runs ``occ``: this checkout importable, temporary files under a directory of its own.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAPR_")}
    return {**env, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def occ(occ_environment, daprd_binaries, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """
    Runs ``occ`` to its end.
    """

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*OCC, *arguments],
            env={**occ_environment, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def occ_started(occ_environment, daprd_binaries, tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """
    Starts ``occ`` and leaves it running.
    """
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*OCC, *arguments],
            env=occ_environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)
