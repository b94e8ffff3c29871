"""
What an activation does once it knows that another has the actor, and how it begins anew.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from dapr.actor import ActorId, ActorInterface, Remindable, actormethod

from toolkit import AsyncStateStore, ConflictError, CorruptValueError
from toolkit.testing import MemoryStore
from workflows.actors import ActorFencedError, FencedActor, MemoryActorClient, fenced_mock


class ShelfInterface(ActorInterface):
    @actormethod(name="add")
    async def add(self, amount: int) -> dict: ...

    @actormethod(name="note")
    async def note(self, text: str) -> str: ...

    @actormethod(name="noted")
    async def noted(self) -> str: ...

    @actormethod(name="note_and_swallow")
    async def note_and_swallow(self, text: str) -> str: ...

    @actormethod(name="swallow")
    async def swallow(self) -> str: ...

    @actormethod(name="load_and_wait")
    async def load_and_wait(self) -> dict: ...

    @actormethod(name="add_async")
    async def add_async(self) -> dict: ...

    @actormethod(name="save_nothing")
    async def save_nothing(self) -> None: ...

    @actormethod(name="schedule")
    async def schedule(self) -> None: ...


def adding(amount):
    return lambda state: {**state, "n": state["n"] + amount}


class Shelf(FencedActor, ShelfInterface, Remindable):
    initial = {"n": 0, "tags": []}
    reload_after = 3600.0
    activated = 0

    async def _on_activate(self):
        self.activated += 1
        if self.broken_once:
            self.broken_once = False
            raise OSError("not ready")

    broken_once = False

    async def add(self, amount):
        return await self.update(adding(amount))

    async def note(self, text):
        await self._state_manager.set_state("note", text)
        return text

    async def noted(self):
        return (await self._state_manager.try_get_state("note"))[1]

    async def note_and_swallow(self, text):
        await self.note(text)
        return await self.swallow()

    async def swallow(self):
        try:
            await self.add(1)
        except ActorFencedError:
            return "swallowed"
        return "added"

    async def load_and_wait(self):
        await self.load()
        self.loaded.set()
        await self.go_on.wait()
        return await self.update(adding(100), on_conflict="raise")

    async def add_async(self):
        async def change(state):
            return state

        return await self.update(change)

    async def save_nothing(self):
        async def body(tx):
            await self.tx_load(tx)
            await self.tx_save(tx, None)

        await self.store.transact(body)

    async def schedule(self):
        day = timedelta(days=1)
        await self.register_timer("tick", self.tick, None, day, day)
        await self.register_reminder("renew", b"2026-11", day, day)

    async def tick(self, _):
        await self.add(1)

    async def receive_reminder(self, name, state, due_time, period, ttl=None):
        await self.add(10)


KEY = FencedActor.key("Shelf", "a")


def run(scenario):
    """
    Run a scenario on a store and activations that share the SDK's state, too.
    """

    async def main():
        client = MemoryActorClient()
        async with AsyncStateStore("test", port=MemoryStore()) as store:
            return await scenario(store, lambda: fenced_mock(Shelf, "a", store=store, client=client))

    return asyncio.run(main())


async def replaced(activation):
    """
    An activation that knows that it was replaced, and the one that has the actor.
    """
    old, new = activation(), activation()
    await old.turn("schedule")
    await new.turn("add", 1)
    with pytest.raises(ActorFencedError):
        await old.turn("add", 100)
    return old, new


def test_a_key_is_named_by_class_and_id_too():
    """
    The class of the actor and the SDK's id give the same key as their names.
    """
    assert KEY == FencedActor.key(Shelf, ActorId("a")) == Shelf.key("Shelf", "a")


def test_the_cache_of_the_sdk_is_dropped():
    """
    After a reload a value that the other activation has saved by the state manager is read, not the cached one.
    """

    async def scenario(store, activation):
        old = activation()
        await old.turn("note", "old")
        new = activation()
        await new.turn("note", "new")
        with pytest.raises(ActorFencedError):
            await old.turn("add", 1)
        await old.actor.reload()
        return await old.turn("noted")

    assert "new" == run(scenario)


def test_a_swallowed_refusal_saves_nothing():
    """
    A turn that goes on after it was refused cannot save what it has set; one that has set nothing may answer.
    """

    async def scenario(store, activation):
        old, new = activation(), activation()
        await old.turn("add", 1)
        await new.turn("note", "new")
        with pytest.raises(ActorFencedError, match="has refused turns since"):
            await old.turn("note_and_swallow", "old")
        other = activation()
        await other.turn("noted")
        assert "swallowed" == await new.turn("swallow")
        return await other.turn("noted")

    assert "new" == run(scenario)


def test_a_timer_does_not_take_the_actor_back():
    """
    Timers are refused for as long as the other activation has it; a reminder may begin anew after the wait.
    """

    async def scenario(store, activation):
        old, _ = await replaced(activation)
        old.actor.reload_after = 0.0
        with pytest.raises(ActorFencedError):
            await old.fire_timer("tick")
        await old.fire_reminder("renew")
        await old.fire_timer("tick")
        return (await store.get(KEY))["n"], old.actor.epoch

    assert (12, 3) == run(scenario)


def test_an_activation_that_begins_anew_is_activated_again():
    """
    ``_on_activate`` runs once more; when it fails, the next turn tries again.
    """

    async def scenario(store, activation):
        old, _ = await replaced(activation)
        old.actor.reload_after, old.actor.broken_once = 0.0, True
        with pytest.raises(OSError, match="not ready"):
            await old.turn("add", 1)
        state = await old.turn("add", 1)
        return old.actor.activated, state["n"]

    assert (3, 2) == run(scenario)


def test_where_nobody_has_the_actor_the_next_turn_begins_anew():
    """
    A value without the mark refuses one turn, says whose fault it is, and no wait follows.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("schedule")
        await store.set(KEY, {"n": 50})
        with pytest.raises(ActorFencedError, match=r"the mark of epoch 1 is gone .*carry '_actor' over"):
            await host.turn("add", 1)
        await host.fire_timer("tick")
        return await host.turn("add", 1)

    assert {"n": 52, "tags": []} == run(scenario)


def test_initial_fills_in_what_an_earlier_writer_left_out():
    """
    A program outside that wrote the key before the actor was ever activated does not leave it without its members.
    """

    async def scenario(store, activation):
        await store.update(KEY, lambda state: {**state, "outside": 1}, default={})
        return await activation().turn("add", 1)

    assert {"n": 1, "tags": [], "outside": 1} == run(scenario)


def test_a_value_that_is_no_object_is_left_alone():
    """
    The error names the key and what to do.
    """

    async def scenario(store, activation):
        await store.set(KEY, [1, 2])
        with pytest.raises(
            CorruptValueError, match=r"'_occ-actor-Shelf-a': .* holds list; .*replace or delete"
        ):
            await activation().turn("add", 1)
        return await store.get(KEY)

    assert [1, 2] == run(scenario)


def test_a_turn_given_up_keeps_what_it_has_loaded_to_itself():
    """
    ``on_conflict="raise"`` counts from the load of its own turn, also when a later turn has loaded since.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("add", 1)
        host.actor.loaded, host.actor.go_on = asyncio.Event(), asyncio.Event()
        stale = asyncio.create_task(host.turn("load_and_wait"))
        await host.actor.loaded.wait()
        await host.turn("add", 1)
        host.actor.go_on.set()
        with pytest.raises(ConflictError):
            await stale
        return (await store.get(KEY))["n"]

    assert 2 == run(scenario)


@pytest.mark.parametrize(
    ("method", "message"), [("add_async", "change is async"), ("save_nothing", "not NoneType")]
)
def test_what_is_no_state_is_named(method, message):
    """
    An async change and a transaction that saves nothing are refused, and nothing is written.
    """

    async def scenario(store, activation):
        host = activation()
        with pytest.raises(TypeError, match=message):
            await host.turn(method)
        return await host.turn("add", 1)

    assert 1 == run(scenario)["n"]


def test_a_turn_given_up_that_has_updated_is_not_called_unsaved():
    """
    What a fenced turn has updated is stored, and it has nothing else to save: no error says otherwise.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("add", 1)
        host.actor.loaded, host.actor.go_on = asyncio.Event(), asyncio.Event()
        stale = asyncio.create_task(host.turn("load_and_wait"))
        await host.actor.loaded.wait()
        await host.turn("noted")
        host.actor.go_on.set()
        return (await stale)["n"], (await store.get(KEY))["n"]

    assert (101, 101) == run(scenario)
