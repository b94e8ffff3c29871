"""
A change of an actor's state as a change of the value that is stored.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Literal

from toolkit import UNCHANGED
from toolkit.core.model import Marker
from workflows.actors.state import MARK, Change, Once, State, state_from, without_mark

if TYPE_CHECKING:
    from workflows.actors.fenced import FencedActor


class Step:
    """
    A change of the state as a change of the stored value: checked, signed, once.
    """

    def __init__(self, actor: FencedActor, change: Change, once: Once | None) -> None:
        self.actor, self.change, self.once = actor, change, once
        # The log and the operation id name the user's function.
        self.__qualname__ = getattr(change, "__qualname__", type(change).__qualname__)

    def __call__(self, value: State) -> State | Literal[Marker.UNCHANGED]:
        claim = self.actor.check(value)
        mark: State = dict(value[MARK])
        if self.once is not None and self.once.done_in(mark):
            return UNCHANGED
        given = without_mark(value)
        # Firing a reminder is noted even where the change says UNCHANGED, whatever it did to what it was given.
        changed = self.change(given if self.once is None else deepcopy(given))
        if changed is UNCHANGED and self.once is None:
            return UNCHANGED
        if self.once is not None:
            mark["done"] = self.once.noted_in(mark)
        mark.update(epoch=claim.epoch, by=claim.by)
        return {**state_from(changed, value, self.actor.state_key), MARK: mark}
