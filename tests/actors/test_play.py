"""
The scheduler of turns: fenced actors under many orders, and controls that it catches.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from dapr.actor import Actor, ActorInterface, Remindable, actormethod

from toolkit.testing import MemoryStore, check_linearizable
from toolkit.testing.history import Op
from workflows.actors import FencedActor, SafeActor, TurnHazards, explore_turns, play_turns
from workflows.actors import _virtual as virtual


class CounterInterface(ActorInterface):
    @actormethod(name="add")
    async def add(self, amount: int) -> int: ...

    @actormethod(name="read")
    async def read(self) -> int: ...


class MoreInterface(ActorInterface):
    @actormethod(name="remind")
    async def remind(self) -> None: ...

    @actormethod(name="start_timer")
    async def start_timer(self) -> None: ...

    @actormethod(name="nap")
    async def nap(self) -> None: ...

    @actormethod(name="hang")
    async def hang(self) -> None: ...


class FencedCounter(FencedActor, CounterInterface, MoreInterface, Remindable):
    initial = {"n": 0, "renewed": 0, "ticks": 0}

    async def add(self, amount):
        return (await self.update(lambda state: {**state, "n": state["n"] + amount}))["n"]

    async def read(self):
        return (await self.load())["n"]

    async def remind(self):
        await self.register_reminder("renew", b"2026-11", timedelta(days=1), timedelta(days=1))

    async def receive_reminder(self, name, state, due_time, period, ttl=None):
        def renew(state):
            return {**state, "renewed": state["renewed"] + 1}

        await self.update(renew, once=self.once(name, state.decode()))

    async def start_timer(self):
        await self.register_timer("tick", self.tick, None, timedelta(seconds=1), timedelta(seconds=1))

    async def tick(self, _):
        await self.update(lambda state: {**state, "ticks": state["ticks"] + 1})

    async def nap(self):
        await asyncio.sleep(3600)

    async def hang(self):
        await asyncio.Event().wait()


class Unfenced:
    async def add(self, amount):
        count = await self._state_manager.get_or_add_state("n", 0)
        await self._state_manager.set_state("n", count + amount)
        return count + amount

    async def read(self):
        return await self._state_manager.get_or_add_state("n", 0)


class SafeCounter(Unfenced, SafeActor, CounterInterface):
    pass


class PlainCounter(Unfenced, Actor, CounterInterface):
    pass


CALLS = [("add", 1)] * 6 + ["read"] * 3
STORM = TurnHazards(crash=0.02, second=0.1)


def linearizable(played):
    """
    The turns of a counter, as the checker knows them.
    """
    ops = []
    for number, turn in enumerate(played.turns):
        kind = "info" if turn.unknown else "fail" if turn.error else "ok"
        f = {"add": "inc", "read": "read"}.get(turn.call)
        # Steps are whole: a turn that ended in the step in which another began came first.
        begins, ends = 2 * turn.began + 1, 2 * turn.ended
        # The checker has no word for a count that nobody has begun.
        answer = turn.answer if f == "inc" else turn.answer or None
        if f is not None:
            ops.append(Op(number, turn.host, f, kind, begins, max(begins, ends), "a", turn.argument, answer))
    found = check_linearizable(ops)
    assert "ok" == found.verdict, str(found)


def test_the_turns_of_a_fenced_actor_are_linearizable():
    """
    Two activations, crashes and requests that arrive late: some order explains every answer.
    """
    explore_turns(FencedCounter, "a", CALLS, linearizable, port=MemoryStore, seeds=range(60), hazards=STORM)


def test_a_reminder_counts_once_and_a_timer_is_played():
    """
    However often the reminder comes, one renewal; increments that were acknowledged are there.
    """

    def check(played):
        acknowledged, unheard = len(played.answered("add")), len(played.unheard("add"))
        assert acknowledged <= played.state["n"] <= acknowledged + unheard
        assert played.state["renewed"] == bool(played.answered("remind"))
        assert played.state["ticks"] >= len(played.answered("timer tick"))
        seen.update(turn.call for turn in played.turns)

    seen = set()
    calls = [("add", 1), ("add", 1), "remind", "start_timer", "nap"]
    explore_turns(
        FencedCounter, "a", calls, check, port=lambda: MemoryStore(profile="redis"), seeds=range(40)
    )
    assert {"reminder renew", "timer tick"} <= seen


@pytest.mark.parametrize("kind", [SafeCounter, PlainCounter])
def test_an_actor_without_a_fence_is_caught(kind, monkeypatch):
    """
    The control: where two activations write, updates are lost; the error names the seed, which plays it again.
    """
    with pytest.raises(AssertionError, match="no order explains") as caught:
        explore_turns(kind, "a", CALLS, linearizable, port=MemoryStore, seeds=range(200), hazards=STORM)
    seed = str(caught.value).partition("seed ")[2].partition(":")[0]
    assert f"OCC_TURNS_SEED={seed} python -m pytest '" in str(caught.value)
    monkeypatch.setenv("OCC_TURNS_SEED", seed)
    with pytest.raises(AssertionError) as again:
        explore_turns(kind, "a", CALLS, linearizable, port=MemoryStore, seeds=(), hazards=STORM)
    assert str(caught.value) == str(again.value)


def test_one_activation_without_mishaps_loses_nothing():
    """
    The control of the control: the plain actor is right as long as it is alone.
    """
    calm = TurnHazards(crash=0, second=0)
    explore_turns(PlainCounter, "a", CALLS, linearizable, port=MemoryStore, seeds=range(20), hazards=calm)


def test_a_seed_draws_the_calls_and_the_run():
    """
    The same seed gives the same run, another one another.
    """

    def calls(source: random.Random):
        return [("add", source.randint(1, 9)) for _ in range(4)]

    one, again, other = (
        play_turns(FencedCounter, "a", calls, port=MemoryStore(), seed=seed) for seed in (1, 1, 2)
    )
    assert (one.trace, one.state) == (again.trace, again.state)
    assert one.trace != other.trace


def test_a_turn_that_waits_for_something_else_is_named(monkeypatch):
    """
    The scheduler cannot make it happen, and says so.
    """
    monkeypatch.setattr(virtual, "PATIENCE", 0.01)
    with pytest.raises(RuntimeError, match="hang on host 0 waits for something"):
        play_turns(FencedCounter, "a", ["hang"], port=MemoryStore(), seed=1, hazards=TurnHazards(crash=0))


def test_a_method_that_is_not_there_is_a_mistake_of_the_test():
    """
    It is told at once; as an error of the turn it would pass for a refusal.
    """
    with pytest.raises(TypeError, match=r"FencedCounter has no method 'ad': add, hang, nap, read"):
        play_turns(FencedCounter, "a", [("ad", 1)], port=MemoryStore(), seed=1)
