"""
Safe and fenced actors through the real daprd, placement and scheduler.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

import grpc
import pytest
import trio
from dapr.actor.runtime.runtime import ActorRuntime
from dapr.conf import settings

from toolkit import AsyncStateStore, RetryPolicy, SidecarUnavailableError, StateStore
from workflows.actors import ActorMethodError, FencedActor, GrpcActorProxyFactory, host_actors

sys.path.insert(0, str(Path(__file__).parent))
from live_actors import (
    Fired,
    LedgerInterface,
    LiveLedger,
    LivePlainWallet,
    LiveWallet,
    WalletInterface,
)


def add(state):
    """
    What a program outside does to the state of an actor.
    """
    return {**state, "n": state["n"] + 1}


async def ten_refused_one(actors, kind):
    wallet = actors.create(kind, f"w-{uuid.uuid4()}", WalletInterface)
    assert 10 == await wallet.Add(10)
    with pytest.raises(ActorMethodError, match="ValueError: refused"):
        await wallet.AddAndRaise(100)
    return await wallet.Add(1)


def test_a_turn_that_raises_leaves_nothing_and_a_plain_one_does(dapr_env):
    """
    10, a refused +100, then +1: 11 with a safe actor, 111 with the SDK's own.
    """

    async def main():
        async with host_actors(LiveWallet, LivePlainWallet), GrpcActorProxyFactory() as actors:
            return await ten_refused_one(actors, LiveWallet), await ten_refused_one(actors, LivePlainWallet)

    assert (11, 111) == asyncio.run(main())


def test_fifty_turns_count_beside_an_outside_store(dapr_env):
    """
    50 concurrent increments of an actor and 20 of a store on the same key give 70.
    """

    async def main():
        name = f"l:{uuid.uuid4()}"
        async with (
            AsyncStateStore("statestore") as store,
            host_actors(LiveLedger, store="statestore"),
            GrpcActorProxyFactory() as actors,
        ):
            ledger = actors.create(LiveLedger, name, LedgerInterface)
            await ledger.Read()
            key = FencedActor.key("LiveLedger", name)
            outside = [store.update(key, add) for _ in range(20)]
            await asyncio.gather(*(ledger.Add(f"e{i}") for i in range(50)), *outside)
            return await ledger.Read()

    state = asyncio.run(main())
    assert (70, {f"e{i}" for i in range(50)}) == (state["n"], set(state["entries"]))
    assert 50 == len(state["entries"])


@pytest.mark.parametrize(("method", "expected"), [("Remind", "renew 2026-11"), ("Timer", "tick")])
def test_reminders_and_timers_arrive(dapr_env, method, expected):
    """
    The scheduler and the sidecar fire them, and they change the fenced state.
    """

    async def main():
        Fired.event = asyncio.Event()
        async with host_actors(LiveLedger, store="statestore"), GrpcActorProxyFactory() as actors:
            ledger = actors.create(LiveLedger, f"l-{uuid.uuid4()}", LedgerInterface)
            await getattr(ledger, method)()
            await asyncio.wait_for(Fired.event.wait(), 60)
            return (await ledger.Read())["fired"]

    try:
        assert [expected] == asyncio.run(main())
    finally:
        Fired.event = None


async def patiently(call):
    """
    Call until there is an answer: while the sidecar moves actors, calls run into their timeout.
    """
    for _ in range(30):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            last = error
    raise last


def test_killing_a_host_in_the_middle_of_turns_loses_no_acknowledged_update(dapr_env, start_host):
    """
    What callers were told is in the state after the host was killed under load and another took over.
    """
    name = f"l-{uuid.uuid4()}"

    async def main():
        async with GrpcActorProxyFactory(timeout=5) as actors:
            ledger = actors.create("LiveLedger", name, LedgerInterface)
            acknowledged, failed, enough = [], [], asyncio.Event()

            async def caller(number):
                for turn in range(400):
                    entry = f"{number}-{turn}"
                    try:
                        await ledger.Add(entry)
                    except (grpc.aio.AioRpcError, ActorMethodError):
                        failed.append(entry)
                        return
                    acknowledged.append(entry)
                    if len(acknowledged) == 40:
                        enough.set()

            first = await asyncio.to_thread(start_host)
            callers = [asyncio.create_task(caller(number)) for number in range(4)]
            await enough.wait()
            first.kill()
            await asyncio.gather(*callers)
            await asyncio.to_thread(start_host)
            return acknowledged, failed, await patiently(ledger.Read)

    acknowledged, failed, state = asyncio.run(main())
    assert failed, "the host was killed when nobody called it"
    assert set() == set(acknowledged) - set(state["entries"])
    assert set() == set(state["entries"]) - set(acknowledged) - set(failed)
    assert (len(state["entries"]), 2) == (state["n"], state["epoch"])


def test_a_host_shows_the_token(daprd, monkeypatch):
    """
    A sidecar with an API token takes actors and fires reminders; a host with another one is told.
    """
    sidecar = daprd(workflows=True, api_token="open sesame")
    monkeypatch.setenv("DAPR_API_TOKEN", "open sesame")

    async def main(token):
        monkeypatch.setattr(settings, "DAPR_API_TOKEN", token)
        address = sidecar.grpc_endpoint
        async with (
            host_actors(LiveLedger, store="statestore", address=address),
            GrpcActorProxyFactory(address) as actors,
        ):
            ledger = actors.create(LiveLedger, "l", LedgerInterface)
            await ledger.Remind()
            await asyncio.wait_for(Fired.event.wait(), 60)
            return (await ledger.Read())["fired"]

    monkeypatch.setattr(Fired, "event", asyncio.Event())
    assert ["renew 2026-11"] == asyncio.run(main("open sesame"))
    with pytest.raises(SidecarUnavailableError, match="UNAUTHENTICATED"):
        asyncio.run(main("open barley"))


def test_a_host_without_a_sidecar_ends_within_its_timeout(unused_address):
    """
    The error says what to start.
    """

    async def main():
        async with host_actors(LiveWallet, address=unused_address, startup_timeout=0.5):
            pass

    with pytest.raises(SidecarUnavailableError, match="placement and scheduler"):
        asyncio.run(main())


def test_a_sidecar_that_refuses_actors_is_named(unused_address):
    """
    One that knows no streams of actors, as before daprd 1.18: its words are in the error.
    """

    async def main():
        older = grpc.aio.server()
        older.add_insecure_port(unused_address)
        await older.start()
        try:
            async with host_actors(LiveWallet, address=unused_address):
                pass
        finally:
            await older.stop(None)

    with pytest.raises(SidecarUnavailableError, match=r"UNIMPLEMENTED.*daprd 1\.18 or newer"):
        asyncio.run(main())


@pytest.mark.parametrize("colour", [StateStore, AsyncStateStore])
def test_a_host_opens_a_store_object_that_is_not_open(dapr_env, colour):
    """
    It is used with its settings, and closed with the host.
    """
    given = colour("statestore", retry=RetryPolicy(deadline=7.0))

    async def main():
        async with host_actors(LiveLedger, store=given), GrpcActorProxyFactory() as actors:
            return await actors.create(LiveLedger, f"l-{uuid.uuid4()}", LedgerInterface).Add("one")

    assert 1 == asyncio.run(main())
    assert not given.is_open


def test_a_second_host_in_the_process_is_refused_and_a_later_one_is_not(dapr_env):
    """
    The SDK's registry belongs to the process; leaving the block frees it, also for another loop.
    """

    async def main():
        async with host_actors(LiveWallet):
            with pytest.raises(RuntimeError, match="hosts actors already"):
                async with host_actors(LivePlainWallet):
                    pass
        async with host_actors(LivePlainWallet):
            return ActorRuntime.get_registered_actor_types()

    assert ["LivePlainWallet"] == asyncio.run(main())
    assert ["LivePlainWallet"] == asyncio.run(main())
    assert [] == ActorRuntime.get_registered_actor_types()


def test_a_host_is_told_what_it_lacks():
    """
    No type, and a fenced actor without a store.
    """

    async def main(*types, store=None):
        async with host_actors(*types, store=store):
            pass

    with pytest.raises(TypeError, match="at least one actor type"):
        asyncio.run(main())
    with pytest.raises(TypeError, match=r"host_actors\(LiveLedger\): fenced actors need store="):
        asyncio.run(main(LiveLedger))
    with pytest.raises(TypeError, match="pass an AsyncStateStore or the name of a state store"):
        asyncio.run(main(LiveLedger, store=7))


def test_actors_elsewhere_than_on_asyncio_are_refused():
    """
    The SDK has none on trio, and a factory made before there is a loop belongs to none.
    """

    async def main():
        async with host_actors(LiveWallet):
            pass

    with pytest.raises(RuntimeError, match=r"host_actors\(\) belongs in a coroutine on asyncio"):
        trio.run(main)
    with pytest.raises(RuntimeError, match=r"GrpcActorProxyFactory\(\) belongs in"):
        GrpcActorProxyFactory()
