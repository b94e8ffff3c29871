"""
The actors that run beside a real sidecar; as a program it serves them until it is killed.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import ClassVar

from dapr.actor import Actor, ActorInterface, Remindable, actormethod

from toolkit import AsyncStateStore
from workflows.actors import FencedActor, SafeActor, host_actors


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


class Fired:
    event: ClassVar[asyncio.Event | None] = None


async def serve():
    """
    Serve the ledger until the process is killed.
    """
    async with AsyncStateStore("statestore") as store, host_actors(LiveLedger, store=store):
        print("serving", flush=True)  # noqa: T201  the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
