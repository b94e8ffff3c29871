"""
Several processes on one key: how much they get done together, and how evenly.

All sides take turns in each process, a barrier before every window, so that the processes are rivals in all of it. What
a process got is counted over the whole run and in slices of 0.2 s: the clock is the same one in all processes.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.hot_report import Bench, rate
from bench.hot_sides import ways, window
from toolkit import StateStore

# Processes and tasks in each: some with many tasks, and the usual pods with one each.
CROWDS = ((2, 16), (4, 16), (8, 1))
SLICE = 0.2
# A window must have a few slices.
LEAST_SECONDS = 1.0
SIDES = ("stub loop", "toolkit")


class Turn(NamedTuple):
    """
    One window of one process: updates per second, and when each of them was done.
    """

    rate: float
    began: float
    ends: list[float]


class Found(NamedTuple):
    """
    What so many processes did.

    Attributes:
        rates: By side, the updates per second of all processes together in each window.
        whole: The slowest process beside the mean of all, over the run.
        slices: The same in each slice of 0.2 s in which all were at work.
        gap: The longest time a process was without a single update.
    """

    rates: dict[str, list[float]]
    whole: float
    slices: list[float]
    gap: float


def _process(
    barrier: Any, answers: Any, address: str, store: str, tasks: int, rounds: int, seconds: float
) -> None:
    async def work() -> dict[str, list[Turn]]:
        turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
        async with ways(store, address) as sides:
            for _ in range(rounds):
                for side, found in turns.items():
                    barrier.wait(120)
                    key = f"hot-{side.replace(' ', '-')}"
                    seen = await window(sides.all()[side], lambda _, key=key: key, tasks, seconds)  # type: ignore[misc]
                    found.append(Turn(seen.rate, seen.began, seen.ends))
        return turns

    answers.put(asyncio.run(work()))


def rivals(address: str, store: str, processes: int, tasks: int, rounds: int, seconds: float) -> Found:
    """
    Run so many processes with so many tasks each on one key.
    """
    with StateStore(store, address=address) as states:
        for side in SIDES:
            states.set(f"hot-{side.replace(' ', '-')}", {"n": 0})
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(processes), context.Queue()
    arguments = (barrier, answers, address, store, tasks, rounds, seconds)
    started = [context.Process(target=_process, args=arguments) for _ in range(processes)]
    for one in started:
        one.start()
    limit = 120 + 4 * rounds * seconds
    found: list[dict[str, list[Turn]]] = [answers.get(timeout=limit) for _ in started]
    for one in started:
        one.join(60)
        if one.exitcode != 0:
            raise SystemExit(f"a process of the bench ended with {one.exitcode}")
    rates = {
        side: [sum(turn.rate for turn in turns) for turns in zip(*(one[side] for one in found), strict=True)]
        for side in SIDES
    }
    mine = [one["toolkit"] for one in found]
    counts = [sum(len(turn.ends) for turn in turns) for turns in mine]
    slices: list[float] = []
    gap = 0.0
    for turns in zip(*mine, strict=True):
        shares, longest = _shares(turns, seconds)
        slices += shares
        gap = max(gap, longest)
    return Found(rates, min(counts) / max(statistics.mean(counts), 1e-9), slices, gap)


def _shares(turns: Sequence[Turn], seconds: float) -> tuple[list[float], float]:
    """
    The slowest beside the mean in each slice, and the longest wait of any process for its next update.
    """
    begin, end = max(turn.began for turn in turns), min(turn.began for turn in turns) + seconds
    shares = []
    for number in range(int((end - begin) / SLICE)):
        low, high = begin + number * SLICE, begin + (number + 1) * SLICE
        counts = [sum(low <= done < high for done in turn.ends) for turn in turns]
        if any(counts):
            shares.append(min(counts) / statistics.mean(counts))
    gap = 0.0
    for turn in turns:
        marks = [begin, *sorted(done for done in turn.ends if begin <= done < end), end]
        gap = max(gap, *(later - sooner for sooner, later in itertools.pairwise(marks)))
    return shares, gap


def process_rows(bench: Bench, address: str, store: str) -> None:
    """
    Several processes, each with many tasks or one; beside each figure the same of a lone task.
    """
    seconds = max(bench.seconds, LEAST_SECONDS)
    with bench.part(f"{store}: one process with a lone task"):
        alone = rivals(address, store, 1, 1, bench.rounds, bench.seconds).rates
        first = rate(alone["toolkit"]) / max(rate(alone["stub loop"]), 1e-9)
    for processes, tasks in CROWDS:
        title = f"{store}, {processes} processes x {tasks} task{'s' if tasks > 1 else ''}"
        with bench.part(f"{store}: {processes} processes with {tasks} on one key"):
            found = rivals(address, store, processes, tasks, bench.rounds, seconds)
            rates = bench.rates(title, found.rates, alone)
            tight = (processes, tasks) == (4, 16)
            ratio = rates["toolkit"] / max(rates["stub loop"], 1e-9)
            goals = {"least": 10.0} if tight else {}
            bench.add(f"{title}: toolkit / stub loop", ratio, "x", first, **goals)
            goals = {"least": 0.5} if tight else {}
            bench.add(f"{title}: slowest process / mean", found.whole, "ratio", **goals)
            shares = sorted(found.slices)
            bench.add(f"{title}: the same in 0.2 s, median", statistics.median(shares), "ratio")
            bench.add(f"{title}: the same in 0.2 s, worst tenth", shares[len(shares) // 10], "ratio")
            bench.add(f"{title}: longest without an update", found.gap, "s")
