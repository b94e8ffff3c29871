"""
Trio tasks sell the seats of one show: none is sold twice, and impatient customers who ask again get one seat.

The same class runs on asyncio. Start it beside a sidecar::

    occ run -- python examples/trio_app.py
"""

from __future__ import annotations

import sys
import uuid
from functools import partial
from typing import Any

import trio

from toolkit import AsyncStateStore, StateError

SHOW = "show-1"
SEATS = 20
CUSTOMERS = 30


class SoldOutError(Exception):
    """
    There is no seat left.
    """


def sell(show: dict[str, Any], customer: str) -> dict[str, Any]:
    """
    A plain function, run again whenever another sale came first.
    """
    if len(show["sold"]) == show["seats"]:
        raise SoldOutError
    return {**show, "sold": [*show["sold"], customer]}


async def buy(store: AsyncStateStore, number: int, turned_away: list[str]) -> None:
    """
    One customer, who soon loses patience and then orders again: with the same id it is the same order.
    """
    customer = f"customer-{number}"
    # The id is made once, outside of every attempt: it names the order, not the call.
    order = partial(store.update, SHOW, partial(sell, customer=customer), op_id=str(uuid.uuid4()))
    try:
        with trio.move_on_after(0.01 * (number % 5)):
            await order()
        await order()
    except SoldOutError:
        turned_away.append(customer)


async def main(store_name: str) -> None:
    turned_away: list[str] = []
    async with AsyncStateStore(store_name) as store:
        await store.set(SHOW, {"seats": SEATS, "sold": []})
        async with trio.open_nursery() as nursery:
            for number in range(CUSTOMERS):
                nursery.start_soon(buy, store, number, turned_away)
        sold = (await store.get(SHOW))["sold"]
    print(f"{len(sold)} of {SEATS} seats sold to {len(set(sold))} customers, {len(turned_away)} turned away")


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "statestore")
    except* StateError as errors:
        sys.exit("\n".join(f"trio_app: {error}" for error in errors.exceptions))
