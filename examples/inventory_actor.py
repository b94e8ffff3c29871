"""
An actor for each article of a warehouse: reservations never oversell, although a second program restocks the shelves.

Start it beside a sidecar with placement and scheduler::

    occ run --workflows -- python examples/inventory_actor.py

Ten shoppers reserve from one article at once while a delivery raises the stock through the plain state API. A refused
reservation leaves nothing behind, and what was promised to shoppers is what the store says.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from typing import Any, ClassVar

from dapr.actor import ActorInterface, actormethod

from toolkit import AsyncStateStore
from workflows.actors import ActorMethodError, FencedActor, GrpcActorProxyFactory, host_actors


class ArticleInterface(ActorInterface):
    """
    What can be asked of an article.
    """

    @actormethod(name="Reserve")
    async def reserve(self, order: dict) -> dict: ...

    @actormethod(name="Stock")
    async def stock(self) -> dict: ...


class Article(FencedActor, ArticleInterface):
    """
    Pieces on the shelf and who has reserved them.
    """

    initial: ClassVar = {"on_hand": 0, "reserved": {}}

    async def reserve(self, order: dict[str, Any]) -> dict[str, Any]:
        """
        Take pieces for an order; asking again for the same order is answered, not repeated.
        """
        name, pieces = order["order"], order["pieces"]

        def take(state: dict[str, Any]) -> dict[str, Any]:
            if name in state["reserved"]:
                return state
            if state["on_hand"] < pieces:
                raise ValueError(f"{self.id}: {pieces} wanted, {state['on_hand']} on the shelf")
            reserved = {**state["reserved"], name: pieces}
            return {"on_hand": state["on_hand"] - pieces, "reserved": reserved}

        return await self.update(take)

    async def stock(self) -> dict[str, Any]:
        """
        What is on the shelf now.
        """
        return await self.load()


async def reserve(proxy: Any, order: str) -> bool:
    """
    Whether three pieces could be reserved.
    """
    try:
        await proxy.Reserve({"order": order, "pieces": 3})
    except ActorMethodError as error:
        if "on the shelf" not in error.message:
            raise
        return False
    return True


async def restock(store: AsyncStateStore, article: str) -> None:
    """
    A delivery of ten pieces, one by one, by a program that knows nothing of actors but the key.
    """
    key = FencedActor.key("Article", article)
    for _ in range(10):
        await store.update(key, lambda state: {**state, "on_hand": state["on_hand"] + 1})


async def main(store_name: str, article: str) -> int:
    async with (
        AsyncStateStore(store_name) as store,
        host_actors(Article, store=store),
        GrpcActorProxyFactory() as actors,
    ):
        proxy: Any = actors.create(Article, article, ArticleInterface)
        before = await proxy.Stock()
        shoppers = [reserve(proxy, f"order-{uuid.uuid4()}") for _ in range(10)]
        *reserved, _ = await asyncio.gather(*shoppers, restock(store, article))
        after = await proxy.Stock()
    kept = len(after["reserved"]) - len(before["reserved"])
    shelf = before["on_hand"] + 10 - 3 * kept
    print(f"{sum(reserved)} of 10 orders were promised three pieces, {kept} are in the store")
    print(f"on the shelf: {after['on_hand']}, as it should be: {shelf}")
    return 0 if (sum(reserved), after["on_hand"]) == (kept, shelf) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--store", default="statestore", help="name of the state store component")
    parser.add_argument("--article", default="bolt", help="id of the actor")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.store, options.article)))
