"""
The customer of ``renewals``: an actor that knows which period is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from datetime import timedelta
from typing import Any, ClassVar, Final

import anyio.from_thread
import msgspec
from dapr.actor import ActorInterface, Remindable, actormethod
from dapr.ext.workflow import DaprWorkflowClient

from workflows.actors import FencedActor, GrpcActorProxyFactory, host_actors
from workflows.events import raise_event
from workflows.library.renewals import Subscription
from workflows.library.runner import host_and_port

# Seconds an activity waits for the actors of its worker.
OPENING: Final = 60.0


class SubscriberInterface(ActorInterface):
    """
    What can be asked of a customer.
    """

    @actormethod(name="Subscribe")  # type: ignore[untyped-decorator]
    async def subscribe(self, order: dict[str, Any]) -> None:
        """
        Begin with the first period.
        """
        raise NotImplementedError

    @actormethod(name="Ask")  # type: ignore[untyped-decorator]
    async def ask(self, period: str) -> None:
        """
        Say again that the period is due, or see to it that it will be.
        """
        raise NotImplementedError


class RenewalsCustomer(FencedActor, SubscriberInterface, Remindable):
    """
    The periods of one subscription and which of them comes next.
    """

    initial: ClassVar = {"months": [], "every": 0.0, "next": 0}
    events: ClassVar[Any] = None

    async def subscribe(self, order: dict[str, Any]) -> None:
        months = msgspec.convert(order["subscription"], Subscription).months()

        def begin(state: dict[str, Any]) -> dict[str, Any]:
            return state if state["months"] else {**state, "months": months, "every": order["every"]}

        await self._remind(await self.update(begin))

    async def ask(self, period: str) -> None:
        state = await self.load()
        if state["months"].index(period) < state["next"]:
            await self._say_due(period)
        else:
            await self._remind(state)

    async def receive_reminder(
        self,
        name: str,
        state: bytes,
        due_time: timedelta,
        period: timedelta | None = None,
        ttl: timedelta | None = None,
    ) -> None:
        due, known = state.decode(), await self.load()
        number = known["months"].index(due)
        if number < known["next"]:
            # Handled, and delivered again: the turn that handled it may have died before it set the next one.
            await self._remind(known)
            return
        # At least once, since the host can die right behind it; the workflow charges a period once.
        await self._say_due(due)

        def advance(state: dict[str, Any]) -> dict[str, Any]:
            return {**state, "next": number + 1}

        await self._remind(await self.update(advance, once=self.once("renew", due)))

    async def _say_due(self, period: str) -> None:
        instance = f"renewals-{self.id.id}"
        await asyncio.to_thread(raise_event, self.events, instance, f"due {period}", period)

    async def _remind(self, state: dict[str, Any]) -> None:
        if state["next"] < len(state["months"]):
            period = state["months"][state["next"]]
            wait = timedelta(seconds=state["every"])
            await self.register_reminder(f"renew {period}", period.encode(), wait)


class _Desk:
    """
    Where activities of this process reach the actors; the SDK hosts actors once in a process, too.
    """

    address: str | None = None
    portal: anyio.from_thread.BlockingPortal | None = None
    # The worker starts first: a reminder that found actors and no workflows would hold up their registration.
    open = threading.Event()


@contextlib.contextmanager
def hosted(store: str, address: str | None) -> Generator[None]:
    """
    Serve the customers, on a loop in a thread of its own.
    """
    RenewalsCustomer.events = client = DaprWorkflowClient(**host_and_port(address))
    serving = host_actors(RenewalsCustomer, store=store, address=address)
    with (
        contextlib.closing(client),
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving),
    ):
        _Desk.address, _Desk.portal = address, portal
        _Desk.open.set()
        try:
            yield
        finally:
            _Desk.open.clear()


def ask(customer: str, method: str, argument: Any) -> None:
    """
    Call the actor of a customer and wait for it.
    """
    if not _Desk.open.wait(OPENING) or _Desk.portal is None:
        raise RuntimeError(f"{method} of customer {customer!r}: this worker does not serve the actors")
    _Desk.portal.call(_ask, customer, method, argument)


async def _ask(customer: str, method: str, argument: Any) -> None:
    async with GrpcActorProxyFactory(_Desk.address, timeout=10) as actors:
        proxy: Any = actors.create(RenewalsCustomer, customer, SubscriberInterface)
        await getattr(proxy, method)(argument)
