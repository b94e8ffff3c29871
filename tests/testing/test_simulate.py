"""
The simulator does what its seed says, and finds what it is there to find.
"""

from __future__ import annotations

import pytest

from tests.testing.worlds import DictWorld
from toolkit.core.events import Event
from toolkit.core.model import Reply, Row, Write
from toolkit.core.steps import Chance, Get, GetAll, Multi, Note, Now, Pause, Put, PutAll, Steps
from toolkit.testing.interleave import Raised, Returned
from toolkit.testing.simulate import (
    Cancellation,
    Cancelled,
    Hazards,
    Killed,
    Life,
    Network,
    Run,
    Start,
    simulate,
)

ROUGH = Network(
    drop_request=0.05, drop_reply=0.15, duplicate=0.05, late=0.03, late_duplicate=0.03, fail_read=0.02
)


def increments(count: int, *, blind_retry: bool) -> Start:
    """A client that adds one *count* times, and takes any lost answer for a failure when *blind_retry*."""

    def start(life: Life) -> Steps[int]:
        done = 0
        while done < count:
            row = yield from Get("n")
            if isinstance(row, Reply):
                yield from Pause(0.05)
                continue
            reply = yield from Put(Write("n", str(int(row.data) + 1).encode(), etag=row.etag))
            done += reply.ok or (reply.code != "ABORTED" and not blind_retry)
        return done

    return start


def run(
    seed: int, network: Network | None = None, hazards: Hazards | None = None, **processes: Start
) -> Run[DictWorld]:
    return simulate(seed, processes, DictWorld({"n": b"0"}), network=network, hazards=hazards)


def test_a_quiet_network_loses_nothing() -> None:
    """Without faults the counter is the number of increments, whatever the seed."""
    ends = {
        run(seed, a=increments(5, blind_retry=True), b=increments(5, blind_retry=True)).world.get("n").data
        for seed in range(50)
    }
    assert ends == {b"10"}


def test_a_blind_retry_doubles_under_lost_replies() -> None:
    """The anomaly the toolkit exists for shows up within a few seeds."""
    ends = [
        int(run(seed, ROUGH, a=increments(10, blind_retry=True)).world.get("n").data) for seed in range(20)
    ]
    assert max(ends) > 10


def test_the_seed_replays_the_run() -> None:
    """The same seed gives the same trace, times, faults and world; another seed another digest."""

    def once(seed: int) -> Run[DictWorld]:
        hazards = Hazards(kill=0.02, freeze=0.02, cancel=0.02, skew=3600)
        return run(
            seed, ROUGH, hazards, a=increments(10, blind_retry=True), b=increments(10, blind_retry=True)
        )

    first, again, other = once(7), once(7), once(8)
    assert (first.trace, first.digest, first.faults, first.world.rows) == (
        again.trace,
        again.digest,
        again.faults,
        again.world.rows,
    )
    assert other.digest != first.digest


def test_every_fault_fires() -> None:
    """With all rates up each fault is counted in a moderate number of runs."""
    hazards = Hazards(kill=0.02, freeze=0.02, cancel=0.02)
    faults = sum(
        (run(seed, ROUGH, hazards, a=increments(10, blind_retry=True)).faults for seed in range(30)),
        start=run(0).faults,
    )
    assert set(faults) == {
        "drop_request",
        "drop_reply",
        "duplicate",
        "late",
        "late_duplicate",
        "fail_read",
        "kill",
        "freeze",
        "cancel",
    }


def one_put(life: Life) -> Steps[str]:
    reply = yield from Put(Write("n", b"1", etag="1"))
    return reply.code


@pytest.mark.parametrize(
    ("network", "codes", "applied"),
    [
        (Network(drop_request=1.0), {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, {b"0"}),
        (Network(drop_reply=1.0), {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, {b"1"}),
        (Network(duplicate=1.0), {"ABORTED"}, {b"1"}),
        (Network(late=1.0, late_after=(5.0, 9.0)), {"DEADLINE_EXCEEDED"}, {b"1"}),
        (Network(late_duplicate=1.0), {"OK"}, {b"1"}),
    ],
)
def test_each_fault_answers_and_applies_as_it_says(
    network: Network, codes: set[str], applied: set[bytes]
) -> None:
    """What the sender hears and what the store holds, for each fault alone, over 40 seeds."""
    runs = [run(seed, network, a=one_put) for seed in range(40)]
    assert {
        ending.value for one in runs for ending in one.endings.values() if isinstance(ending, Returned)
    } == codes
    assert {one.world.get("n").data for one in runs} == applied


def test_a_late_duplicate_lands_after_other_writes() -> None:
    """The second copy of a blind write undoes what another process wrote in between, in some seed."""

    def writes(value: bytes, wait: float) -> Start:
        def start(life: Life) -> Steps[None]:
            yield from Pause(wait)
            yield from Put(Write("n", value))

        return start

    network = Network(late_duplicate=0.5, late_after=(1.0, 20.0))
    ends = {
        run(seed, network, a=writes(b"a", 0.0), b=writes(b"b", 0.5)).world.get("n").data for seed in range(20)
    }
    assert ends == {b"a", b"b"}


def test_a_killed_process_leaves_its_request_on_the_wire() -> None:
    """Killed at its first step, a process may have written or not; it runs no clean-up and is started again."""
    cleaned: list[str] = []

    def start(life: Life) -> Steps[int]:
        try:
            yield from Put(Write("n", b"1"))
        finally:
            if life.number == 0:
                cleaned.append("first life")
                yield from Put(Write("n", b"cleaned"))
        return life.number

    runs = [run(seed, None, Hazards(kill=1.0, restarts=1), a=start) for seed in range(20)]
    assert {one.endings["a"] for one in runs} == {Returned(1)}
    assert b"cleaned" not in {one.world.get("n").data for one in runs}
    dead = [run(seed, None, Hazards(kill=1.0, restarts=0), a=one_put) for seed in range(20)]
    assert {one.endings["a"] for one in dead} == {Killed()}
    assert {one.world.get("n").data for one in dead} == {b"0", b"1"}


def test_a_cancelled_process_may_finish_what_it_shields() -> None:
    """The cancellation arrives inside the step; steps made while cleaning up are still answered."""

    def start(life: Life) -> Steps[None]:
        try:
            yield from Pause(1.0)
        except Cancellation:
            yield from Put(Write("n", b"cleaned"))
            raise

    hazards = Hazards(cancel=0.999)
    endings = [run(seed, None, hazards, a=start) for seed in range(10)]
    assert {type(one.endings["a"]) for one in endings} == {Cancelled}
    assert b"cleaned" in {one.world.get("n").data for one in endings}


def test_a_frozen_process_comes_back_after_the_freeze() -> None:
    """The clocks go on while a process is frozen; the world ages with them."""

    def start(life: Life) -> Steps[float]:
        before = yield from Now()
        yield from Get("n")
        after = yield from Now()
        return after.mono - before.mono

    one = run(1, None, Hazards(freeze=1.0, freeze_for=(5.0, 6.0)), a=start)
    (ending,) = one.endings.values()
    assert isinstance(ending, Returned)
    assert 5.0 < ending.value < 6.1
    assert one.world.elapsed == pytest.approx(one.elapsed)


def test_wall_clocks_are_skewed_and_the_monotonic_one_is_not() -> None:
    """Two processes disagree on the wall clock by up to twice the skew, not on durations."""

    def start(life: Life) -> Steps[tuple[float, float]]:
        before = yield from Now()
        yield from Pause(10.0)
        after = yield from Now()
        return before.wall, after.mono - before.mono

    one = run(3, None, Hazards(skew=3600.0), a=start, b=start)
    walls, spans = zip(
        *(ending.value for ending in one.endings.values() if isinstance(ending, Returned)), strict=True
    )
    assert 1.0 < abs(walls[0] - walls[1]) <= 7200.0
    assert spans == pytest.approx((10.0, 10.0))


def test_parallel_steps_gather_their_parts_in_order() -> None:
    """Reads and writes that fan out are answered in the order of their keys; notes are kept by process."""
    event = Event("occ.warning", {"key": "n"})

    def start(life: Life) -> Steps[tuple[object, ...]]:
        yield from Note(event)
        drawn = yield from Chance()
        rows = yield from GetAll(("n", "gone"))
        replies = yield from PutAll((Write("a", b"1"), Write("n", b"2", etag="stale")))
        both = yield from Multi((Write("a", None), Write("b", b"3")))
        nothing = yield from GetAll(())
        return 0 <= drawn < 1, rows, tuple(reply.code for reply in replies), both.code, nothing

    one = run(5, None, None, a=start)
    rows = (Row(b"0", "1"), Row(b"", ""))
    assert one.endings == {"a": Returned((True, rows, ("OK", "ABORTED"), "OK", ()))}
    assert one.notes == (("a", event),)


def test_an_exception_of_a_process_is_its_ending() -> None:
    """One process that fails does not end the run of the others."""

    def broken(life: Life) -> Steps[None]:
        yield from Get("n")
        raise LookupError("planted")

    one = run(1, None, None, a=broken, b=one_put)
    assert isinstance(one.endings["a"], Raised)
    assert one.endings["b"] == Returned("OK")


def test_a_livelock_is_reported() -> None:
    """A process that never ends is an error that names the virtual time."""

    def forever(life: Life) -> Steps[None]:
        while True:
            yield from Pause(1.0)

    with pytest.raises(RuntimeError, match=r"no end after 500 events at \d+"):
        simulate(1, {"a": forever}, DictWorld(), max_events=500)


def test_seeds_are_different_schedules() -> None:
    """Of 200 seeds hardly two run alike."""
    digests = {
        run(seed, ROUGH, a=increments(5, blind_retry=True), b=increments(5, blind_retry=True)).digest
        for seed in range(200)
    }
    assert len(digests) > 195
