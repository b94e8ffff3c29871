"""
A process that runs transactions on a store: ``python -m tests.transactions.worker '{"mode": …}'``.

It says when it is ready, waits for a line on its standard input, works, and prints what it was told. ``OCC_POINTS``
kills or stops it at a point of a commit.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from typing import Any

from toolkit import RetryPolicy, StateStore
from toolkit.errors import (
    AttemptsExhaustedError,
    OutcomeUnknownError,
    SnapshotUnstableError,
    StoreUnavailableError,
)
from toolkit.testing.history import History
from toolkit.testing.points import arm_from_environment


def move(tx: Any, src: str, dst: str, amount: int) -> None:
    found = tx.get_many([src, dst])
    ids = [*found[dst].get("ids", []), tx.op] if tx.op else found[dst].get("ids", [])
    tx.put(src, found[src] | {"n": found[src]["n"] - amount})
    tx.put(dst, {"n": found[dst]["n"] + amount, "ids": ids})


def bank(store: StateStore, job: dict[str, Any]) -> dict[str, Any]:
    """
    Transfers between accounts, every other one under an id and made twice; a look at the total after every third.

    The account that gets the money keeps the ids; those of transfers that were acknowledged are told.
    """
    told: Counter[str] = Counter()
    sure: list[str] = []
    dice = random.Random(job["seed"])
    for number in range(job["times"]):
        src, dst = dice.sample(job["keys"], 2)
        op_id = f"{job['name']}-{number}" if number % 2 else None
        for _ in range(1 if op_id is None else 2):
            try:
                store.transact(move, src, dst, dice.randint(1, 9), op_id=op_id)
                told["moved"] += 1
                sure += [op_id] if op_id else []
            except (OutcomeUnknownError, AttemptsExhaustedError, StoreUnavailableError) as error:
                told[type(error).__name__] += 1
        if number % 3 == 0:
            try:
                seen = store.snapshot(job["keys"])
                told["torn" if sum(value["n"] for value in seen.values()) != job["total"] else "whole"] += 1
            except (SnapshotUnstableError, StoreUnavailableError) as error:
                told[type(error).__name__] += 1
    return {"told": told, "sure": sorted(set(sure))}


def append(tx: Any, mops: list[list[Any]]) -> list[list[Any]]:
    done: list[list[Any]] = []
    for name, key, value in mops:
        seen = tx.get(key, {"l": []})["l"]
        if name == "r":
            done.append([name, key, seen])
        else:
            tx.put(key, {"l": [*seen, value]})
            done.append([name, key, value])
    return done


def appends(store: StateStore, job: dict[str, Any]) -> dict[str, Any]:
    """Transactions of one to three reads and appends, written down as a history."""
    told: Counter[str] = Counter()
    dice = random.Random(job["seed"])
    with History(job["history"]) as history:
        for number in range(job["times"]):
            mops: list[list[Any]] = []
            for key in dice.sample(job["keys"], dice.choice((1, 2, 2, 3))):
                mops.append(["r", key, None])
                if dice.random() < 0.6:
                    mops.append(["append", key, job["seed"] * 100_000 + number])
            op_id = f"{job['name']}-{number}" if number % 2 else None
            named = {"op": op_id} if op_id else {}
            pending = history.transaction(job["name"], mops, store=job["store"], **named)
            try:
                done = store.transact(append, mops, op_id=op_id)
            except OutcomeUnknownError:
                pending.info()
                told["info"] += 1
            except (AttemptsExhaustedError, StoreUnavailableError):
                pending.fail()
                told["fail"] += 1
            else:
                pending.ok(mops=done)
                told["ok"] += 1
    return dict(told)


MODES = {"bank": bank, "append": appends}


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    job = json.loads(sys.argv[1])
    retry = RetryPolicy(deadline=job.get("deadline", 20.0))
    with StateStore(job["store"], address=job["address"], retry=retry, lease=job.get("lease", 3.0)) as store:
        say({"ready": True})
        sys.stdin.readline()
        arm_from_environment()
        say(MODES[job["mode"]](store, job))


if __name__ == "__main__":
    main()
