"""
Transfers between two of 10, 100 and 1000 accounts, beside a bulk read and the store's own transaction by hand.
"""

from __future__ import annotations

import asyncio
import random

from bench.bench_transactions import by_hand_request, move_async
from bench.hot_report import Bench, rate
from bench.hot_sides import Window, lost, until, ways, window

ACCOUNTS = (10, 100, 1000)
TASKS = (1, 64)


async def transfers(
    bench: Bench, address: str, store: str, accounts: int
) -> dict[int, dict[str, list[Window]]]:
    """
    One task, then 64, move one between two of so many accounts.
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

        found: dict[int, dict[str, list[Window]]] = {count: {"by hand": [], "toolkit": []} for count in TASKS}
        for _ in range(bench.rounds):
            for count, turn in found.items():
                for name, one in (("by hand", by_hand), ("toolkit", mine)):
                    turn[name].append(await window(one, lambda _: "", count, bench.seconds))
    return found


def refused(error: BaseException) -> bool:
    """
    A transaction that lost is INTERNAL, like everything else that goes wrong in one; only its text tells.
    """
    return lost(error) or "etag" in str(error).lower() or "deadlock" in str(error).lower()


def transfer_rows(bench: Bench, address: str, store: str) -> None:
    for accounts in ACCOUNTS:
        with bench.part(f"{store}: transfers over {accounts} accounts"):
            found = asyncio.run(transfers(bench, address, store, accounts))
            title = f"{store}, 64 tasks, {accounts} accounts"
            rates = bench.rates(title, found[64], found[1])
            goals = {10: {"least": 12.0}, 1000: {"least": 0.95}}.get(accounts, {})
            first = rate(found[1]["toolkit"]) / max(rate(found[1]["by hand"]), 1e-9)
            ratio = rates["toolkit"] / max(rates["by hand"], 1e-9)
            bench.add(f"{title}: toolkit / by hand", ratio, "x", first, **goals)
