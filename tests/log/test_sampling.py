"""
Sampling keeps races whole, and never what matters most.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.log.conftest import committed, conflict, gave_up, lines_of
from toolkit.log import emit, log_to
from toolkit.log._sampling import Sampler


def races(count: int) -> list[str]:
    return [hashlib.blake2b(str(n).encode(), digest_size=8).hexdigest() for n in range(count)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_keeps_about_its_share():
    """
    Of evenly spread races a rate keeps its share.
    """
    sampler = Sampler(0.1, Clock())
    kept = sum(bool(sampler.weigh([race])) for race in races(20_000))
    assert 1_800 < kept < 2_200


def test_lower_rates_keep_subsets():
    """
    Processes at different rates agree on what the lower one keeps.
    """
    half, tenth = Sampler(0.5, Clock()), Sampler(0.1, Clock())
    for race in races(2_000):
        if tenth.weigh([race]):
            assert half.weigh([race]) == 0.5


def test_several_keys_are_kept_if_one_race_is():
    """
    A multi-key commit stays with the losers of any of its races; its weight says so.
    """
    sampler = Sampler(0.1, Clock())
    kept = next(race for race in races(1_000) if sampler.weigh([race]))
    left = next(race for race in races(1_000) if not sampler.weigh([race]))
    assert sampler.weigh([left, kept]) == 1.0 - 0.9**2
    assert sampler.weigh([left, left]) == 0.0


def test_auto_follows_the_load():
    """
    All lines below 200 a second, then half, a tenth, a hundredth, by the second before; a pause resets it.
    """
    clock = Clock()
    sampler = Sampler("auto", clock)
    rates = []
    for second, lines in enumerate((150, 300, 1_500, 5_000, 10, 10)):
        clock.now = float(second)
        for _ in range(lines):
            sampler.weigh([])
        rates.append(sampler._rate)
    clock.now = 60.0
    sampler.weigh([])
    assert (rates, sampler._rate) == ([1.0, 1.0, 0.5, 0.1, 0.01, 1.0], 1.0)


def test_losers_and_winner_stay_together(tmp_path: Path):
    """
    Whatever is kept of a race is all of it; give-ups are never left out; totals stay exact.
    """
    with log_to(tmp_path / "occ.jsonl", sample=0.2) as log:
        for n in range(300):
            emit(conflict(base_etag=str(n)))
            emit(conflict(base_etag=str(n), attempt=2))
            emit(committed(base_etag=str(n)))
        for _ in range(5):
            emit(gave_up())
    lines = lines_of(log.path)
    by_race: dict[str, list[str]] = {}
    for line in lines:
        if "race" in line and "sample" in line:
            assert line["sample"] == 0.2
            by_race.setdefault(line["race"], []).append(line["event"])
    assert 30 < len(by_race) < 100
    assert {tuple(events) for events in by_race.values()} == {
        ("occ.conflict", "occ.conflict", "occ.committed")
    }
    (summary,) = [line for line in lines if line["event"] == "occ.summary"]
    assert (summary["conflicts"], summary["ops"], summary["gave_up"]) == (600, 305, 5)
    assert sum(line["event"] == "occ.gave_up" for line in lines) == 5
