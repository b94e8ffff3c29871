"""
One process on one key, on cold keys, with large values, with added latency and on several stores.

A window of every number of tasks and every side comes round in each round, in an order drawn anew: what disturbs the
machine disturbs all of them.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Iterable, Sequence

from bench.hot_report import Bench, rate
from bench.hot_sides import Window, ways, window
from toolkit.testing.latency import latency

TASKS = (1, 8, 64, 256)
SIDES = ("stub loop", "DaprClient loop", "tenacity", "per-key lock", "toolkit")
MAIN = ("stub loop", "DaprClient loop", "toolkit")
LARGE = 100_000
SHORT = 4

# By number of tasks, then by side.
Found = dict[int, dict[str, list[Window]]]


async def hot(
    bench: Bench, address: str, store: str, tasks: Sequence[int], names: Sequence[str], size: int = 0
) -> tuple[Found, float]:
    """
    So many tasks on one key; also how often the toolkit ran a change for each update.
    """
    found: Found = {count: {name: [] for name in names} for count in tasks}
    # A lone task is over in a moment: many short windows meet the same weather as everybody else's.
    turns = [(count, name) for count in tasks for name in names for _ in range(SHORT if count == 1 else 1)]
    async with ways(store, address) as sides:
        drawn, one = random.Random(len(turns)), sides.all()
        keys = {name: f"hot-{size}-{name.replace(' ', '-')}" for name in names}
        for key in keys.values():
            await sides.states.set(key, {"n": 0, "filling": "x" * size} if size else {"n": 0})
        await window(one["toolkit"], lambda _: keys["toolkit"], 64, 0.1)
        sides.runs = 0
        for _ in range(bench.rounds):
            drawn.shuffle(turns)
            for count, name in turns:
                seconds = bench.seconds / SHORT if count == 1 else bench.seconds
                seen = await window(one[name], lambda _, key=keys[name]: key, count, seconds)  # type: ignore[misc]
                found[count][name].append(seen)
        done = sum(len(seen.times) for sides in found.values() for seen in sides["toolkit"])
        return found, sides.runs / max(done, 1)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def median(windows: Sequence[Window], what: str) -> float:
    return statistics.median(getattr(one, what) for one in windows)


def hot_rows(bench: Bench, address: str, store: str) -> None:
    """
    The hot key by number of tasks, without added latency.
    """
    with bench.part(f"{store}: one key, {', '.join(map(str, TASKS))} tasks, {len(SIDES)} sides"):
        found, runs = asyncio.run(hot(bench, address, store, TASKS, SIDES))
        goals = {8: {"least": 10.0}, 64: {"least": 250.0}}
        alone = found[1]
        first = rate(alone["toolkit"]) / max(rate(alone["DaprClient loop"]), 1e-9)
        for tasks, sides in found.items():
            title = f"{store}, {_tasks(tasks)}"
            rates = bench.rates(title, sides, alone if tasks > 1 else None)
            ratio = rates["toolkit"] / max(rates["DaprClient loop"], 1e-9)
            bench.add(
                f"{title}: toolkit / DaprClient loop",
                ratio,
                "x",
                first if tasks > 1 else None,
                **goals.get(tasks, {}),
            )
        bench.add("changes run per update, one process", runs, "ratio", most=1.01)
        cpu = {tasks: 1e6 * median(sides["toolkit"], "cpu") for tasks, sides in found.items()}
        for tasks, value in cpu.items():
            bench.add(f"{store}, {_tasks(tasks)}: CPU per update, toolkit", value, "µs", cpu[1])
        bench.add("CPU per update, 256 tasks / 1 task", cpu[256] / cpu[1], "ratio", most=1.0)
        mine = median(alone["toolkit"], "median")
        for side, goal in (("stub loop", 1.06), ("DaprClient loop", 0.97)):
            bench.add(
                f"{store}, 1 task: toolkit / {side}, time",
                mine / median(alone[side], "median"),
                "ratio",
                most=goal,
            )
        bench.add(
            f"{store}: read and write by stub, median", 1e3 * median(alone["stub loop"], "median"), "ms"
        )


def latency_rows(bench: Bench, port: int, store: str) -> None:
    """
    One and five milliseconds more for each round trip.
    """
    for added, goal in ((1, 60.0), (5, 25.0)):
        with (
            bench.part(f"{store}: one key, {added} ms added to a round trip"),
            latency(port, added / 2000) as slow,
        ):
            names = ("stub loop", "DaprClient loop", "per-key lock", "toolkit")
            found, _ = asyncio.run(hot(bench, f"127.0.0.1:{slow}", store, (1, 64), names))
            title, tight = f"{store} +{added} ms, 64 tasks", added == 1
            rates, alone = bench.rates(title, found[64], found[1]), found[1]
            first = rate(alone["toolkit"]) / rate(alone["DaprClient loop"])
            ratio = rates["toolkit"] / rates["DaprClient loop"]
            bench.add(f"{title}: toolkit / DaprClient loop", ratio, "x", first, least=goal)
            share = rates["toolkit"] / (64 * rates["per-key lock"])
            first = rate(alone["toolkit"]) / rate(alone["per-key lock"])
            goals = {"least": 0.9} if tight else {}
            bench.add(f"{title}: toolkit / (tasks x per-key lock)", share, "ratio", first, **goals)
            tail = median(found[64]["toolkit"], "p99") / median(alone["toolkit"], "median")
            goals = {"most": 2.5} if tight else {}
            bench.add(f"{title}: p99 / uncontended median", tail, "ratio", **goals)


def large_rows(bench: Bench, address: str, store: str) -> None:
    """
    A value of 100 kB: each batch reads and writes all of it.
    """
    with bench.part(f"{store}: one key with {LARGE // 1000} kB"):
        found, _ = asyncio.run(hot(bench, address, store, (1, 64), MAIN, LARGE))
        _pair(bench, f"{store}, {LARGE // 1000} kB, 64 tasks", found)


def store_rows(bench: Bench, address: str, stores: Iterable[str]) -> None:
    """
    The hot key on other stores.
    """
    for store in stores:
        with bench.part(f"{store}: one key, 1 and 64 tasks"):
            found, _ = asyncio.run(hot(bench, address, store, (1, 64), MAIN))
            _pair(bench, f"{store}, 64 tasks", found)


def _pair(bench: Bench, title: str, found: Found) -> None:
    rates = bench.rates(title, found[64], found[1])
    first = rate(found[1]["toolkit"]) / max(rate(found[1]["DaprClient loop"]), 1e-9)
    ratio = rates["toolkit"] / max(rates["DaprClient loop"], 1e-9)
    bench.add(f"{title}: toolkit / DaprClient loop", ratio, "x", first)


def cold_rows(bench: Bench, address: str, stores: Iterable[str]) -> None:
    """
    Each task on a key of its own: nothing to combine, reads to gather.
    """
    for store in stores:
        _cold(bench, address, store)


def _cold(bench: Bench, address: str, store: str) -> None:

    async def run() -> Found:
        found: Found = {count: {name: [] for name in MAIN} for count in (1, 64, 256)}
        async with ways(store, address) as sides:
            for number in range(256):
                await sides.states.set(f"cold-{number}", {"n": 0})
            for _ in range(bench.rounds):
                for count, names in found.items():
                    for name, windows in names.items():
                        one = sides.all()[name]
                        windows.append(
                            await window(one, lambda number: f"cold-{number}", count, bench.seconds)
                        )
        return found

    with bench.part(f"{store}: a key for each task"):
        found = asyncio.run(run())
        for count in (64, 256):
            title = f"{store}, {count} tasks on {count} keys"
            rates = bench.rates(title, found[count], found[1])
            first = rate(found[1]["toolkit"]) / rate(found[1]["stub loop"])
            bench.add(f"{title}: toolkit / stub loop", rates["toolkit"] / rates["stub loop"], "x", first)
