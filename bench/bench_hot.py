"""
Many tasks on one key, through a real daprd: the toolkit beside the loops one would write, all in one run.

The sides take turns, a short window each; a figure is the median of its windows, a ratio one of medians. The goals are
those of the issue that asked for combining. ``--store`` picks the store of the hot key; the whole run takes about five
minutes, ``--quick`` one and a half.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.bench_transactions import move_async
from bench.hot_memory import memory_rows
from bench.hot_peers import postgres_rates, redis_rates
from bench.hot_processes import process_rows
from bench.hot_report import Bench, save
from bench.hot_rows import cold_rows, hot_rows, large_rows, latency_rows, store_rows
from bench.hot_sides import ways, window
from bench.hot_transfers import transfer_rows
from toolkit.sidecar.binaries import Binaries, find
from toolkit.testing.live import LiveStores

SERVED = ("redis", "postgresql-v2", "mysql")
SERVERS = {"redis": ("redis-server", "--version"), "postgresql-v2": ("postgres", "--version"),
           "mysql": ("mariadbd", "--version")}  # fmt: skip
PARTS = ("hot", "latency", "large", "stores", "cold", "processes", "transfers", "peers", "memory", "profile")


def peer_rows(bench: Bench, live: LiveStores) -> None:
    """
    The same addition without Dapr.
    """
    for peer, run in (("redis", redis_rates), ("postgresql-v2", postgres_rates)):
        if peer in live.servers:
            with bench.part(f"peers on {peer}"):
                alone, many = (
                    asyncio.run(run(live.servers[peer], tasks, bench.rounds, bench.seconds))
                    for tasks in (1, 64)
                )
                bench.rates("peer, 64 tasks", many, alone)


async def one_key(address: str, store: str) -> None:
    async with ways(store, address) as sides:
        await sides.states.set("hot-profile", {"n": 0})
        await window(sides.by_toolkit, lambda _: "hot-profile", 64, 1.0)


async def many_accounts(address: str, store: str) -> None:
    names, drawn = [f"account-{number}" for number in range(1000)], random.Random(3)
    async with ways(store, address) as sides:
        for name in names:
            await sides.states.set(name, {"n": 1000})

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


def versions(live: LiveStores, binaries: Binaries) -> dict[str, str]:
    """
    What the servers say of themselves.
    """
    found = {"daprd": binaries.version}
    for store, command in SERVERS.items():
        program = shutil.which(command[0]) or next(
            iter(sorted(map(str, Path("/usr/lib").glob(f"postgresql/*/bin/{command[0]}")), reverse=True)),
            None,
        )
        if store in live.servers and program is not None:
            said = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=True).stdout
            # Some programs say where they are installed, which is nobody's business.
            found[f"{store} server"] = re.sub(r"^\S*/", "", said.strip()).splitlines()[0][:80]
    return found


def measure(bench: Bench, live: LiveStores, store: str, parts: Iterable[str]) -> dict[str, Any]:
    """
    The parts of the run that were asked for; returns the profiles.
    """
    address, shared = live.sidecar.grpc_endpoint, store
    if "postgresql-v2" not in live.missing:
        shared = "postgresql-v2"
    others = [name for name in SERVED if name not in live.missing and name != store]
    every: dict[str, Callable[[], None]] = {
        "hot": lambda: hot_rows(bench, address, store),
        "latency": lambda: latency_rows(bench, live.sidecar.grpc_port, store),
        "large": lambda: large_rows(bench, address, store),
        "stores": lambda: store_rows(bench, address, others),
        "cold": lambda: cold_rows(bench, address, dict.fromkeys((store, shared))),
        "processes": lambda: process_rows(bench, address, shared),
        "transfers": lambda: transfer_rows(bench, address, shared),
        "peers": lambda: peer_rows(bench, live),
        "memory": lambda: memory_rows(bench),
    }
    for part, run in every.items():
        if part in parts:
            run()
    if "profile" not in parts:
        return {}
    with bench.part("profiles"):
        return {
            "64 tasks on one key": profile(one_key(address, store)),
            "64 tasks, 1000 accounts": profile(many_accounts(address, shared)),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite", help="sqlite, in-memory, redis, postgresql-v2, mysql")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="length of one window")
    parser.add_argument(
        "--quick", action="store_true", help="windows of 0.1 s: for a look, not for the record"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the run")
    options = parser.parse_args()
    os.environ.pop("OCC_LOG", None)
    seconds = 0.1 if options.quick else options.seconds
    bench, load, binaries = Bench(options.rounds, seconds), os.getloadavg(), find()
    with ExitStack() as stack:
        with bench.part("starting stores and a sidecar"):
            live = stack.enter_context(LiveStores(tuple({options.store, *SERVED}), binaries=binaries))
        os.environ |= live.sidecar.environment
        profiles = measure(bench, live, live.require(options.store), options.only)
        about = {"store": options.store, "rounds": options.rounds, "seconds": seconds, "load before": load,
                 "load after": os.getloadavg(), "not installed": live.missing, "versions": versions(live, binaries),
                 "profile": profiles}  # fmt: skip
    partly = "" if set(options.only) == set(PARTS) else "-part"
    return save(f"hot-{options.store}{partly}", bench.figures, about)


if __name__ == "__main__":
    sys.exit(main())
