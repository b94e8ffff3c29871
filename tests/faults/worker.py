"""
A process that works on a store and tells what it was told: ``python -m tests.faults.worker '{"mode": …}'``.

It prints one JSON line when it is ready, waits for a line on its standard input, works, and prints the results.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from toolkit import DELETE, RetryPolicy, StateStore
from toolkit.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    StateError,
    StoreUnavailableError,
)
from toolkit.testing.history import History
from toolkit.testing.points import arm_from_environment


def inc(value: Any) -> Any:
    return {**value, "n": value["n"] + 1}


class Tally:
    """
    What callers were told.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.receipts: list[str] = []
        self.lock = threading.Lock()

    def add(self, what: str, receipt: str | None = None) -> None:
        with self.lock:
            self.counts[what] += 1
            if receipt is not None:
                self.receipts.append(receipt)

    def result(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "receipts": self.receipts}


def count(store: StateStore, job: dict[str, Any]) -> dict[str, Any]:
    """
    ``threads`` callers add one ``times`` times each to one of the ``keys``; spread over the keys in turn.
    """
    tally = Tally()
    keys: list[str] = job["keys"]

    def work(thread: int) -> None:
        for number in range(job["times"]):
            try:
                store.update(keys[(thread + number) % len(keys)], inc, default={"n": 0})
            except OutcomeUnknownError as error:
                tally.add("unknown", error.receipt)
            except StateError as error:
                tally.add(f"failed: {type(error).__name__}")
            else:
                tally.add("acked")

    with ThreadPoolExecutor(job["threads"]) as pool:
        list(pool.map(work, range(job["threads"])))
    return tally.result()


def ids(store: StateStore, job: dict[str, Any]) -> dict[str, Any]:
    """
    Apply the operations ``0 … count - 1`` to one key, each under its id, in an order of this process's own.
    """
    tally = Tally()
    order = list(range(job["count"]))
    random.Random(job["seed"]).shuffle(order)
    for number in order:
        while True:
            try:
                store.update(job["key"], inc, default={"n": 0}, op_id=f"op-{number}")
            except (OutcomeUnknownError, StoreUnavailableError):
                tally.add("again")
            else:
                tally.add("acked")
                break
    return tally.result()


def mixed(store: StateStore, job: dict[str, Any]) -> dict[str, Any]:
    """
    Reads, increments, creates, compare-and-sets and deletes on a few keys, written down as a history.

    The value of a key is ``{"v": number}``; every write but an increment stores a number of its own.
    """
    tally = Tally()
    with History(job["history"]) as history:

        def client(thread: int) -> None:
            dice = random.Random(f"{job['seed']}/{thread}")
            proc = f"{job['name']}.{thread}"
            for number in range(job["times"]):
                key = dice.choice(job["keys"])
                fresh = UNIQUE * (1 + (job["number"] * 100 + thread) * 10_000 + number)
                kind = dice.choices(KINDS, WEIGHTS)[0]
                tally.add(one(store, history, proc, kind, key, fresh))

        with ThreadPoolExecutor(job["threads"]) as pool:
            list(pool.map(client, range(job["threads"])))
    return tally.result()


KINDS = ("read", "inc", "create", "cas", "write", "del", "del-if")
WEIGHTS = (25, 30, 12, 15, 8, 6, 4)
# Values from here on are written once; smaller ones come from counting, which starts anew after a delete.
UNIQUE = 10_000


def one(store: StateStore, history: History, proc: str, kind: str, key: str, fresh: int) -> str:
    """
    One operation and the line that says how it ended.
    """
    entry = store.read(key) if kind in ("cas", "del-if") else None
    old = entry.value["v"] if entry is not None and entry.exists else None
    forms = {
        "inc": ("inc", 1),
        "create": ("cas", [None, fresh]),
        "cas": ("cas", [old, fresh]),
        "del-if": ("cas", [old, None]),
        "write": ("write", fresh),
    }
    f, arg = forms.get(kind, (kind, None))
    pending = history.call(proc, f, key, arg)
    try:
        out = perform(store, kind, key, fresh, entry)
    except (AlreadyExistsError, NotFoundError) as error:
        pending.ok(False)
        return type(error).__name__
    except OutcomeUnknownError:
        pending.info()
        return "unknown"
    except ConflictError as error:
        # Out of attempts or time without an effect; a refused compare-and-set instead was answered.
        # One of a number that can come back as another version tells nothing to a model that knows values alone.
        if type(error) is ConflictError and (old is None or old >= UNIQUE):
            pending.ok(False)
        else:
            pending.fail()
        return type(error).__name__
    except StoreUnavailableError:
        pending.fail()
        return "unavailable"
    pending.ok(out)
    return "ok"


def perform(store: StateStore, kind: str, key: str, fresh: int, entry: Any) -> Any:
    """
    The call itself; what it returns is what the history expects as the answer.
    """
    match kind:
        case "read":
            value = store.get(key)
            return None if value is None else value["v"]
        case "inc":
            return store.update(key, lambda value: {"v": value["v"] + 1}, default={"v": 0})["v"]
        case "create":
            store.create(key, {"v": fresh})
            return True
        case "cas":
            store.compare_and_set(key, {"v": fresh}, entry.etag)
            return True
        case "write":
            store.set(key, {"v": fresh})
        case "del-if":
            store.delete(key, etag=entry.etag)
            return True
        case _:
            store.update(key, lambda _value: DELETE, default=None)
    return None


MODES = {"count": count, "ids": ids, "mixed": mixed}


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    arm_from_environment()
    job = json.loads(sys.argv[1])
    retry = RetryPolicy(deadline=job.get("deadline", 20.0))
    with StateStore(job["store"], address=job["address"], retry=retry) as store:
        say({"ready": True})
        sys.stdin.readline()
        say(MODES[job["mode"]](store, job))


if __name__ == "__main__":
    main()
