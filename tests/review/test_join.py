"""
Who beat whom, when lines are late, lost, sampled or foreign.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.review.conftest import lost, won, write
from toolkit.review.engine import Review
from toolkit.review.run import review


def pairs(tmp_path: Path, *lines: dict[str, Any], by: str = "writer") -> dict[tuple[str, str], float]:
    return {pair: count for pair, (count, _) in review([write(tmp_path / "log", lines)], by=by).pairs.items()}


W = {"winner": "aa-1", "winner_kind": "committed"}


def test_a_winner_is_found_by_its_write(tmp_path: Path):
    """
    The write id named by the loser is the primary join, even where another line shares the race.
    """
    lines = [
        won(1, writer="first", race="r" * 16, write_id="bb-1"),
        won(2, writer="named", write_id="aa-1"),
        lost(3, race="r" * 16, **W),
    ]
    assert pairs(tmp_path, *lines) == {("b", "named"): 1}


def test_a_winner_may_be_logged_after_its_loser(tmp_path: Path):
    """
    Clocks disagree and files are read side by side: the join looks both ways.
    """
    assert pairs(tmp_path, lost(1, **W), won(2, writer="late", write_id="aa-1")) == {("b", "late"): 1}


def test_the_race_joins_what_has_no_stamp(tmp_path: Path):
    """
    Without a winner's id the race names it, before or after.
    """
    before = won(1, writer="w1", race="1" * 16), lost(2, race="1" * 16)
    after = lost(3, race="2" * 16), won(4, writer="w2", race="2" * 16)
    assert pairs(tmp_path, *before, *after) == {("b", "w1"): 1, ("b", "w2"): 1}


def test_a_multi_key_winner_is_found_by_any_of_its_races(tmp_path: Path):
    """
    A transaction beats the losers of each of its keys.
    """
    winner = won(1, writer="tx", key="", keys=["k", "l"], races=["1" * 16, "2" * 16], write_id="cc-1")
    assert pairs(tmp_path, winner, lost(2, key="l", race="2" * 16)) == {("b", "tx"): 1}


def test_a_lost_line_is_named_by_its_process(tmp_path: Path):
    """
    A winner whose own line is missing is told by the other writes of its process, and only then by the race.
    """
    lines = [
        won(1, writer="proc", write_id="aa-7"),
        won(1.5, writer="racer", race="1" * 16, write_id="dd-1"),
        lost(2, race="1" * 16, **W),
    ]
    assert pairs(tmp_path, *lines) == {("b", "proc"): 1}
    assert pairs(tmp_path, *lines[1:]) == {("b", "racer"): 1}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "(not logged)"),
        (W, "(not logged)"),
        ({"winner_kind": "foreign"}, "(outside the toolkit)"),
        ({"winner": "zz-1", "winner_kind": "aborted"}, "(an aborted transaction)"),
        ({"maybe_self": True, "race": "1" * 16}, "(itself)"),
    ],
)
def test_nobody_is_named_honestly(tmp_path: Path, more: dict[str, Any], name: str):
    """
    A loss without a known winner says which kind of nobody it was.
    """
    assert pairs(tmp_path, won(1, writer="a", write_id="bb-1"), lost(2, **more)) == {("b", name): 1}


def test_a_commit_out_of_the_window_is_forgotten(tmp_path: Path):
    """
    ETags can come again on some stores: a commit long before is no winner.
    """
    old = won(0, writer="old", race="1" * 16)
    between = [won(n, key="x", writer="x", race=f"{n:016x}") for n in range(20, 200, 5)]
    found = Review()
    for line in [old, *between, lost(200, race="1" * 16)]:
        found.advance(float(line["timestamp"][14:16]) * 60 + float(line["timestamp"][17:26]))
        found.feed(__import__("json").dumps(line).encode())
    found.finish()
    assert {pair: count for pair, (count, _) in found.pairs.items()} == {("b", "(not logged)"): 1}


def test_pairs_by_another_field(tmp_path: Path):
    """
    Losers and winners can be operations or instances.
    """
    lines = [won(1, op="checkout", write_id="aa-1"), lost(2, op="rename", **W)]
    assert pairs(tmp_path, *lines, by="op") == {("rename", "checkout"): 1}


def test_sampled_losses_weigh_what_they_stand_for(tmp_path: Path):
    """
    A line kept with probability 0.1 counts ten times, and its missing winner accuses nobody.
    """
    found = review([write(tmp_path / "log", [lost(1, sample=0.1), lost(2, sample=0.1, attempt=2)])])
    assert found.conflicts == 20
    assert sum(row.unmatched for row in found.keys.all()) == 0


def test_no_op_commits_beat_nobody(tmp_path: Path):
    """
    A commit that wrote nothing invalidated no ETag.
    """
    assert pairs(tmp_path, won(1, race="1" * 16, noop=True), lost(2, race="1" * 16)) == {
        ("b", "(not logged)"): 1
    }
