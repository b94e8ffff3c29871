"""
Rows read before the update that needs them.

An update writes on condition of the ETag it was built on, so it does not matter when the row was read: a row that is no
longer current costs one refused write. What does matter is that nothing is answered from such a row alone. An update
that writes has proved it current by writing; one that changes nothing, or fails, reads first.
"""

from __future__ import annotations

from typing import Any, Final

from toolkit.core.seen import Seen

# Seconds: the longer ago a row was read, the less can be said of a write that was built on it.
MAX_AGE: Final = 2.0
# Updates of a key that read for themselves after somebody else was found to write it.
PATIENCE: Final = 8
_KEPT: Final = 1024


class Ahead:
    """
    The rows read ahead for one store object, each used once.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Seen, float]] = {}
        self._missed: dict[str, int] = {}

    def put(self, seen: Seen, mono: float) -> None:
        """
        Keep a row that was asked for at *mono*.
        """
        _make_room(self._rows)
        self._rows[seen.key] = (seen, mono)

    def take(self, key: str, mono: float) -> Seen | None:
        """
        The row of a key, if it is not too old to build on.
        """
        found = self._rows.pop(key, None) if self._rows else None
        return found[0] if found is not None and mono - found[1] <= MAX_AGE else None

    def miss(self, key: str) -> None:
        """
        Somebody else has written the key since it was read.
        """
        _make_room(self._missed)
        self._missed[key] = PATIENCE

    def pays(self, key: str) -> bool:
        """
        Whether to read this key ahead: not where others write it all the time.
        """
        left = self._missed.pop(key, 0)
        if left > 1:
            self._missed[key] = left - 1
        return not left


def _make_room(kept: dict[str, Any]) -> None:
    while len(kept) >= _KEPT:
        # Two threads may drop one more than needed, which costs a read.
        kept.pop(next(iter(tuple(kept))), None)
