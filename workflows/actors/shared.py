"""
State that many actors change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from toolkit import ABSENT

if TYPE_CHECKING:
    from workflows.actors.fenced import FencedActor


class SharedState:
    """
    A key that many actors change: protected by its ETag, not by the epoch of any of them.
    """

    __slots__ = ("_actor", "key")

    def __init__(self, actor: FencedActor, key: str) -> None:
        self._actor, self.key = actor, key

    async def get(self, default: Any = None) -> Any:
        """
        The value stored now.
        """
        return await self._actor.opened_store().get(self.key, default)

    async def update(
        self, change: Callable[[Any], Any], *, default: Any = ABSENT, op_id: str | None = None
    ) -> Any:
        """
        Change it as ``StateStore.update`` does; refused when this activation knows that it was replaced.
        """
        self._actor.refuse_when_fenced()
        store = self._actor.opened_store()
        if default is ABSENT:
            return await store.update(self.key, change, op_id=op_id)
        return await store.update(self.key, change, default=default, op_id=op_id)
