"""
What a transaction of two keys costs, beside a hand-written bulk get and ExecuteStateTransaction with ETags.

Round trips are counted at a proxy. The transfers run on PostgreSQL (SQLite where it is not installed): one after the
other, the sides in turns; then 64 tasks over ten accounts, both sides for the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.bench_single import alternate
from bench.report import Row, save
from toolkit import AsyncStateStore, RetryPolicy, StateStore
from toolkit.testing.live import LiveStores
from toolkit.testing.proxy import FaultProxy

TARGETS = {"single": 2, "native": 2, "intents": 3, "ratio": 1.15, "loop": round(1 / 12, 3)}
ACCOUNTS = [f"account-{number}" for number in range(10)]
TASKS = 64


def move(tx: Any, src: str, dst: str) -> None:
    found = tx.get_many([src, dst])
    tx.put(src, {**found[src], "n": found[src]["n"] - 1})
    tx.put(dst, {**found[dst], "n": found[dst]["n"] + 1})


async def move_async(tx: Any, src: str, dst: str) -> None:
    found = await tx.get_many([src, dst])
    tx.put(src, {**found[src], "n": found[src]["n"] - 1})
    tx.put(dst, {**found[dst], "n": found[dst]["n"] + 1})


def add(tx: Any, key: str) -> None:
    tx.put(key, {"n": tx.get(key)["n"] + 1})


# -- round trips -------------------------------------------------------------------------------------------------------


def trips(live: LiveStores, native: str) -> list[Row]:
    """
    Calls one after the other; those sent together are one, and what runs in the background is none.
    """
    rows: list[Row] = []
    with FaultProxy(live.sidecar.grpc_port) as proxy:
        for name, store, body, keys in (
            ("single", native, add, ("a",)),
            ("native", native, move, ("a", "b")),
            ("intents", "redis", move, ("a", "b")),
        ):
            if store in live.missing:
                continue
            with StateStore(store, address=f"127.0.0.1:{proxy.port}") as states:
                for key in keys:
                    states.set(key, {"n": 0})
                states.transact(body, *keys)
                states._background.drain(5)  # noqa: SLF001 - the transaction before
                proxy.reset_counts()
                states.transact(body, *keys)
                states._background.drain(5)  # noqa: SLF001 - else the count may be short
                rows.append(
                    Row(f"{name}: round trips", _trips(name, dict(proxy.calls)), "calls", TARGETS[name])
                )
    return rows


def _trips(path: str, calls: dict[str, int]) -> int:
    """
    From counted calls to round trips; raises when they are not those the path is made of.
    """
    made = {
        "single": ({"GetState": 1, "SaveState": 1}, 2),
        "native": ({"GetBulkState": 1, "ExecuteStateTransaction": 1}, 2),
        # Read both, prepare both, decide; then in the background read and finish both, and read and close the record.
        "intents": ({"GetState": 2 + 3, "SaveState": 2 + 1 + 3}, 3),
    }
    expected, count = made[path]
    if calls != expected:
        raise SystemExit(f"{path}: the proxy counted {calls}, expected {expected}")
    return count


# -- uncontended -------------------------------------------------------------------------------------------------------


def uncontended(live: LiveStores, store: str, rounds: int, seed: int) -> list[Row]:
    """
    Transfers between two accounts that nobody else touches.
    """
    from dapr.proto import api_service_v1, api_v1, common_v1

    from toolkit.dapr.address import address_of
    from toolkit.dapr.channel import sync_channel

    address = live.sidecar.grpc_endpoint
    with StateStore(store, address=address) as states, sync_channel(address_of(address)) as channel:
        stub = api_service_v1.DaprStub(channel)
        for key in ("mine-a", "mine-b", "hand-a", "hand-b"):
            states.set(key, {"n": 1000})

        def by_hand() -> None:
            found = stub.GetBulkState(
                api_v1.GetBulkStateRequest(store_name=store, keys=["hand-a", "hand-b"]), timeout=5
            )
            request = by_hand_request(store, found, "hand-a", api_v1, common_v1)
            stub.ExecuteStateTransaction(request, timeout=5)

        sides = {"by hand": by_hand, "toolkit": lambda: states.transact(move, "mine-a", "mine-b")}
        times = alternate(sides, rounds, seed)
    hand, mine = (statistics.median(times[name]) for name in ("by hand", "toolkit"))
    return [
        Row("two keys by hand, median", round(hand * 1000, 3), "ms"),
        Row("two keys in a transaction, median", round(mine * 1000, 3), "ms"),
        Row("toolkit / by hand", round(mine / hand, 3), "ratio", TARGETS["ratio"]),
    ]


def by_hand_request(store: str, found: Any, src: str, api: Any, common: Any) -> Any:
    """
    One from ``src``, one to the other, each with its ETag.
    """
    operations: list[Any] = []
    for item in found.items:
        value = json.loads(item.data)
        value["n"] += -1 if item.key == src else 1
        state = common.StateItem(
            key=item.key, value=json.dumps(value).encode(), etag=common.Etag(value=item.etag)
        )
        operations.append(api.TransactionalStateOperation(operationType="upsert", request=state))
    return api.ExecuteStateTransactionRequest(storeName=store, operations=operations)


# -- contended ---------------------------------------------------------------------------------------------------------


async def crowd(seconds: float, one: Callable[[str, str], Awaitable[None]]) -> float:
    """
    Transfers a second of 64 tasks over ten accounts.
    """
    end, done = time.perf_counter() + seconds, 0

    async def task(number: int) -> None:
        nonlocal done
        drawn = random.Random(number)
        while time.perf_counter() < end:
            await one(*drawn.sample(ACCOUNTS, 2))
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*[task(number) for number in range(TASKS)])
    return done / (time.perf_counter() - began)


async def contended(live: LiveStores, store: str, seconds: float) -> list[Row]:
    """
    The same crowd with the toolkit and with the loop everybody writes: read, send with ETags, again until it is taken.
    """
    import grpc
    from dapr.proto import api_service_v1, api_v1, common_v1

    from toolkit.dapr.address import address_of
    from toolkit.dapr.channel import aio_channel

    address, retry = live.sidecar.grpc_endpoint, RetryPolicy(deadline=60.0)
    async with (
        AsyncStateStore(store, address=address, retry=retry) as states,
        aio_channel(address_of(address)) as channel,
    ):
        stub = api_service_v1.DaprStub(channel)

        async def loop(src: str, dst: str) -> None:
            while True:
                found = await stub.GetBulkState(
                    api_v1.GetBulkStateRequest(store_name=store, keys=[src, dst]), timeout=5
                )
                request = by_hand_request(store, found, src, api_v1, common_v1)
                try:
                    await stub.ExecuteStateTransaction(request, timeout=5)
                except grpc.aio.AioRpcError:
                    continue
                return

        async def mine(src: str, dst: str) -> None:
            await states.transact(move_async, src, dst)

        rates: dict[str, list[float]] = {"by hand": [], "toolkit": []}
        for _ in range(2):
            for name, one in (("by hand", loop), ("toolkit", mine)):
                for key in ACCOUNTS:
                    await states.set(key, {"n": 1000})
                rates[name].append(await crowd(seconds, one))
        total = sum(value["n"] for value in (await states.snapshot(ACCOUNTS)).values())
    if total != 1000 * len(ACCOUNTS):
        raise SystemExit(f"the accounts hold {total}")
    hand, own = max(rates["by hand"]), max(rates["toolkit"])
    return [
        Row("64 tasks, 10 accounts, by hand", round(hand), "transfers/s"),
        Row("64 tasks, 10 accounts, toolkit", round(own), "transfers/s"),
        Row("by hand / toolkit", round(hand / own, 3), "ratio", TARGETS["loop"]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Time transactions beside a hand-written loop.")
    parser.add_argument("--rounds", type=int, default=400, help="uncontended transfers of each side")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each contended run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with LiveStores(("sqlite", "redis", "postgresql-v2"), app_id="bench") as live:
        store = "sqlite" if "postgresql-v2" in live.missing else "postgresql-v2"
        rows = trips(live, store)
        rows += uncontended(live, store, options.rounds, options.seed)
        rows += asyncio.run(contended(live, store, options.seconds))
    return save("transactions", rows, {"store": store, "rounds": options.rounds, "seconds": options.seconds})


if __name__ == "__main__":
    sys.exit(main())
