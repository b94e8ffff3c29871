"""
The stored value of a fenced actor: its own members, and the mark that says whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias, cast

from toolkit import DELETE, UNCHANGED, CorruptValueError
from toolkit.core.model import Marker

State: TypeAlias = dict[str, Any]
# The member of the stored object that says whose it is; outside writers carry it over.
MARK: Final = "_actor"
# Firings remembered for each reminder: a late redelivery of an earlier one is still recognised.
REMEMBERED: Final = 32


class Change(Protocol):
    """
    From a state to the next one, or ``UNCHANGED``, or ``DELETE`` for an empty one.
    """

    def __call__(self, state: State, /) -> State | Literal[Marker.UNCHANGED, Marker.DELETE]: ...


@dataclass(frozen=True, slots=True)
class Once:
    """
    One firing of a reminder; see ``FencedActor.once``.
    """

    reminder: str
    due: str

    def done_in(self, mark: State) -> bool:
        """
        Whether the mark of the state says that this firing was handled.
        """
        return self.due in self._dues(mark)

    def noted_in(self, mark: State) -> State:
        """
        The firings handled, with this one.
        """
        dues = [*self._dues(mark), self.due]
        return {**as_object(mark.get("done")), self.reminder: dues[-REMEMBERED:]}

    def _dues(self, mark: State) -> list[str]:
        dues: list[str] = as_object(mark.get("done")).get(self.reminder, [])
        return dues


@dataclass(frozen=True, slots=True)
class Claim:
    """
    The signature of one activation: ``by`` makes it unique even when the number repeats.
    """

    epoch: int
    by: str

    @classmethod
    def of(cls, value: Any) -> Claim:
        """
        Who signed this stored value; epoch 0 when nobody did.
        """
        signed = as_object(as_object(value).get(MARK))
        return cls(int(signed.get("epoch", 0)), str(signed.get("by", "")))


def claimed(value: Any, by: str, initial: Mapping[str, Any], key: str) -> State:
    """
    The stored value signed by a new activation, with the next epoch.

    ``initial`` fills in what is missing where no activation has signed before.
    """
    if not isinstance(value, dict):
        raise CorruptValueError(
            f"key {key!r}: the state of an actor is a JSON object and the store holds {type(value).__name__}; nothing "
            f"was written: replace or delete the value of this key",
            key=key,
        )
    known = cast("State", value)
    if not isinstance(known.get(MARK), dict):
        known = {**deepcopy(dict(initial)), **known}
    mark = {**as_object(known.get(MARK)), "epoch": Claim.of(known).epoch + 1, "by": by}
    return {**known, MARK: mark}


def state_from(changed: Any, before: State, key: str) -> State:
    """
    The state that was given for the next one, checked.
    """
    if changed is UNCHANGED:
        return without_mark(before)
    if changed is DELETE:
        return {}
    if not isinstance(changed, dict):
        raise TypeError(
            f"key {key!r}: the state of an actor is a JSON object, not {type(changed).__name__}: return the new state, "
            f"UNCHANGED or DELETE"
        )
    return cast("State", changed)


def without_mark(value: State) -> State:
    """
    The actor's own members.
    """
    return {name: member for name, member in value.items() if name != MARK}


def as_object(value: Any) -> State:
    """
    The value if it is a JSON object, else an empty one.
    """
    return cast("State", value) if isinstance(value, dict) else {}
