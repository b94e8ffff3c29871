"""
The actors that run beside a real sidecar; as a program it serves them until it is killed.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import grpc
from dapr.actor import Actor, ActorInterface, Remindable, actormethod

from toolkit import AsyncStateStore
from workflows.actors import ActorFencedError, FencedActor, SafeActor, host_actors


class WalletInterface(ActorInterface):
    @actormethod(name="Add")
    async def add(self, amount: int) -> int: ...

    @actormethod(name="AddAndRaise")
    async def add_and_raise(self, amount: int) -> int: ...


class WalletTurns:
    async def add(self, amount):
        balance = await self._state_manager.get_or_add_state("balance", 0)
        await self._state_manager.set_state("balance", balance + amount)
        return balance + amount

    async def add_and_raise(self, amount):
        await self.add(amount)
        raise ValueError("refused")


class LiveWallet(WalletTurns, SafeActor, WalletInterface):
    pass


class LivePlainWallet(WalletTurns, Actor, WalletInterface):
    pass


class LedgerInterface(ActorInterface):
    @actormethod(name="Add")
    async def add(self, entry: str) -> int: ...

    @actormethod(name="Read")
    async def read(self) -> dict: ...

    @actormethod(name="Hold")
    async def hold(self, fifo: str) -> int: ...

    @actormethod(name="Remind")
    async def remind(self) -> None: ...

    @actormethod(name="Timer")
    async def timer(self) -> None: ...


class LiveLedger(FencedActor, LedgerInterface, Remindable):
    initial: ClassVar = {"n": 0, "entries": [], "fired": []}

    async def add(self, entry):
        def change(state):
            return {**state, "n": state["n"] + 1, "entries": [*state["entries"], entry]}

        return (await self.update(change))["n"]

    async def read(self):
        return {**await self.load(), "epoch": self.epoch}

    async def hold(self, fifo):
        await hold(fifo)
        try:
            count = await self.add("held")
        except ActorFencedError:
            print("refused", flush=True)  # noqa: T201  the test reads it
            raise
        print("written", flush=True)  # noqa: T201  the test reads it
        return count

    async def remind(self):
        await self.register_reminder("renew", b"2026-11", timedelta(0))

    async def timer(self):
        await self.register_timer("tick", self.on_timer, "tick", timedelta(0), timedelta(days=1))

    async def receive_reminder(self, name, state, due_time, period, ttl=None):
        await self.fire(f"{name} {state.decode()}", once=self.once(name, state.decode()))

    async def on_timer(self, state):
        await self.fire(state)

    async def fire(self, what, once=None):
        await self.update(lambda state: {**state, "fired": [*state["fired"], what]}, once=once)
        # Tells a test in this process that it happened.
        if (done := Fired.event) is not None:
            done.set()


class PlainLedgerInterface(ActorInterface):
    @actormethod(name="Add")
    async def add(self, entry: str) -> int: ...

    @actormethod(name="Hold")
    async def hold(self, fifo: str) -> int: ...

    @actormethod(name="Read")
    async def read(self) -> dict: ...


class LivePlainLedger(Actor, PlainLedgerInterface):
    """
    The same on the SDK alone: one state, saved by the turn.
    """

    async def add(self, entry):
        entries = await self._state_manager.get_or_add_state("entries", [])
        await self._state_manager.set_state("entries", [*entries, entry])
        await self._state_manager.save_state()
        return len(entries) + 1

    async def hold(self, fifo):
        await self._state_manager.try_get_state("entries")
        await hold(fifo)
        try:
            count = await self.add("held")
        except grpc.aio.AioRpcError:
            print("refused", flush=True)  # noqa: T201  the test reads it
            raise
        print("written", flush=True)  # noqa: T201  the test reads it
        return count

    async def read(self):
        _, entries = await self._state_manager.try_get_state("entries")
        return {"entries": entries or []}


async def hold(fifo):
    """
    Stand still in the middle of a turn until the test writes to the pipe.
    """
    print("holding", flush=True)  # noqa: T201  the test waits for it
    await asyncio.to_thread(Path(fifo).read_bytes)


class Fired:
    event: ClassVar[asyncio.Event | None] = None


async def serve():
    """
    Serve the ledger until the process is killed.
    """
    async with AsyncStateStore("statestore") as store, host_actors(LiveLedger, LivePlainLedger, store=store):
        print("serving", flush=True)  # noqa: T201  the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
