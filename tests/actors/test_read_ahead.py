"""
A fenced actor reads its state for the next turn while nobody waits.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from dapr.actor import ActorInterface, actormethod

from toolkit import AsyncStateStore, log_to
from toolkit.testing import MemoryStore
from workflows.actors import ActorFencedError, FencedActor, fenced_mock


class CounterInterface(ActorInterface):
    @actormethod(name="add")
    async def add(self) -> int: ...

    @actormethod(name="take")
    async def take(self, amount: int) -> int: ...


class Counter(FencedActor, CounterInterface):
    initial = {"n": 0}

    async def add(self):
        return (await self.update(lambda state: {"n": state["n"] + 1}))["n"]

    async def take(self, amount):
        def change(state):
            if state["n"] < amount:
                raise ValueError(f"only {state['n']}")
            return {"n": state["n"] - amount}

        return (await self.update(change))["n"]


async def read_ahead(host):
    """
    Let the read after the turn come back.
    """
    await host.actor._ahead.wait()


def run(scenario, profile="in-memory"):
    """
    Run a scenario on a store in memory and activations of one actor.
    """

    async def main():
        memory = MemoryStore(profile=profile)
        async with AsyncStateStore("test", port=memory) as store:
            return await scenario(memory, store, lambda: fenced_mock(Counter, "a", store=store))

    return asyncio.run(main())


@pytest.mark.parametrize(("profile", "reads"), [("in-memory", 0), ("redis", 1)])
def test_a_turn_waits_for_one_write(profile, reads):
    """
    The second turn reads nothing before it writes; on a store whose ETags come back it does.
    """

    async def scenario(memory, store, activation):
        host = activation()
        await host.turn("add")
        await read_ahead(host) if host.actor._ahead._task else None
        before = dict(memory.calls)
        step = asyncio.create_task(host.actor.add())
        assert 2 == await step
        return {name: memory.calls[name] - before[name] for name in ("get", "put")}

    assert {"get": reads, "put": 1} == run(scenario, profile)


def test_an_outside_write_between_turns_is_seen(tmp_path):
    """
    A turn that writes, and one that refuses, go by what the outside wrote; the log has no conflict for it.
    """

    async def scenario(memory, store, activation):
        host, key = activation(), FencedActor.key("Counter", "a")
        with log_to(tmp_path / "log.jsonl"):
            await host.turn("add")
            await read_ahead(host)
            await store.set(key, {**await store.get(key), "n": 10})
            counted = await host.turn("add")
            await read_ahead(host)
            await store.set(key, {**await store.get(key), "n": 3})
            with pytest.raises(ValueError, match="only 3"):
                await host.turn("take", 5)
        return counted

    assert 11 == run(scenario)
    events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"occ.committed"} == set(events) - {"occ.summary"}


def test_a_row_of_the_replaced_activation_does_not_help_it():
    """
    The row was read before the successor took over: the older activation is refused and has written nothing.
    """

    async def scenario(memory, store, activation):
        old, new = activation(), activation()
        await old.turn("add")
        await read_ahead(old)
        await new.turn("add")
        with pytest.raises(ActorFencedError):
            await old.turn("add")
        return await new.turn("add")

    assert 3 == run(scenario)


def test_a_reload_is_not_taken_for_a_stranger():
    """
    A row read before this activation raised its own epoch does not fence it.
    """

    async def scenario(memory, store, activation):
        host = activation()
        await host.turn("add")
        await read_ahead(host)
        row = store._site.ahead._rows[FencedActor.key("Counter", "a")]
        await host.actor.reload()
        store._site.ahead.put(*row)
        return await host.turn("add"), host.actor.epoch

    assert (2, 2) == run(scenario)
