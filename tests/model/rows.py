"""
Exploring a table of configurations, with a line for each.
"""

from __future__ import annotations

import sys
import time
from typing import Any, TypeAlias

import pytest

from tests.model.judge import explore
from tests.model.programs import Program

# Name: programs, faults, crashes, more options.
Table: TypeAlias = dict[str, tuple[tuple[Program, ...], int, int, dict[str, Any]]]


def check_rows(rows: Table, capsys: pytest.CaptureFixture[str], least: int) -> None:
    """Explore each row and print its bounds and states; no promise may be broken, and there must be so many states."""
    total, found, began = 0, [], time.perf_counter()
    for name, (programs, faults, crashes, options) in rows.items():
        started = time.perf_counter()
        explored = explore(programs, faults=faults, crashes=crashes, **options)
        total += explored.states
        found += [f"{name}: {problem}" for problem in explored.problems]
        with capsys.disabled():
            sys.stdout.write(
                f"\n{name:>34}: {len(programs)} processes, {faults} faults, {crashes} crashes: "
                f"{explored.states:>7} states, {explored.ends:>6} ends, {time.perf_counter() - started:5.1f} s"
            )
    with capsys.disabled():
        sys.stdout.write(f"\n{total} states in {time.perf_counter() - began:.0f} s\n")
    assert found == [], "\n".join(found[:5])
    assert total > least
