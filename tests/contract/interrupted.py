"""
A process whose main thread is interrupted by real signals again and again while other threads use the same store.

``python -m tests.contract.interrupted '{"store": …, "address": …, "run": …, "seed": 1, "strikes": 200}'`` prints one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from typing import Any

from tests.contract.common import inc
from toolkit import Outcome, StateStore, Transaction
from toolkit._interrupts import disguised

THREADS, KEYS = 3, 16


class Calls:
    """The calls of one thread, each with an id of its own."""

    def __init__(self, store: StateStore, job: dict[str, Any], name: str) -> None:
        self.store, self.run = store, job["run"]
        self.name, self.drawn = f"{self.run}-{name}", random.Random(f"{job['seed']}-{name}")
        self.updates: list[tuple[str, str]] = []
        self.moves: list[tuple[str, int]] = []
        self.numbers = itertools.count()
        self.slowest, self.error = 0.0, ""

    def once(self) -> None:
        """One update, transaction or read; an id is on record before it is used."""
        op_id = f"{self.name}-{next(self.numbers)}"
        kind = self.drawn.choice(["update", "update", "move", "read"])
        first, second = self.drawn.sample(range(KEYS), 2)
        count, pot, other_pot = (
            f"{self.run}-count-{first}",
            f"{self.run}-pot-{first}",
            f"{self.run}-pot-{second}",
        )
        if kind == "update":
            self.updates.append((op_id, count))
            self.store.update(count, inc, op_id=op_id)
        elif kind == "move":
            amount = self.drawn.randint(1, 9)
            self.moves.append((op_id, amount))
            self.store.transact(move, pot, other_pot, amount, op_id=op_id)
        else:
            self.store.get_many([count, other_pot])

    def until(self, over: threading.Event) -> None:
        while not over.is_set() and not self.error:
            began = time.monotonic()
            try:
                self.once()
            except Exception as error:  # said in the report
                self.error = f"{type(error).__name__}: {error}"
            self.slowest = max(self.slowest, time.monotonic() - began)


def move(tx: Transaction, src: str, dst: str, amount: int) -> None:
    a, b = tx.get(src), tx.get(dst)
    tx.put(src, {"n": a["n"] - amount})
    tx.put(dst, {"n": b["n"] + amount})


class Signals:
    """Strikes the main thread, but only inside of its calls."""

    def __init__(self, seed: int) -> None:
        self.drawn, self.armed, self.struck = random.Random(seed), False, 0
        signal.signal(signal.SIGINT, self)

    def __call__(self, _number: int, _frame: Any) -> None:
        if self.armed:
            self.armed = False
            self.struck += 1
            raise KeyboardInterrupt

    def send(self, over: threading.Event) -> None:
        while not over.wait(self.drawn.uniform(0.0002, 0.006)):
            os.kill(os.getpid(), signal.SIGINT)


def interrupted(signals: Signals, calls: Calls, strikes: int, deadline: float) -> None:
    while signals.struck < strikes and time.monotonic() < deadline:
        try:
            signals.armed = True
            calls.once()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            if not disguised(error):
                raise
        finally:
            signals.armed = False


def committed(store: StateStore, everyone: list[Calls]) -> tuple[int, list[str]]:
    """How many of the updates have taken effect, and which operations nobody can tell of."""
    done, unknown = 0, []
    asked = [(op_id, key) for calls in everyone for op_id, key in calls.updates]
    asked += [(op_id, "") for calls in everyone for op_id, _amount in calls.moves]
    for op_id, key in asked:
        outcome = store.outcome(op_id, key=key or None)
        done += bool(key) and outcome is Outcome.COMMITTED
        if outcome is Outcome.UNKNOWABLE:
            unknown.append(op_id)
    return done, unknown


def say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main(job: dict[str, Any]) -> dict[str, Any]:
    over = threading.Event()
    with StateStore(job["store"], address=job["address"]) as store:
        counts, pots = (
            [f"{job['run']}-{kind}-{number}" for number in range(KEYS)] for kind in ("count", "pot")
        )
        for count, pot in zip(counts, pots, strict=True):
            store.set(count, {"n": 0})
            store.set(pot, {"n": 100})
        mine = Calls(store, job, "main")
        others = [Calls(store, job, str(number)) for number in range(THREADS)]
        signals = Signals(job["seed"])
        threads = [threading.Thread(target=calls.until, args=(over,), daemon=True) for calls in others]
        threads.append(threading.Thread(target=signals.send, args=(over,), daemon=True))
        for thread in threads:
            thread.start()
        interrupted(signals, mine, job["strikes"], time.monotonic() + 60)
        over.set()
        for thread in threads:
            thread.join(20)
        stuck = sum(thread.is_alive() for thread in threads)
        if stuck:
            # Closing would wait for them.
            say({"struck": signals.struck, "stuck": stuck})
            os._exit(1)
        done, unknown = committed(store, [mine, *others])
        return {
            "struck": signals.struck,
            "stuck": stuck,
            "errors": [calls.error for calls in others if calls.error],
            "slowest": round(max(calls.slowest for calls in others), 3),
            "lost": done - sum(store.get(key)["n"] for key in counts),
            "pots": sum(store.get(key)["n"] for key in pots),
            "unknown": unknown,
            "calls": len(mine.updates) + len(mine.moves),
        }


if __name__ == "__main__":
    say(main(json.loads(sys.argv[1])))
