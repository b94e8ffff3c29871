"""
What exactly once costs in a workflow: effects beside plain activities that read and save the same state.

Both workflows do two steps on keys of their own, on one daprd and one worker; batches of them take turns. Then the round
trips of one effect are counted at the port, store by store: those the activity waits for, and those of the background.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from bench.report import Row, save
from toolkit import StateStore
from toolkit.sidecar import Sidecar
from toolkit.testing.live import PROTECTED, LiveStores

STORE = "statestore"
# Workflows of a batch that are under way at once; steps of each.
AT_ONCE, STEPS = 16, 2
# At least 0.8 of the rate: at most 1.25 times the time.
TARGETS = {"ratio": 1.25}


def add(tx: Any, key: str) -> int:
    value: int = tx.get(key)["n"] + 1
    tx.put(key, {"n": value})
    return value


def move(tx: Any, keys: list[str]) -> None:
    found = tx.get_many(keys)
    for key, amount in zip(keys, (-1, 1), strict=True):
        tx.put(key, {"n": found[key]["n"] + amount})


# -- workflows per second ----------------------------------------------------------------------------------------------


def register(kit: Any, runtime: Any, client: Any) -> None:
    """
    The same workflow twice: with effects, and with activities as one writes them with the SDK.
    """
    from workflows import call_effect

    kit.effect(name="bench-effect")(add)

    @kit.workflow(name="bench-effects")
    def effects(ctx: Any, key: str) -> Any:
        for _ in range(STEPS):
            yield from call_effect(ctx, "bench-effect", input=key)

    def plain(_ctx: Any, key: str) -> int:
        state = client.get_state(STORE, key)
        value: int = json.loads(state.data)["n"] + 1
        client.save_state(STORE, key, json.dumps({"n": value}), etag=state.etag)
        return value

    def activities(ctx: Any, key: str) -> Any:
        for _ in range(STEPS):
            yield ctx.call_activity("bench-plain", input=key)

    runtime.register_activity(plain, name="bench-plain")
    runtime.register_workflow(activities, name="bench-activities")


def batch(client: Any, threads: ThreadPoolExecutor, name: str, number: int, size: int) -> float:
    """
    Seconds for so many workflows, from the first start to the last end.
    """

    def one(index: int) -> None:
        found = client.schedule_new_workflow(
            name, input=f"{name}-{index}", instance_id=f"{name}-{number}-{index}"
        )
        state = client.wait_for_workflow_completion(found, timeout_in_seconds=60)
        if state is None or state.runtime_status.name != "COMPLETED":
            raise SystemExit(f"{found} ended as {state}")

    began = time.perf_counter()
    list(threads.map(one, range(size)))
    return time.perf_counter() - began


def throughput(rounds: int, size: int, seed: int) -> Iterator[Row]:
    from dapr.clients import DaprClient
    from dapr.conf import settings
    from dapr.ext.workflow import DaprWorkflowClient, WorkflowRuntime

    from workflows import WorkflowKit
    from workflows.library.runner import host_and_port

    names = ["bench-activities", "bench-effects"]
    times: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        sidecar = stack.enter_context(Sidecar(workflows=True, app_id="bench"))
        place = host_and_port(sidecar.grpc_endpoint)
        states = stack.enter_context(StateStore(STORE, address=sidecar.grpc_endpoint))
        # The SDK's client asks the sidecar's HTTP port for its health, wherever the calls go.
        settings.DAPR_HTTP_PORT = sidecar.http_port
        plain = stack.enter_context(DaprClient(sidecar.grpc_endpoint))
        runtime = WorkflowRuntime(**place)
        kit = WorkflowKit(runtime, states)
        register(kit, runtime, plain)
        stack.enter_context(kit)
        client = DaprWorkflowClient(**place)
        stack.callback(client.close)
        threads = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        for name in names:
            for index in range(size):
                states.set(f"{name}-{index}", {"n": 0})
            batch(client, threads, name, 0, size)  # warm
        chance = random.Random(seed)
        for number in range(1, rounds + 1):
            for name in chance.sample(names, 2):
                times[name].append(batch(client, threads, name, number, size))
        check(states, names, size, STEPS * (rounds + 1))
    activities, effects = (statistics.median(times[name]) for name in names)
    yield Row("workflows with plain activities", round(size / activities, 1), "1/s")
    yield Row("workflows with effects", round(size / effects, 1), "1/s")
    yield Row(
        "time with effects / with activities", round(effects / activities, 3), "ratio", TARGETS["ratio"]
    )


def check(states: StateStore, names: list[str], size: int, steps: int) -> None:
    """
    Both sides did what they were timed for; a plain activity may do it twice.
    """
    for name in names:
        for index in range(size):
            found = states.get(f"{name}-{index}")["n"]
            if found != steps and not (name == "bench-activities" and found > steps):
                raise SystemExit(f"{name}-{index} holds {found}, expected {steps}")


# -- round trips -------------------------------------------------------------------------------------------------------


class Counting:
    """
    A port that counts the round trips of the thread that made it, and those of the others.
    """

    def __init__(self, port: Any) -> None:
        self._port, self._owner = port, threading.get_ident()
        self.own: list[str] = []
        self.others: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name not in {"get", "get_all", "get_bulk", "put", "put_all", "multi"}:
            return found

        @functools.wraps(found)
        def counted(*args: Any, **kwargs: Any) -> Any:
            (self.own if threading.get_ident() == self._owner else self.others).append(name)
            return found(*args, **kwargs)

        return counted

    def take(self) -> tuple[int, int]:
        """
        The counts since the last time.
        """
        counts = len(self.own), len(self.others)
        self.own.clear()
        self.others.clear()
        return counts


def trips(live: LiveStores) -> Iterator[Row]:
    """
    Of an effect on one key and on two, the first delivery and a repeat; calls sent together are one.
    """
    from toolkit.core.policy import RetryPolicy
    from toolkit.dapr.address import Token, address_of
    from toolkit.dapr.port import GrpcPort
    from workflows._payload import Delivery
    from workflows.bodies import Effect

    address = address_of(live.sidecar.grpc_endpoint)
    cases: list[tuple[str, Callable[..., Any], Any]] = [
        ("one key", add, "trips-a"),
        ("two keys", move, ["trips-a", "trips-b"]),
    ]
    for store in PROTECTED:
        if store in live.missing:
            continue
        port = Counting(GrpcPort(store, address, Token(None)))
        with StateStore(store, port=port) as states:
            for key in ("trips-a", "trips-b"):
                states.set(key, {"n": 0})
            for words, body, given in cases:
                effect: Effect[Any] = Effect(body, words, (), RetryPolicy())
                for op in ("warm", "first"):
                    delivery = Delivery(f"{words}-{op}", "bench", 1, "", given)
                    states._background.drain(5)  # noqa: SLF001 - of the call before
                    port.take()
                    effect.apply(states, delivery)
                    states._background.drain(5)  # noqa: SLF001 - else the count may be short
                    waited, background = port.take()
                effect.apply(states, delivery)
                repeat, _ = port.take()
                yield Row(f"{store}: effect on {words}", waited, "round trips")
                yield Row(f"{store}: the same, in the background", background, "round trips")
                yield Row(f"{store}: repeat of an effect on {words}", repeat, "round trips")


def main() -> int:
    parser = argparse.ArgumentParser(description="Time workflows with effects beside plain activities.")
    parser.add_argument("--rounds", type=int, default=8, help="batches of each side")
    parser.add_argument("--size", type=int, default=40, help="workflows of a batch")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = list(throughput(options.rounds, options.size, options.seed))
    with LiveStores(PROTECTED, app_id="bench") as live:
        rows += trips(live)
    return save("workflows", rows, {"store": STORE, "rounds": options.rounds, "size": options.size})


if __name__ == "__main__":
    sys.exit(main())
