"""
Twenty thousand distinct schedules of single keys under every fault.

A failure prints its seed and the one command that runs it again. ``OCC_SIMULATE=first:count`` chooses other seeds.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from toolkit.core.model import Reply, Write
from toolkit.core.steps import Get, Pause, Put, Steps
from toolkit.testing import scenarios
from toolkit.testing.memory import MemoryWorld
from toolkit.testing.scenarios import explore, scenario
from toolkit.testing.simulate import Life, Network, simulate

FIRST, COUNT = map(int, os.environ.get("OCC_SIMULATE", "0:20400").split(":"))
CHUNK = 300
FAULTS = (
    "drop_reply",
    "drop_request",
    "duplicate",
    "late",
    "late_duplicate",
    "fail_read",
    "kill",
    "freeze",
    "dressed",
    "ack_only",
)


def chunk(first: int) -> tuple[set[str], Counter[str], Counter[tuple[str, str]], list[str], float]:
    """Run some seeds: digests, what callers were told, faults by store, what went wrong, seconds of the processor."""
    began = time.process_time()
    digests: set[str] = set()
    told: Counter[str] = Counter()
    table: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    for finding in explore(range(first, min(first + CHUNK, FIRST + COUNT))):
        digests.add(finding.run.digest)
        told += finding.told
        store = "lying" if finding.plan.ack_only else finding.plan.profile.type
        table += Counter({(fault, store): number for fault, number in finding.fired.items()})
        if finding.problems:
            problems.append(str(finding))
    return digests, told, table, problems, time.process_time() - began


@pytest.mark.timeout(600)
def test_twenty_thousand_schedules(tell: Callable[[str], None]) -> None:
    """No promise is broken in any of them, and the run is not void: every fault hit every store often enough."""
    digests: set[str] = set()
    told: Counter[str] = Counter()
    table: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    busy = 0.0
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        for part in pool.map(chunk, range(FIRST, FIRST + COUNT, CHUNK)):
            digests |= part[0]
            told += part[1]
            table += part[2]
            problems += part[3]
            busy += part[4]
    tell(
        f"{len(digests)} distinct schedules in {busy:.0f} s of the processor {dict(told)}\n{as_table(table)}"
    )
    assert problems == [], "\n\n".join(problems[:5])
    assert len(digests) >= (20_000 if COUNT >= 20_400 else 0.98 * COUNT)
    stores = {store for _, store in table}
    assert {
        (fault, store): table[fault, store]
        for fault in FAULTS[:-1]
        for store in stores
        if table[fault, store] < 20
    } == {}
    assert table["ack_only", "lying"] >= 20
    conflicts, commits = (sum(table[name, store] for store in stores) for name in ("conflicts", "commits"))
    assert 0.05 <= conflicts / (conflicts + commits) <= 0.6
    assert (told["unknown"] + told["info"]) / sum(told.values()) >= 0.01
    # Of the two processes together: what else runs on the machine makes nothing fail.
    assert busy < 2 * 180


def as_table(table: Counter[tuple[str, str]]) -> str:
    stores = sorted({store for _, store in table})
    lines = [" " * 16 + " ".join(f"{store.removeprefix('state.'):>14}" for store in stores)]
    rows = (*FAULTS, "conflicts", "commits")
    lines += [f"{row:16}" + " ".join(f"{table[row, store]:14}" for store in stores) for row in rows]
    return "\n".join(lines)


def test_a_seed_replays() -> None:
    """The same seed is the same run, to the last message."""
    one, again = scenario(17), scenario(17)
    assert (one.run.trace, one.told, one.problems) == (again.run.trace, again.told, again.problems)


def test_the_command_runs_a_seed_again(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the messages and the verdict."""
    assert scenarios.main(["17"]) == 0
    out = capsys.readouterr().out
    assert "put k" in out
    assert "again: python -m toolkit.testing.scenarios 17" in out


# Positive controls -------------------------------------------------------------------------------------------------------


def plain_loop(times: int, *, retry_lost: bool) -> Callable[[Life], Steps[int]]:
    """The loop everybody writes: read, change, write with the ETag, and again when anything goes wrong."""

    def start(_life: Life) -> Steps[int]:
        acked = 0
        while acked < times:
            row = yield from Get("k")
            if isinstance(row, Reply):
                continue
            reply = yield from Put(Write("k", str(int(row.data) + 1).encode(), etag=row.etag))
            if reply.ok or (reply.code != "ABORTED" and not retry_lost):
                acked += 1
            yield from Pause(0.001)
        return acked

    return start


def test_a_plain_loop_doubles_under_lost_replies() -> None:
    """On the quiet line it is exact; where replies are lost it counts some increments twice."""

    def total(seed: int, network: Network) -> int:
        world = MemoryWorld("in-memory")
        world.put(Write("k", b"0"))
        simulate(seed, {name: plain_loop(10, retry_lost=True) for name in "ab"}, world, network=network)
        return int(world.get("k").data)

    assert {total(seed, Network()) for seed in range(10)} == {20}
    assert all(total(seed, Network(drop_reply=0.15)) > 20 for seed in range(10))
