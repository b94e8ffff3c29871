"""
What a host leaves behind through the real sidecar: its log, and nothing half done.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import ClassVar

from dapr.actor import ActorInterface, actormethod
from dapr.actor.runtime import grpc_host
from typer.testing import CliRunner

from toolkit import AsyncStateStore, log_to
from toolkit.cli.app import app
from workflows.actors import FencedActor, GrpcActorProxyFactory, host, host_actors


class GateInterface(ActorInterface):
    @actormethod(name="Pass")
    async def pass_through(self) -> int: ...

    @actormethod(name="Count")
    async def count(self) -> int: ...


class GateTurns:
    entered: ClassVar[asyncio.Event]
    go_on: ClassVar[asyncio.Event]

    async def pass_through(self):
        self.entered.set()
        await self.go_on.wait()
        return await self.count()

    async def count(self):
        return (await self.update(lambda state: {"n": state["n"] + 1}))["n"]


class LiveGate(GateTurns, FencedActor, GateInterface):
    initial = {"n": 0}


class LiveOtherGate(GateTurns, FencedActor, GateInterface):
    initial = {"n": 0}


def occ(*arguments):
    """
    What ``occ`` prints, as JSON.
    """
    ran = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert 0 == ran.exit_code, ran.output
    return json.loads(ran.stdout)


def test_the_log_of_a_host_is_read_by_actor_type(dapr_env, tmp_path):
    """
    Turns of two types and an outside writer in one log: ``--where`` tells them apart, by type and by turn.
    """
    log, name = tmp_path / "occ.jsonl", f"g-{uuid.uuid4()}"

    async def main():
        async with (
            AsyncStateStore("statestore") as store,
            host_actors(LiveGate, LiveOtherGate, store=store),
            GrpcActorProxyFactory() as actors,
        ):
            one = actors.create(LiveGate, name, GateInterface)
            other = actors.create(LiveOtherGate, name, GateInterface)
            for proxy in (one, one, one, other):
                await proxy.Count()
            await store.update(
                FencedActor.key("LiveGate", name), lambda state: {**state, "n": state["n"] + 1}
            )

    with log_to(log):
        asyncio.run(main())

    def operations(*where):
        return occ("log", "summary", log, *(part for one in where for part in ("--where", one)))["operations"]

    # The activation of each is a write, too.
    assert 7 == operations()
    assert 4 == operations("actor_type=LiveGate", f"actor_id={name}")
    assert 2 == operations("actor_type=LiveOther*")
    assert 3 == operations("actor_type=LiveGate", "epoch=1")
    assert 1 == operations("actor_type=LiveGate", "turn=3", "actor_method=Count")


def test_leaving_the_block_waits_for_the_turn_under_way(dapr_env):
    """
    A turn that is in the middle when the host is told to stop is finished, whether or not its answer still gets through.
    """

    async def serve(serving, leave):
        async with host_actors(LiveGate, store="statestore"):
            serving.set()
            await leave.wait()

    async def main():
        LiveGate.entered, LiveGate.go_on = asyncio.Event(), asyncio.Event()
        serving, leave, name = asyncio.Event(), asyncio.Event(), f"g-{uuid.uuid4()}"
        hosting = asyncio.create_task(serve(serving, leave))
        await serving.wait()
        async with GrpcActorProxyFactory() as actors, AsyncStateStore("statestore") as store:
            call = asyncio.create_task(actors.create(LiveGate, name, GateInterface).Pass())
            await asyncio.wait_for(LiveGate.entered.wait(), 60)
            leave.set()
            await asyncio.sleep(0)
            LiveGate.go_on.set()
            await hosting
            await asyncio.wait((call,))
            answered = call.exception() is None
            assert not answered or 1 == call.result()
            return (await store.get(FencedActor.key("LiveGate", name)))["n"]

    assert 1 == asyncio.run(main())


def test_leaving_the_block_cancels_a_turn_that_does_not_end(dapr_env, monkeypatch):
    """
    Once the time for turns under way is over, the SDK's own wait for them does not follow.
    """
    monkeypatch.setattr(host, "DRAIN", 0.01)
    monkeypatch.setattr(grpc_host, "_DRAIN_TIMEOUT_SECONDS", 3600)

    async def main():
        LiveGate.entered, LiveGate.go_on = asyncio.Event(), asyncio.Event()
        name = f"g-{uuid.uuid4()}"
        async with GrpcActorProxyFactory() as actors, AsyncStateStore("statestore") as store:
            async with host_actors(LiveGate, store="statestore"):
                call = asyncio.create_task(actors.create(LiveGate, name, GateInterface).Pass())
                await asyncio.wait_for(LiveGate.entered.wait(), 60)
            await asyncio.wait((call,))
            assert call.exception() is not None
            return (await store.get(FencedActor.key("LiveGate", name)))["n"]

    assert 0 == asyncio.run(main())


def test_a_host_that_returns_goes_on_with_the_state(dapr_env):
    """
    Hosted, closed and hosted again: each activation raises the epoch and finds what the last one left.
    """
    name = f"g-{uuid.uuid4()}"

    async def main():
        async with host_actors(LiveGate, store="statestore"), GrpcActorProxyFactory() as actors:
            return await actors.create(LiveGate, name, GateInterface).Count()

    assert [1, 2, 3] == [asyncio.run(main()) for _ in range(3)]
