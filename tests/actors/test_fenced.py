"""
A fenced actor on the SDK's manager and a store in memory: two activations, outside writers, redelivered reminders.
"""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import timedelta

import pytest
from dapr.actor import ActorInterface, Remindable, actormethod

from toolkit import DELETE, UNCHANGED, AsyncStateStore, ConflictError, log_to
from toolkit.testing import MemoryStore
from workflows.actors import ActorFencedError, FencedActor, fenced_mock


class CounterInterface(ActorInterface):
    @actormethod(name="add")
    async def add(self, amount: int) -> dict: ...

    @actormethod(name="add_and_raise")
    async def add_and_raise(self, amount: int) -> dict: ...

    @actormethod(name="add_unless_changed")
    async def add_unless_changed(self, amount: int) -> dict: ...

    @actormethod(name="add_op")
    async def add_op(self, op_id: str) -> dict: ...

    @actormethod(name="clear")
    async def clear(self) -> dict: ...

    @actormethod(name="nothing")
    async def nothing(self) -> dict: ...

    @actormethod(name="forget_return")
    async def forget_return(self) -> dict: ...

    @actormethod(name="total")
    async def total(self, amount: int) -> dict: ...

    @actormethod(name="move")
    async def move(self, amount: int) -> dict: ...

    @actormethod(name="read")
    async def read(self) -> dict: ...

    @actormethod(name="remind")
    async def remind(self) -> None: ...


def adding(amount):
    def change(state):
        state["n"] += amount
        return state

    return change


class Counter(FencedActor, CounterInterface, Remindable):
    initial = {"n": 0}
    reload_after = 3600.0

    async def add(self, amount):
        return await self.update(adding(amount))

    async def add_and_raise(self, amount):
        await self.update(adding(amount))
        raise ValueError("refused")

    async def add_unless_changed(self, amount):
        await self.load()
        self.loaded.set()
        await self.go_on.wait()
        return await self.update(adding(amount), on_conflict="raise")

    async def add_op(self, op_id):
        return await self.update(adding(1), op_id=op_id)

    async def clear(self):
        return await self.update(lambda _: DELETE)

    async def nothing(self):
        return await self.update(lambda _: UNCHANGED)

    async def forget_return(self):
        return await self.update(lambda state: state.update(n=7))

    async def total(self, amount):
        return await self.shared("total").update(adding(amount), default={"n": 0})

    async def move(self, amount):
        async def body(tx):
            state = await self.tx_load(tx)
            pot = await tx.get("pot", {"n": 0})
            await self.tx_save(tx, {**state, "n": state["n"] - amount})
            tx.put("pot", {"n": pot["n"] + amount})
            return state["n"] - amount

        return await self.opened_store().transact(body)

    async def read(self):
        return await self.load()

    async def remind(self):
        day = timedelta(days=1)
        await self.register_reminder("renew", b"2026-11", day, day)

    async def receive_reminder(self, name, state, due_time, period, ttl=None):
        await self.update(adding(1), once=self.once(name, state.decode()))


def run(scenario):
    """
    Run a scenario on a store and as many activations of one actor as it starts.
    """

    async def main():
        async with AsyncStateStore("test", port=MemoryStore()) as store:
            return await scenario(store, lambda: fenced_mock(Counter, "a/1", store=store))

    return asyncio.run(main())


def test_the_state_has_a_key_of_its_own():
    """
    The id is percent-encoded, the members are the user's, and the mark says whose it is.
    """

    async def scenario(store, activation):
        await activation().turn("add", 2)
        return await store.get(FencedActor.key("Counter", "a/1")), FencedActor.key("Counter", "a/1")

    value, key = run(scenario)
    assert "_occ-actor-Counter-a%2F1" == key
    assert (2, 1) == (value["n"], value["_actor"]["epoch"])


def test_the_older_activation_is_refused_and_wrote_nothing():
    """
    Two activations: the second raises the epoch, the first one's update is refused, the second goes on.
    """

    async def scenario(store, activation):
        old, new = activation(), activation()
        await old.turn("add", 1)
        await new.turn("add", 10)
        with pytest.raises(ActorFencedError, match="taken over from epoch 1") as refused:
            await old.turn("add", 100)
        return refused.value, await new.turn("add", 1)

    error, state = run(scenario)
    assert (1, 2, {"n": 12}) == (error.epoch, error.current, state)


@pytest.mark.parametrize("method", ["read", "nothing", "add_op", "move", "clear"])
def test_every_way_to_the_state_is_fenced(method):
    """
    Reads, no-ops, repeats and transactions of the older activation are refused like updates.
    """

    async def scenario(store, activation):
        old, new = activation(), activation()
        await old.turn("add_op", "op-1")
        await new.turn("add", 10)
        argument = {"add_op": "op-1", "move": 3}.get(method)
        with pytest.raises(ActorFencedError):
            await old.turn(method, argument)
        return await new.turn("read"), await store.get("pot")

    assert ({"n": 11}, None) == run(scenario)


def test_the_older_activation_refuses_everything_until_reloaded():
    """
    Turns, reminders and shared keys are refused once it knows; after a reload it is the new activation.
    """

    async def scenario(store, activation):
        old, new = activation(), activation()
        await old.turn("remind")
        await new.turn("add", 10)
        with pytest.raises(ActorFencedError):
            await old.turn("read")
        with pytest.raises(ActorFencedError):
            await old.turn("total", 1)
        with pytest.raises(ActorFencedError):
            await old.fire_reminder("renew")
        assert {"n": 10} == await old.actor.reload()
        await old.turn("add", 1)
        with pytest.raises(ActorFencedError):
            await new.turn("add", 1)
        return await store.get("total"), await old.turn("read"), old.actor.epoch

    assert (None, {"n": 11}, 3) == run(scenario)


def test_it_reloads_by_itself_after_a_while():
    """
    An actor that the sidecar keeps sending turns to is not refused for ever.
    """

    async def scenario(store, activation):
        old, new = activation(), activation()
        await old.turn("read")
        await new.turn("add", 10)
        with pytest.raises(ActorFencedError):
            await old.turn("add", 1)
        old.actor.reload_after = 0.0
        return await old.turn("add", 1)

    assert {"n": 11} == run(scenario)


def test_a_lost_mark_fences_the_activation():
    """
    Somebody who replaced the state without the mark is not overwritten.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("add", 1)
        await store.set(FencedActor.key("Counter", "a/1"), {"n": 50})
        with pytest.raises(ActorFencedError) as refused:
            await host.turn("add", 1)
        await host.deactivate()
        return refused.value.current, await host.turn("add", 1)

    assert (0, {"n": 51}) == run(scenario)


def test_concurrent_updates_from_inside_and_outside_all_count():
    """
    20 turns of the actor beside 20 updates of the key by a store.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("read")
        key = FencedActor.key("Counter", "a/1")
        inside = [host.actor.add(1) for _ in range(20)]
        outside = [store.update(key, adding(1)) for _ in range(20)]
        await asyncio.gather(*inside, *outside)
        return await host.turn("read")

    assert {"n": 40} == run(scenario)


def test_on_conflict_raise_reports_an_outside_write():
    """
    The update is refused when somebody wrote after the load, and works without such a write.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("read")
        host.actor.loaded, host.actor.go_on = asyncio.Event(), asyncio.Event()
        turn = asyncio.create_task(host.turn("add_unless_changed", 1))
        await host.actor.loaded.wait()
        await store.update(FencedActor.key("Counter", "a/1"), adding(10))
        host.actor.go_on.set()
        with pytest.raises(ConflictError):
            await turn
        return await host.turn("add_unless_changed", 1)

    assert {"n": 11} == run(scenario)


def test_on_conflict_raise_names_a_new_activation():
    """
    When the write in between was a new activation, the error says so.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("read")
        host.actor.loaded, host.actor.go_on = asyncio.Event(), asyncio.Event()
        turn = asyncio.create_task(host.turn("add_unless_changed", 1))
        await host.actor.loaded.wait()
        await activation().turn("read")
        host.actor.go_on.set()
        with pytest.raises(ActorFencedError):
            await turn

    run(scenario)


def test_a_redelivered_reminder_counts_once():
    """
    Three deliveries of one due count once, also by the next activation; the next due counts again.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("remind")
        await host.fire_reminder("renew")
        await host.fire_reminder("renew")
        await host.deactivate()
        await host.fire_reminder("renew")
        once = await host.turn("read")
        await host.actor.receive_reminder("renew", b"2026-12", None, None)
        # Late: the next period is done already.
        await host.fire_reminder("renew")
        return once, await host.turn("read")

    assert ({"n": 1}, {"n": 2}) == run(scenario)


def test_a_transaction_moves_between_the_actor_and_another_key():
    """
    Both keys change, the epoch and the reminders done are kept.
    """

    async def scenario(store, activation):
        host = activation()
        await host.turn("add", 10)
        await host.turn("remind")
        await host.fire_reminder("renew")
        await host.turn("move", 4)
        await host.fire_reminder("renew")
        return await host.turn("read"), await store.get("pot")

    assert ({"n": 7}, {"n": 4}) == run(scenario)


def test_updates_stay_when_the_turn_raises_later():
    """
    A fenced update is done when it returns; this is what the documentation says.
    """

    async def scenario(store, activation):
        host = activation()
        with pytest.raises(ValueError, match="refused"):
            await host.turn("add_and_raise", 5)
        return await host.turn("read")

    assert {"n": 5} == run(scenario)


def test_a_change_that_forgets_to_return_is_named():
    """
    The message says what to return and nothing is written.
    """

    async def scenario(store, activation):
        host = activation()
        with pytest.raises(TypeError, match="return the new state, UNCHANGED or DELETE"):
            await host.turn("forget_return")
        return await host.turn("read")

    assert {"n": 0} == run(scenario)


def test_delete_empties_the_state_and_keeps_the_fence():
    """
    An emptied actor still refuses its older activation.
    """

    async def scenario(store, activation):
        old, new = activation(), activation()
        await old.turn("read")
        assert {} == await new.turn("clear")
        with pytest.raises(ActorFencedError):
            await old.turn("add", 1)

    run(scenario)


def test_log_lines_carry_the_actor(tmp_path):
    """
    The line of the activation has the actor and turn 0; the line of an update has its turn and epoch.
    """

    async def scenario(store, activation):
        host = activation()
        with log_to(tmp_path / "log.jsonl"):
            await host.turn("read")
            await host.turn("add", 1)

    run(scenario)
    events = map(json.loads, (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines())
    lines = [event for event in events if event["event"] == "occ.committed"]
    wanted = ("actor_type", "actor_id", "actor_method", "turn", "epoch")
    assert [("Counter", "a/1", None, 0, 0), ("Counter", "a/1", "add", 2, 1)] == [
        tuple(line.get(name) for name in wanted) for line in lines
    ]


def test_the_error_survives_a_process_boundary():
    """
    The refusal keeps its attributes through pickle.
    """
    error = pickle.loads(pickle.dumps(ActorFencedError("taken", key="k", epoch=1, current=2)))  # noqa: S301  our own
    assert ("taken", "k", 1, 2) == (str(error), error.key, error.epoch, error.current)


def test_a_fenced_actor_without_a_store_is_told_so():
    """
    The mock refuses at once and names the argument.
    """
    with pytest.raises(TypeError, match="store="):
        fenced_mock(Counter, "a/1")
