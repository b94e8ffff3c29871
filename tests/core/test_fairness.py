"""
Whoever has won a key against rivals gives way, and only then.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.line import puts, stored
from tests.core.support import Script, add, job, make_site, once
from toolkit.core.model import MISSING_ROW, Reply, Row
from toolkit.core.policy import CAP_ROUND_TRIPS, FLOOR, GIVE_WAY_LEAST, RetryPolicy
from toolkit.core.site import Site, Win, Wins
from toolkit.core.steps import Get, Instant, Now, Pause, Put, Step, Steps
from toolkit.core.update import KeyWriter
from toolkit.testing.memory import MemoryWorld
from toolkit.testing.simulate import Life, Network, simulate


class Waits(Script):
    """A script that keeps the pauses among its steps."""

    def perform(self, step: Step[Any]) -> Any:
        if isinstance(step, Pause):
            self.steps.append(step)
        return super().perform(step)

    def made(self) -> list[type[Step[Any]]]:
        """The kinds of steps since the last question."""
        kinds = [type(step) for step in self.steps]
        self.steps.clear()
        return kinds

    def rivals(self, name: str = "b") -> None:
        """Let another process write once between the next read and its write."""
        left, rival = [1], make_site(name=name)

        def hook(_number: int, step: Step[Any]) -> Row | Reply | None:
            if isinstance(step, Put) and left:
                left.clear()
                Script(self.world).run(rival, job("update", change=add()))
            return None

        self.befall = hook


def bump(script: Script, site: Site, *, deadline: float = 10.0) -> None:
    script.run(site, job("update", change=add(), deadline=deadline))


def test_without_rivals_nobody_waits() -> None:
    """Run after run of one process makes no pause."""
    script, site = Waits(stored("in-memory")), make_site()
    for _ in range(5):
        bump(script, site)
    assert script.made() == [Get, Put] * 5


def test_a_winner_gives_way_before_it_reads_again() -> None:
    """The run that lost and then won makes no pause of its own; the next one does, once nobody used the gap."""
    script, site = Waits(stored("in-memory")), make_site()
    script.rivals()
    bump(script, site)
    assert script.made() == [Get, Put, Get, Put]
    bump(script, site)
    assert script.made() == [Pause, Get, Put]
    bump(script, site)
    assert script.made() == [Get, Put]
    assert script.value() == {"n": 4}


def test_it_gives_way_as_long_as_others_use_the_gap() -> None:
    """A write of another process since the own last one shows that there are rivals still."""
    script, site, rival = Waits(stored("in-memory")), make_site(), make_site(name="b")
    script.rivals()
    bump(script, site)
    for _ in range(3):
        script.made()
        Script(script.world).run(rival, job("update", change=add()))
        bump(script, site)
        assert script.made() == [Pause, Get, Put]
    bump(script, site)
    bump(script, site)
    assert script.made() == [Pause, Get, Put, Get, Put]


def test_other_keys_do_not_wait() -> None:
    """What was won against rivals is one key."""
    script, site = Waits(stored("in-memory")), make_site()
    script.rivals()
    bump(script, site)
    script.made()
    script.run(site, job("update", "other", change=add(), default={"n": 0}))
    assert script.made() == [Get, Put]


def test_time_that_has_passed_counts() -> None:
    """Whoever comes back later than the gap is long does not wait."""
    script, site = Waits(stored("in-memory")), make_site()
    script.rivals()
    bump(script, site)
    script.made()
    script.pass_time(1.0)
    bump(script, site)
    assert script.made() == [Get, Put]


@pytest.mark.parametrize("deadline", [0.001, 0.01, 10.0])
def test_a_deadline_is_not_given_away(deadline: float) -> None:
    """At most a tenth of what is left of the deadline of the call at the head."""
    script, site = Waits(stored("in-memory")), make_site()
    site.round_trip.seconds = 0.5
    script.rivals()
    bump(script, site)
    script.steps.clear()
    bump(script, site, deadline=deadline)
    waits = [step.seconds for step in script.steps if isinstance(step, Pause)]
    assert len(waits) == 1
    assert 0 < waits[0] <= deadline / 10 + 1e-9
    assert len(puts(script)) == 1


def test_maximum_zero_switches_it_off() -> None:
    """A policy without waits has none here either."""
    script, site = Waits(stored("in-memory")), make_site(policy=RetryPolicy(maximum=0))
    script.rivals()
    bump(script, site)
    bump(script, site)
    assert Pause not in script.made()


@given(st.floats(0, 10), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1))
def test_the_gap_is_some_round_trips(round_trip: float, chance: float, maximum: float | None) -> None:
    """Long enough for a rival's read and write, never longer than the longest wait of a loser."""
    unit = max(round_trip, FLOOR)
    gap = RetryPolicy(maximum=maximum).give_way(round_trip, chance)
    cap = CAP_ROUND_TRIPS * unit if maximum is None else maximum
    assert min(cap, GIVE_WAY_LEAST * unit) <= gap <= cap


def test_what_is_remembered_is_bounded() -> None:
    """A process that wins thousands of contended keys remembers the latest."""
    wins = Wins()
    for number in range(1000):
        wins.won(f"k{number}", Win("w", float(number)))
    kept = [number for number in range(1000) if wins.take(f"k{number}") is not None]
    assert kept == list(range(744, 1000))
    assert wins.take("k999") is None


# In virtual time -----------------------------------------------------------------------------------------------------

SECONDS, SLICE = 8.0, 0.2


def hungry(wins: list[tuple[float, str]]) -> Callable[[Life], Steps[None]]:
    """A process that always has work for one key, and writes down when it won."""

    def start(life: Life) -> Steps[None]:
        site = make_site(name=life.name)
        begun = now = (yield from Now()).mono
        while now < begun + SECONDS:
            yield from once(site, job("update", change=add(), default={"n": 0}, deadline=now + 60.0)).run()
            wins.append((life.clock() / 1e9, life.name))
            now = (yield from Now()).mono

    return start


def slices(seed: int) -> tuple[list[float], int]:
    """The share of the slowest of four beside the mean in each fifth of a second, and the wins of all."""
    wins: list[tuple[float, str]] = []
    names = ("a", "b", "c", "d")
    simulate(
        seed,
        {name: hungry(wins) for name in names},
        MemoryWorld("postgresql/v2"),
        network=Network(latency=(0.001, 0.003)),
        max_events=10**6,
    )
    shares: list[float] = []
    for number in range(1, round(SECONDS / SLICE)):
        low = number * SLICE
        counts = Counter(name for at, name in wins if low <= at < low + SLICE)
        shares.append(min(counts[name] for name in names) / (sum(counts.values()) / len(names)))
    return shares, len(wins)


def nobody(_losses: int, _last: Win | None, _seen: object) -> bool:
    """Never meets rivals."""
    return False


def test_four_hungry_processes_share_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """In windows of 0.2 s nobody starves, which without giving way happens; and nearly as much gets done."""
    fair = [slices(seed) for seed in range(3)]
    monkeypatch.setattr("toolkit.core.update.met_rivals", nobody)
    greedy = [slices(seed) for seed in range(3)]
    shares, before = ([share for found, _ in runs for share in found] for runs in (fair, greedy))
    done, most = (sum(wins for _, wins in runs) for runs in (fair, greedy))
    again = "seeds 0 to 2: pytest tests/core/test_fairness.py -k hungry"
    assert statistics.median(shares) >= 0.6 > statistics.median(before), again
    assert min(shares) >= 0.15 > min(before), again
    assert done >= 0.7 * most, again


def test_what_is_given_away_is_no_part_of_a_round_trip() -> None:
    """
    A run that begins at its caller's clock looks at it again after the wait: else each wait would lengthen the next.
    """
    site = make_site()
    site.wins.won("k", Win("w-1", 6.0))
    writer = KeyWriter(site, "k", 50.0, list)
    writer.started = 1.0
    steps, now = writer.run(), 1.0
    step = next(steps)
    while not isinstance(step, Get):
        now += step.seconds if isinstance(step, Pause) else 0.0
        step = steps.send(Instant(now, now) if isinstance(step, Now) else None)
    assert isinstance(steps.send(MISSING_ROW), Now)
    before = site.round_trip.seconds
    with pytest.raises(StopIteration):
        steps.send(Instant(now, now))
    assert now > 5.0
    assert site.round_trip.seconds < before
