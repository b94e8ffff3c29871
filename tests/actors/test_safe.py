"""
A safe actor on the SDK's own manager: nothing of a failed turn reaches the next one.
"""

from __future__ import annotations

import asyncio

import pytest
import structlog
from dapr.actor import Actor, ActorInterface, actormethod
from dapr.actor.runtime.mock_actor import create_mock_actor

from workflows.actors import MemoryActorClient, SafeActor, TurnAbandonedError, fenced_mock


class AccountInterface(ActorInterface):
    @actormethod(name="add")
    async def add(self, amount: int) -> int: ...

    @actormethod(name="add_and_raise")
    async def add_and_raise(self, amount: int) -> int: ...

    @actormethod(name="append_and_raise")
    async def append_and_raise(self, item: str) -> None: ...

    @actormethod(name="remove_and_raise")
    async def remove_and_raise(self) -> None: ...

    @actormethod(name="save_add_swallow")
    async def save_add_swallow(self, amount: int) -> int: ...

    @actormethod(name="add_and_wait")
    async def add_and_wait(self, amount: int) -> int: ...

    @actormethod(name="nested_add")
    async def nested_add(self, raise_after: bool) -> int: ...

    @actormethod(name="balance")
    async def balance(self) -> int: ...

    @actormethod(name="items")
    async def items(self) -> list: ...


class AccountTurns:
    """
    The same actor on two bases.
    """

    async def add(self, amount):
        balance = await self._state_manager.get_or_add_state("balance", 0)
        await self._state_manager.set_state("balance", balance + amount)
        return balance + amount

    async def add_and_raise(self, amount):
        await self.add(amount)
        raise ValueError("refused")

    async def append_and_raise(self, item):
        (await self._state_manager.get_state("items")).append(item)
        raise ValueError("refused")

    async def remove_and_raise(self):
        await self._state_manager.remove_state("balance")
        raise ValueError("refused")

    async def save_add_swallow(self, amount):
        await self.add(amount)
        try:
            await self._state_manager.save_state()
        except OSError:
            return (await self._state_manager.try_get_state("balance"))[1]
        return -1

    async def add_and_wait(self, amount):
        balance = await self.add(amount)
        self.entered.set()
        await self.released.wait()
        return balance

    async def nested_add(self, raise_after):
        await self._state_manager.set_state("outer", 1)
        # The host runs a nested call in a task of its own.
        await asyncio.create_task(self.host.turn("add", 5, reentrancy_id="chain"))
        if raise_after:
            raise ValueError("refused")
        return await self.balance()

    async def balance(self):
        return (await self._state_manager.try_get_state("balance"))[1] or 0

    async def items(self):
        return await self._state_manager.get_or_add_state("items", ["first"])


class Account(AccountTurns, SafeActor, AccountInterface):
    pass


class PlainAccount(AccountTurns, Actor, AccountInterface):
    pass


def run(scenario, kind=Account):
    """
    Run a scenario on one activation and its client.
    """

    async def main():
        client = MemoryActorClient()
        host = fenced_mock(kind, "a/1", client=client)
        await host.turn("balance")
        host.actor.host, host.actor.entered, host.actor.released = host, asyncio.Event(), asyncio.Event()
        return await scenario(host, client)

    return asyncio.run(main())


async def add_ten_then_fail_then_add_one(host, client):
    await host.turn("add", 10)
    with pytest.raises(ValueError, match="refused"):
        await host.turn("add_and_raise", 100)
    await host.turn("add", 1)
    return int(client.state[type(host.actor).__name__, "a/1", "balance"])


def test_a_turn_that_raises_leaves_nothing():
    """
    10, then a refused +100, then +1 stores 11.
    """
    assert 11 == run(add_ten_then_fail_then_add_one)


def test_a_plain_actor_saves_the_failed_turn_with_the_next_one():
    """
    The control: the SDK's actor stores 111, so the scenario can tell the two apart.
    """
    assert 111 == run(add_ten_then_fail_then_add_one, PlainAccount)


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError("late"), asyncio.CancelledError("stopped")])
def test_a_failed_or_cancelled_save_leaves_nothing(error):
    """
    A save that was refused is not built upon: 10, a lost +100, then +1 stores 11.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        client.save_errors.append(error)
        with pytest.raises(type(error)):
            await host.turn("add", 100)
        await host.turn("add", 1)
        return int(client.state["Account", "a/1", "balance"])

    assert 11 == run(scenario)


def test_a_value_changed_in_place_is_dropped_too():
    """
    The next turn does not see what a failed one did to a cached list.
    """

    async def scenario(host, client):
        assert ["first"] == await host.turn("items")
        with pytest.raises(ValueError, match="refused"):
            await host.turn("append_and_raise", "second")
        return await host.turn("items")

    assert ["first"] == run(scenario)


def test_a_removal_is_dropped_too():
    """
    A failed turn that removed the balance leaves it.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        with pytest.raises(ValueError, match="refused"):
            await host.turn("remove_and_raise")
        return await host.turn("balance")

    assert 10 == run(scenario)


def test_a_failed_save_inside_a_turn_shows_the_stored_value():
    """
    A turn that saves by itself and swallows the error reads what is stored, not what it wished for.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        client.save_errors.append(OSError("gone"))
        return await host.turn("save_add_swallow", 100), await host.turn("add", 1)

    assert (10, 11) == run(scenario)


def test_a_cancelled_turn_leaves_nothing():
    """
    A turn cut while it waits is forgotten.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        turn = asyncio.create_task(host.turn("add_and_wait", 100))
        await host.actor.entered.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        return await host.turn("add", 1)

    assert 11 == run(scenario)


def test_a_turn_given_up_by_the_sidecar_is_refused_at_its_end():
    """
    A turn that ends after the next one began saves nothing and says so.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        stale = asyncio.create_task(host.turn("add_and_wait", 100))
        await host.actor.entered.wait()
        fresh = await host.turn("add", 1)
        host.actor.released.set()
        with pytest.raises(TurnAbandonedError, match="turn 3 was given up"):
            await stale
        return fresh, await host.turn("add", 1)

    assert (11, 12) == run(scenario)


def test_a_turn_given_up_by_the_sidecar_is_refused_under_reentrancy_too():
    """
    The turns of a chain of calls save nothing after a turn of another chain has begun.
    """

    async def scenario(host, client):
        await host.turn("add", 10, reentrancy_id="first")
        stale = asyncio.create_task(host.turn("add_and_wait", 100, reentrancy_id="second"))
        await host.actor.entered.wait()
        fresh = await host.turn("add", 1, reentrancy_id="third")
        host.actor.released.set()
        with pytest.raises(TurnAbandonedError, match="turn 3 was given up"):
            await stale
        return fresh, await host.turn("add", 1, reentrancy_id="fourth")

    assert (11, 12) == run(scenario)


def test_a_turn_that_outlives_its_activation_is_refused_at_its_end():
    """
    The sidecar took the actor down, and the next activation has written: the old turn cannot.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        stale, first = asyncio.create_task(host.turn("add_and_wait", 100)), host.actor
        await first.entered.wait()
        await host.deactivate()
        await host.turn("add", 1)
        first.released.set()
        with pytest.raises(TurnAbandonedError, match="turn 3 was given up"):
            await stale
        return await host.turn("add", 1)

    assert 12 == run(scenario)


def test_a_failed_turn_leaves_its_caller_no_log_fields():
    """
    What the test writes to the log after a turn is not the actor's.
    """

    async def scenario(host, client):
        with pytest.raises(ValueError, match="refused"):
            await host.turn("add_and_raise", 1)
        return structlog.contextvars.get_contextvars()

    assert {} == run(scenario)


def test_a_nested_turn_keeps_what_it_saved_when_the_outer_one_fails():
    """
    Under reentrancy the inner +5 was acknowledged and stays; the outer change is dropped.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        with pytest.raises(ValueError, match="refused"):
            await asyncio.create_task(host.turn("nested_add", True, reentrancy_id="chain"))
        saved = {name for _, _, name in client.state}
        return saved, await host.turn("add", 1)

    assert ({"balance"}, 16) == run(scenario)


def test_a_nested_turn_that_cannot_save_fails_the_outer_one_cleanly():
    """
    Under reentrancy a failed inner save leaves neither change.
    """

    async def scenario(host, client):
        await host.turn("add", 10)
        client.save_errors.append(OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await asyncio.create_task(host.turn("nested_add", False, reentrancy_id="chain"))
        saved = {name for _, _, name in client.state}
        return saved, await host.turn("add", 1)

    assert ({"balance"}, 11) == run(scenario)


def test_the_mock_of_the_sdk_still_works():
    """
    ``create_mock_actor`` builds one without a runtime context.
    """

    async def scenario():
        actor = create_mock_actor(Account, "a/1", {"balance": 3})
        return await actor.add(4)

    assert 7 == asyncio.run(scenario())
