"""
Which arguments of a body are the keys that it reads one by one, as its last calls have shown.

A body that says ``tx.get(src)`` and then ``tx.get(dst)`` takes a round trip for each. Once it is known that both are among
its arguments, the first of these reads fetches the second as well. A guess changes no outcome: what was fetched and is not
asked for is neither seen nor guarded. A wrong one costs one read, and counts for more than a right one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

_MOST_TRUST: Final = 4
_LEAST_TRUST: Final = -8
# Bodies remembered; with more it starts anew.
_KNOWN: Final = 256
_NOTHING: Final = frozenset[str]()


class Habit(msgspec.Struct, frozen=True):
    """
    The places of the arguments that were keys, by position or name, and how far to rely on it.
    """

    places: tuple[int | str, ...]
    trust: int = 1


class Habits:
    """
    What is known of the bodies of one store object.
    """

    def __init__(self) -> None:
        self._known: dict[str, Habit] = {}

    def expect(self, label: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> frozenset[str]:
        """
        The keys that this call will most likely read.
        """
        habit = self._known.get(label)
        if habit is None or habit.trust <= 0:
            return _NOTHING
        values = [_at(place, args, kwargs) for place in habit.places]
        return frozenset([value for value in values if type(value) is str])

    def learn(
        self,
        label: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        reads: Collection[str],
        *,
        apart: int,
        expected: frozenset[str],
    ) -> None:
        """
        Take in what a call has read, so many of them *apart*, and what had been *expected* of it.
        """
        habit = self._known.get(label)
        trust = habit.trust if habit is not None else 0
        if habit is not None and expected:
            change = 1 if expected.issubset(reads) else -2
            places = habit.places
        elif apart > 1:
            named = [name for name, value in kwargs.items() if type(value) is str and value in reads]
            at = [number for number, value in enumerate(args) if type(value) is str and value in reads]
            change, places = 1, (*at, *named)
        else:
            return
        if len(places) > 1:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[label] = Habit(places, min(max(trust + change, _LEAST_TRUST), _MOST_TRUST))


def _at(place: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if isinstance(place, str):
        return kwargs.get(place)
    return args[place] if place < len(args) else None
