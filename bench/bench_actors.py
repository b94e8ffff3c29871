"""
What a turn of an actor costs: a safe and a fenced one beside the SDK's own, each with one state write.

One caller calls one actor of each kind, turn after turn, through a real daprd with placement and scheduler; the three
take turns, so that whatever disturbs the machine disturbs all of them. A turn includes the way through the sidecar to
the host and back.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from contextlib import ExitStack
from typing import Any, ClassVar, Final

from dapr.actor import Actor, ActorInterface, actormethod

from bench.bench_single import alternate_async
from bench.report import Row, save
from toolkit.sidecar import Sidecar, component
from workflows.actors import FencedActor, GrpcActorProxyFactory, SafeActor, host_actors

TARGETS: Final = {"SafeActor": 1.05, "FencedActor": 1.4}
STATE: Final = {"name": "Ada", "orders": [{"id": number, "total": 9.5 * number} for number in range(8)]}


class CounterInterface(ActorInterface):
    """
    One method that changes the state.
    """

    @actormethod(name="Add")  # type: ignore[untyped-decorator]
    async def add(self) -> int:
        """
        Count once more.
        """
        raise NotImplementedError


class Counting:
    """
    The turn on the SDK's state manager, saved when it ends.
    """

    _state_manager: Any

    async def add(self) -> int:
        state = await self._state_manager.get_or_add_state("state", {**STATE, "n": 0})
        await self._state_manager.set_state("state", {**state, "n": state["n"] + 1})
        count: int = state["n"] + 1
        return count


class PlainCounter(Counting, Actor, CounterInterface):
    pass


class SafeCounter(Counting, SafeActor, CounterInterface):
    pass


class FencedCounter(FencedActor, CounterInterface):
    initial: ClassVar = {**STATE, "n": 0}

    async def add(self) -> int:
        state = await self.update(lambda state: {**state, "n": state["n"] + 1})
        count: int = state["n"]
        return count


async def turn_times(store: str, sidecar: Sidecar, rounds: int, seed: int) -> dict[str, list[float]]:
    """
    Time every turn of each kind.
    """
    kinds: dict[str, type[Actor]] = {
        "Actor": PlainCounter,
        "SafeActor": SafeCounter,
        "FencedActor": FencedCounter,
    }
    async with (
        host_actors(*kinds.values(), store=store),
        GrpcActorProxyFactory(sidecar.grpc_endpoint) as actors,
    ):
        proxies: dict[str, Any] = {
            name: actors.create(kind, "bench", CounterInterface) for name, kind in kinds.items()
        }
        return await alternate_async({name: proxy.Add for name, proxy in proxies.items()}, rounds, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    os.environ.pop("OCC_LOG", None)
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        file = {"connectionString": f"file:{directory}/state.db", "actorStateStore": "true"}
        components = [component("statestore", "state.sqlite", metadata=file)]
        sidecar = stack.enter_context(Sidecar(components=components, workflows=True, app_id="bench"))
        os.environ |= sidecar.environment
        times = asyncio.run(turn_times("statestore", sidecar, options.rounds, options.seed))
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [Row(f"a turn of {name}", round(1e6 * median, 1), "µs") for name, median in medians.items()]
    for name, target in TARGETS.items():
        rows.append(Row(f"{name} / Actor", round(medians[name] / medians["Actor"], 3), "ratio", target))
    return save("actors", rows, {"rounds": options.rounds, "seed": options.seed})


if __name__ == "__main__":
    raise SystemExit(main())
