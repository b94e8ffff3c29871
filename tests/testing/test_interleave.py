"""
Every interleaving is visited once, and a schedule replays.
"""

from __future__ import annotations

from math import comb
from typing import Any

import pytest

from tests.testing.worlds import DictWorld
from toolkit.core.model import Reply, Row, Write
from toolkit.core.steps import Chance, Get, GetAll, Multi, Now, Pause, Put, PutAll, Steps
from toolkit.testing.interleave import Raised, Returned, answer, interleavings, replay


def blind_increment() -> Steps[int]:
    row = yield from Get("n")
    assert isinstance(row, Row)
    yield from Pause(0.1)
    yield from Put(Write("n", str(int(row.data) + 1).encode()))
    return int(row.data) + 1


def safe_increment() -> Steps[int]:
    while True:
        row = yield from Get("n")
        assert isinstance(row, Row)
        reply = yield from Put(Write("n", str(int(row.data) + 1).encode(), etag=row.etag))
        if reply.ok:
            return int(row.data) + 1


def start() -> DictWorld:
    return DictWorld({"n": b"0"})


def test_blind_writers_lose_updates_in_exactly_the_overlapping_schedules() -> None:
    """Of the six interleavings of two read-then-write pairs, two are serial and keep both updates."""
    ends = [
        run.world.get("n").data
        for run in interleavings(lambda: [blind_increment(), blind_increment()], start, answer)
    ]
    assert sorted(ends) == [b"1"] * 4 + [b"2"] * 2


def test_all_schedules_are_visited_once() -> None:
    """Three generators of two shared steps have 6! / (2! 2! 2!) interleavings, all different."""
    runs = list(interleavings(lambda: [blind_increment() for _ in range(3)], start, answer))
    assert len({run.schedule for run in runs}) == len(runs) == comb(6, 2) * comb(4, 2)


def test_compare_and_set_writers_lose_nothing_in_any_schedule() -> None:
    """Writers that retry on a conflict end at the number of writers in every interleaving."""
    runs = list(interleavings(lambda: [safe_increment() for _ in range(3)], start, answer))
    assert {run.world.get("n").data for run in runs} == {b"3"}
    assert len(runs) == 498


def test_a_schedule_replays_to_the_same_execution() -> None:
    """Replaying the schedule of an execution gives its trace again."""

    def make() -> list[Steps[int]]:
        return [safe_increment(), safe_increment()]

    run = next(run for run in interleavings(make, start, answer) if len(run.trace) > 4)
    assert replay(run.schedule, make, start, answer).trace == run.trace


def test_an_exception_of_a_generator_is_a_result() -> None:
    """A generator that raises ends its part of the schedule, not the exploration."""

    def broken() -> Steps[None]:
        yield from Get("n")
        raise LookupError("planted")

    runs = list(interleavings(lambda: [broken(), blind_increment()], start, answer))
    assert {type(run.results[0]) for run in runs} == {Raised}
    assert {run.results[1] for run in runs} == {Returned(1)}
    assert len(runs) == 3


def test_limit_bounds_the_exploration() -> None:
    """No more executions than asked for are run."""
    assert (
        len(list(interleavings(lambda: [safe_increment() for _ in range(5)], start, answer, limit=20))) == 20
    )


def test_a_livelock_is_reported_with_its_schedule() -> None:
    """A generator that never ends is an error that names the bound."""

    def forever() -> Steps[None]:
        while True:
            yield from Get("n")

    with pytest.raises(RuntimeError, match="no end after 50 shared steps"):
        list(interleavings(lambda: [forever()], start, answer, max_steps=50))


def test_every_step_has_an_answer() -> None:
    """The plain performer answers all steps of the core in their types."""

    def everything() -> Steps[tuple[Any, ...]]:
        now = yield from Now()
        chance = yield from Chance()
        rows = yield from GetAll(("n", "gone"))
        replies = yield from PutAll((Write("a", b"1"), Write("n", b"2", etag="stale")))
        both = yield from Multi((Write("a", None), Write("b", b"3")))
        return now.mono, chance, rows, replies, both

    (run,) = interleavings(lambda: [everything()], start, answer)
    expected = (
        0.0,
        0.5,
        (Row(b"0", "1"), Row(b"", "")),
        (Reply(), Reply("ABORTED", "etag mismatch")),
        Reply(),
    )
    assert run.results == (Returned(expected),)
    assert sorted(run.world.rows) == ["b", "n"]
