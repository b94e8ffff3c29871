"""
Many tasks on one key, through a real daprd: the toolkit beside the loops one would write, all in one run.

The sides take turns, a short window each; a figure is the median of its windows, a ratio one of medians. The goals are
those of the issue that asked for combining. ``--store`` picks the store of the hot key.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import os
import pstats
import random
import statistics
import sys
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.bench_transactions import by_hand_request, move_async
from bench.hot_peers import postgres_rates, redis_rates
from bench.hot_report import Figure, save
from bench.hot_sides import Window, lost, until, ways, window
from toolkit import StateStore
from toolkit.testing.latency import latency
from toolkit.testing.live import LiveStores

TASKS = (1, 8, 64, 256)
PROCESSES, TASKS_EACH = (2, 4), 16
ACCOUNTS = (10, 100, 1000)
SIDES = ("stub loop", "DaprClient loop", "tenacity", "per-key lock", "toolkit")


@dataclass(slots=True)
class Bench:
    """
    What is run how, and what was found so far.
    """

    rounds: int
    seconds: float
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, **goal: float) -> None:
        self.figures.append(Figure(name, round(value, 4), unit, goal.get("least"), goal.get("most")))

    def rates(self, title: str, found: dict[str, list[Window]] | dict[str, list[float]]) -> dict[str, float]:
        """
        The median rate of each side, also told.
        """
        medians: dict[str, float] = {}
        for side, windows in found.items():
            medians[side] = statistics.median(getattr(one, "rate", one) for one in windows)
            self.add(f"{title}: {side}", medians[side], "per s")
        return medians


async def hot(
    bench: Bench, address: str, store: str, tasks: int, names: tuple[str, ...]
) -> dict[str, list[Window]]:
    """
    So many tasks on one key, the sides in turns in a changing order.
    """
    found: dict[str, list[Window]] = {name: [] for name in names}
    async with ways(store, address) as sides:
        drawn, order, one = random.Random(tasks), list(names), sides.all()
        for key in names:
            await sides.states.set(f"hot-{key.replace(' ', '-')}", {"n": 0})
        await window(one["toolkit"], lambda _: "hot-toolkit", tasks, 0.1)
        sides.runs, done = 0, 0
        for _ in range(bench.rounds):
            drawn.shuffle(order)
            for name in order:
                key = f"hot-{name.replace(' ', '-')}"
                seen = await window(one[name], lambda _, key=key: key, tasks, bench.seconds)  # type: ignore[misc]
                found[name].append(seen)
                done += len(seen.times) if name == "toolkit" else 0
        if tasks == 64:
            bench.add(f"changes run per update, {tasks} tasks", sides.runs / done, "ratio", most=1.01)
    return found


def median(windows: list[Window], what: str) -> float:
    return statistics.median(getattr(one, what) for one in windows)


def hot_rows(bench: Bench, address: str, store: str) -> None:
    goals = {8: 10.0, 64: 250.0}
    for tasks in TASKS:
        title = f"{store}, {tasks} tasks"
        found = asyncio.run(hot(bench, address, store, tasks, SIDES))
        rates = bench.rates(title, found)
        ratio = rates["toolkit"] / max(rates["DaprClient loop"], 1e-9)
        bench.add(
            f"{title}: toolkit / DaprClient loop",
            ratio,
            "x",
            **({"least": goals[tasks]} if tasks in goals else {}),
        )
        bench.add(f"{title}: CPU per update, toolkit", 1e6 * median(found["toolkit"], "cpu"), "µs")
        if tasks == 1:
            medians = {side: median(windows, "median") for side, windows in found.items()}
            bench.add(
                f"{title}: toolkit / stub loop, time",
                medians["toolkit"] / medians["stub loop"],
                "ratio",
                most=1.06,
            )
            sdk = medians["toolkit"] / medians["DaprClient loop"]
            bench.add(f"{title}: toolkit / DaprClient loop, time", sdk, "ratio", most=0.97)


def latency_rows(bench: Bench, port: int, store: str) -> None:
    """
    One and five milliseconds more for each round trip.
    """
    for added, goal in ((1, 60.0), (5, 25.0)):
        with latency(port, added / 2000) as slow:
            address = f"127.0.0.1:{slow}"
            alone = asyncio.run(hot(bench, address, store, 1, ("toolkit", "per-key lock")))
            found = asyncio.run(
                hot(bench, address, store, 64, ("DaprClient loop", "per-key lock", "toolkit"))
            )
        title = f"{store} +{added} ms, 64 tasks"
        rates = bench.rates(title, found)
        bench.add(
            f"{title}: toolkit / DaprClient loop",
            rates["toolkit"] / rates["DaprClient loop"],
            "x",
            least=goal,
        )
        share = rates["toolkit"] / (64 * rates["per-key lock"])
        bench.add(
            f"{title}: toolkit / (64 x per-key lock)",
            share,
            "ratio",
            **({"least": 0.9} if added == 1 else {}),
        )
        tail = median(found["toolkit"], "p99") / median(alone["toolkit"], "median")
        bench.add(
            f"{title}: p99 / uncontended median", tail, "ratio", **({"most": 2.5} if added == 1 else {})
        )


async def cold(bench: Bench, address: str, store: str) -> dict[str, list[Window]]:
    """
    64 tasks, each on a key of its own.
    """
    found: dict[str, list[Window]] = {name: [] for name in ("stub loop", "DaprClient loop", "toolkit")}
    async with ways(store, address) as sides:
        for number in range(64):
            await sides.states.set(f"cold-{number}", {"n": 0})
        for _ in range(bench.rounds):
            for name, windows in found.items():
                one = sides.all()[name]
                windows.append(await window(one, lambda number: f"cold-{number}", 64, bench.seconds))
    return found


# -- several processes ---------------------------------------------------------------------------------------------------


def process(barrier: Any, answers: Any, address: str, store: str, rounds: int, seconds: float) -> None:
    """
    One of several: a window of each side, whenever all are ready.
    """

    async def work() -> dict[str, list[float]]:
        rates: dict[str, list[float]] = {"stub loop": [], "toolkit": []}
        async with ways(store, address) as sides:
            for _ in range(rounds):
                for name, found in rates.items():
                    barrier.wait(60)
                    key = f"hot-{name.replace(' ', '-')}"
                    found.append(
                        (await window(sides.all()[name], lambda _, key=key: key, TASKS_EACH, seconds)).rate
                    )  # type: ignore[misc]
        return rates

    answers.put(asyncio.run(work()))


def process_rows(bench: Bench, address: str, store: str) -> None:
    context = multiprocessing.get_context("spawn")
    with StateStore(store, address=address) as states:
        for key in ("hot-stub-loop", "hot-toolkit"):
            states.set(key, {"n": 0})
    for count in PROCESSES:
        barrier, answers = context.Barrier(count), context.SimpleQueue()
        arguments = (barrier, answers, address, store, bench.rounds, bench.seconds)
        started = [context.Process(target=process, args=arguments) for _ in range(count)]
        for one in started:
            one.start()
        for one in started:
            one.join(120)
            if one.exitcode != 0:
                raise SystemExit(f"a process of the bench ended with {one.exitcode}")
        found = [answers.get() for _ in started]
        title = f"{store}, {count} processes x {TASKS_EACH} tasks"
        sums = {
            side: [sum(rates) for rates in zip(*(one[side] for one in found), strict=True)]
            for side in found[0]
        }
        rates = bench.rates(title, sums)
        goal = {"least": 10.0} if count == 4 else {}
        bench.add(
            f"{title}: toolkit / stub loop", rates["toolkit"] / max(rates["stub loop"], 1e-9), "x", **goal
        )
        each = [statistics.mean(one["toolkit"]) for one in found]
        goal = {"least": 0.5} if count == 4 else {}
        bench.add(f"{title}: slowest process / mean", min(each) / statistics.mean(each), "ratio", **goal)


# -- transfers -----------------------------------------------------------------------------------------------------------


async def transfers(bench: Bench, address: str, store: str, accounts: int) -> dict[str, list[Window]]:
    """
    64 tasks move one between two of so many accounts.
    """
    from dapr.proto import api_v1, common_v1

    names = [f"account-{number}" for number in range(accounts)]
    drawn = random.Random(accounts)
    async with ways(store, address) as sides:
        for name in names:
            await sides.states.set(name, {"n": 1000})

        async def by_hand(_key: str, end: float) -> bool:
            pair = drawn.sample(names, 2)

            async def once() -> None:
                found = await sides.stub.GetBulkState(
                    api_v1.GetBulkStateRequest(store_name=store, keys=pair), timeout=10
                )
                request = by_hand_request(store, found, pair[0], api_v1, common_v1)
                await sides.stub.ExecuteStateTransaction(request, timeout=10)

            return await until(once, end, refused)

        async def mine(_key: str, _end: float) -> bool:
            await sides.states.transact(move_async, *drawn.sample(names, 2))
            return True

        found: dict[str, list[Window]] = {"by hand": [], "toolkit": []}
        for _ in range(bench.rounds):
            for name, one in (("by hand", by_hand), ("toolkit", mine)):
                found[name].append(await window(one, lambda _: "", 64, bench.seconds))
    return found


def refused(error: BaseException) -> bool:
    """
    A transaction that lost is INTERNAL, like everything else that goes wrong in one; only its text tells.
    """
    return lost(error) or "etag" in str(error).lower() or "deadlock" in str(error).lower()


def transfer_rows(bench: Bench, address: str, store: str) -> None:
    for accounts in ACCOUNTS:
        title = f"{store}, 64 tasks, {accounts} accounts"
        rates = bench.rates(title, asyncio.run(transfers(bench, address, store, accounts)))
        goal = {10: {"least": 12.0}, 1000: {"least": 0.95}}.get(accounts, {})
        bench.add(f"{title}: toolkit / by hand", rates["toolkit"] / max(rates["by hand"], 1e-9), "x", **goal)


# -- the run -------------------------------------------------------------------------------------------------------------


async def one_key(address: str, store: str) -> None:
    async with ways(store, address) as sides:
        await sides.states.set("hot-toolkit", {"n": 0})
        await window(sides.by_toolkit, lambda _: "hot-toolkit", 64, 1.0)


async def many_accounts(address: str, store: str) -> None:
    names, drawn = [f"account-{number}" for number in range(1000)], random.Random(3)
    async with ways(store, address) as sides:

        async def one(_key: str, _end: float) -> bool:
            await sides.states.transact(move_async, *drawn.sample(names, 2))
            return True

        await window(one, lambda _: "", 64, 1.0)


def profile(work: Coroutine[Any, Any, None]) -> list[str]:
    """
    Where the process spends its time: the functions with most time of their own.
    """
    profiler = cProfile.Profile()
    profiler.runcall(asyncio.run, work)
    entries: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in entries.values())
    slowest = sorted(entries.items(), key=lambda item: -item[1][2])[:12]
    return [
        f"{entry[2] / total:.1%} {Path(place[0]).name}:{place[1]} {place[2]}, {entry[1]} calls"
        for place, entry in slowest
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite", help="sqlite, in-memory, redis, postgresql-v2, mysql")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of one window")
    options = parser.parse_args()
    os.environ.pop("OCC_LOG", None)
    bench, load = Bench(options.rounds, options.seconds), os.getloadavg()
    with ExitStack() as stack:
        live = stack.enter_context(LiveStores(tuple({options.store, "redis", "postgresql-v2"})))
        os.environ |= live.sidecar.environment
        address, store = live.sidecar.grpc_endpoint, live.require(options.store)
        hot_rows(bench, address, store)
        latency_rows(bench, live.sidecar.grpc_port, store)
        rates = bench.rates(f"{store}, 64 tasks on 64 keys", asyncio.run(cold(bench, address, store)))
        bench.add(f"{store}, 64 keys: toolkit / stub loop", rates["toolkit"] / rates["stub loop"], "x")
        shared = store if "postgresql-v2" in live.missing else "postgresql-v2"
        process_rows(bench, address, shared)
        transfer_rows(bench, address, shared)
        for peer, run in (("redis", redis_rates), ("postgresql-v2", postgres_rates)):
            if peer in live.servers:
                found = asyncio.run(run(live.servers[peer], 64, bench.rounds, bench.seconds))
                bench.rates("peer, 64 tasks", found)
        where = {
            "64 tasks on one key": profile(one_key(address, store)),
            "64 tasks, 1000 accounts": profile(many_accounts(address, shared)),
        }
        about = {"store": store, "rounds": bench.rounds, "seconds": bench.seconds, "load before": load,
                 "load after": os.getloadavg(), "not installed": live.missing, "profile": where}  # fmt: skip
    return save(f"hot-{store}", bench.figures, about)


if __name__ == "__main__":
    sys.exit(main())
