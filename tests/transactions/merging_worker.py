"""
A process with many tasks, or threads, that run transactions on the same keys; otherwise like ``worker``.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio

from tests.transactions.worker import append, move, say
from toolkit import AsyncStateStore, RetryPolicy, StateStore
from toolkit.errors import AttemptsExhaustedError, OutcomeUnknownError, StoreUnavailableError
from toolkit.log import capture
from toolkit.testing.history import History
from toolkit.testing.points import arm_from_environment

FAILED = (AttemptsExhaustedError, StoreUnavailableError)


async def append_async(tx: Any, mops: list[list[Any]]) -> list[list[Any]]:
    done: list[list[Any]] = []
    for name, key, value in mops:
        seen = (await tx.get(key, {"l": []}))["l"]
        if name == "r":
            done.append([name, key, seen])
        else:
            tx.put(key, {"l": [*seen, value]})
            done.append([name, key, value])
    return done


async def move_async(tx: Any, src: str, dst: str, amount: int) -> None:
    found = await tx.get_many([src, dst])
    ids = [*found[dst].get("ids", []), tx.op] if tx.op else found[dst].get("ids", [])
    tx.put(src, found[src] | {"n": found[src]["n"] - amount})
    tx.put(dst, {"n": found[dst]["n"] + amount, "ids": ids})


def mops_of(dice: random.Random, keys: list[str], value: int) -> list[list[Any]]:
    mops: list[list[Any]] = []
    for key in dice.sample(keys, dice.choice((1, 2, 2, 3))):
        mops.append(["r", key, None])
        if dice.random() < 0.6:
            mops.append(["append", key, value])
    return mops


class Client:
    """
    One of many callers of a process, in either colour: ``ask`` calls ``transact`` and is awaited where it must be.
    """

    def __init__(self, job: dict[str, Any], number: int, history: History | None) -> None:
        self.job, self.number, self.history = job, number, history
        self.name = f"{job['name']}.{number}"
        self.dice = random.Random(f"{job['seed']} {number}")
        self.told: Counter[str] = Counter()
        self.sure: list[str] = []

    def op_id(self, at: int) -> str | None:
        return f"{self.job['keys'][0]}-{self.name}-{at}" if at % 2 else None

    async def appends(self, ask: Callable[..., Awaitable[Any]]) -> None:
        assert self.history is not None
        for at in range(self.job["times"]):
            value = (self.job["seed"] * 1000 + self.number) * 1000 + at
            mops = mops_of(self.dice, self.job["keys"], value)
            pending = self.history.transaction(self.name, mops)
            try:
                done = await ask(append_async, append, mops, op_id=self.op_id(at))
            except OutcomeUnknownError:
                pending.info()
                self.told["info"] += 1
            except FAILED:
                pending.fail()
                self.told["fail"] += 1
            else:
                pending.ok(mops=done)
                self.told["ok"] += 1

    async def bank(self, ask: Callable[..., Awaitable[Any]]) -> None:
        for at in range(self.job["times"]):
            src, dst = self.dice.sample(self.job["keys"], 2)
            op_id, amount = self.op_id(at), self.dice.randint(1, 9)
            for _ in range(1 if op_id is None else 2):
                try:
                    await ask(move_async, move, src, dst, amount, op_id=op_id)
                except (OutcomeUnknownError, *FAILED) as error:
                    self.told[type(error).__name__] += 1
                else:
                    self.told["moved"] += 1
                    self.sure += [op_id] if op_id else []


def finish(steps: Any) -> None:
    """Run a coroutine that never suspends."""
    try:
        steps.send(None)
    except StopIteration:
        return
    raise AssertionError("a sync call suspended")


def threads(job: dict[str, Any], clients: list[Client], call: str, retry: RetryPolicy) -> None:
    """Each client in a thread of its own."""
    with StateStore(job["store"], address=job["address"], retry=retry) as store:

        async def ask(_: Any, body: Any, *args: Any, **options: Any) -> Any:
            return store.transact(body, *args, **options)

        _ready()
        with ThreadPoolExecutor(len(clients)) as pool:
            for done in [pool.submit(finish, getattr(client, call)(ask)) for client in clients]:
                done.result()


async def tasks(job: dict[str, Any], clients: list[Client], call: str, retry: RetryPolicy) -> None:
    """Each client in a task of its own."""
    async with AsyncStateStore(job["store"], address=job["address"], retry=retry) as store:

        async def ask(body: Any, _: Any, *args: Any, **options: Any) -> Any:
            return await store.transact(body, *args, **options)

        _ready()
        async with anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(getattr(client, call), ask)


def _ready() -> None:
    say({"ready": True})
    sys.stdin.readline()
    arm_from_environment()


def main() -> None:
    job = json.loads(sys.argv[1])
    call = {"append": "appends", "bank": "bank"}[job["mode"].removesuffix("_threads")]
    retry = RetryPolicy(deadline=job.get("deadline", 30.0))
    history = History(job["history"]) if "history" in job else None
    clients = [Client(job, number, history) for number in range(job["tasks"])]
    with capture() as events:
        if job["mode"].endswith("_threads"):
            threads(job, clients, call, retry)
        else:
            anyio.run(tasks, job, clients, call, retry)
    told = sum([client.told for client in clients], Counter[str]())
    carried = Counter(event.fields["combined"] for event in events if event.name == "occ.committed")
    sure = [op_id for client in clients for op_id in client.sure]
    say({"told": told, "combined": {str(count): number for count, number in carried.items()}, "sure": sure})


if __name__ == "__main__":
    main()
