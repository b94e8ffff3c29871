"""
Functions of ``on_commit`` that use the store themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.transactions.colours import Bridge, finish


def test_a_function_may_transact_on_the_same_keys(play: Callable[..., None]) -> None:
    """
    The transaction is over by then: it holds no place before its keys, and holds nobody up who waits there.
    """

    async def scenario(store: Any) -> None:
        await store.set("a", {"n": 0})

        async def add(tx: Any) -> None:
            tx.put("a", {"n": (await tx.get("a"))["n"] + 1})

        def again() -> Any:
            made = store.transact(add)
            return finish(made) if isinstance(store, Bridge) else made

        async def outer(tx: Any) -> None:
            await add(tx)
            tx.on_commit(again)

        await store.transact(outer)
        assert {"n": 2} == await store.get("a")

    play(scenario)
