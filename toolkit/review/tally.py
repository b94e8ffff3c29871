"""
What is counted per key, and the table of keys, which never grows without bound.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

HEAT_COLUMNS: Final = 128
MAX_KEYS: Final = 100_000
_SUMS: Final = ("wins", "extra", "losses", "gave_up", "unmatched", "lost_s", "fn_s")


class KeyTally:
    """
    One key: who won and lost on it, when, and at what cost.

    Attributes:
        extra: Updates that were carried by another's write.
        lost_s: Time from read to write, and ``fn_s`` the user's function in it, summed over lost attempts.
        rivals: (loser, winner) to [losses, lost seconds].
        heat: Losses by column of time.
    """

    __slots__ = (
        "extra", "fn_s", "gave_up", "heat", "key", "losses", "lost_s", "rivals", "store", "unmatched", "wins",
    )  # fmt: skip

    def __init__(self, key: str, store: str) -> None:
        self.key, self.store = key, store
        self.wins: float = 0
        self.extra: float = 0
        self.losses: float = 0
        self.gave_up: float = 0
        self.unmatched: float = 0
        self.lost_s = self.fn_s = 0.0
        self.rivals: dict[tuple[str, str], list[float]] = {}
        self.heat: dict[int, float] = {}

    @property
    def tries(self) -> float:
        """
        Attempts that won and lost.
        """
        return self.wins + self.losses

    @property
    def window_s(self) -> float:
        """
        Mean time from read to write of lost attempts: while it runs, others get in the way.
        """
        return self.lost_s / self.losses if self.losses else 0.0

    @property
    def losers(self) -> dict[str, float]:
        """
        Losses by writer; complete once every loss is matched.
        """
        found: defaultdict[str, float] = defaultdict(int)
        for (loser, _), (count, _) in self.rivals.items():
            found[loser] += count
        return found

    @property
    def writers(self) -> set[str]:
        """
        Who lost here, and to whom.
        """
        return {name for pair in self.rivals for name in pair if not name.startswith("(")}

    def fold(self) -> None:
        """
        Keep the heat at twice the step.
        """
        heat: dict[int, float] = {}
        for column, losses in self.heat.items():
            heat[column // 2] = heat.get(column // 2, 0) + losses
        self.heat = heat

    def merge(self, other: KeyTally) -> None:
        """
        Add what was seen of this key elsewhere.
        """
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for pair, (count, lost_s) in other.rivals.items():
            cell = self.rivals.setdefault(pair, [0, 0.0])
            cell[0] += count
            cell[1] += lost_s
        for column, count in other.heat.items():
            self.heat[column] = self.heat.get(column, 0) + count


class KeyTable:
    """
    Tallies by (store, key), at most ``limit`` of them; the least contended make room and are counted as a rest.

    Attributes:
        rows: By key, of the store it was first seen in; ``several`` has the same key in other stores.
        won: Commits of lines that count once, by store and key, not yet in the rows; ``settle`` puts them there.
        rest: What was dropped, in sum; who lost to whom is kept.
        largest_evicted: No dropped key had more losses than this, which bounds the error of every row.
    """

    def __init__(self, limit: int = MAX_KEYS) -> None:
        self.rows: dict[str, KeyTally] = {}
        self.several: dict[tuple[str, str], KeyTally] = {}
        self.won: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.limit = limit
        self.rest = KeyTally("", "")
        self.evicted = 0
        self.largest_evicted: float = 0

    def add(self, key: str, store: str) -> KeyTally:
        """
        The tally of a key, made on first sight.
        """
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= self.limit:
                self._make_room()
            row = self.rows[key] = KeyTally(key, store)
        elif row.store != store:
            other = self.several.get((store, key))
            if other is None:
                other = self.several[store, key] = KeyTally(key, store)
            return other
        return row

    def won_by(self, store: str, keys: Iterable[str], weight: float) -> None:
        """
        Count a commit on each of *keys*.
        """
        if weight == 1:
            won = self.won[store]
            won.update(keys)
            if len(won) > self.limit:
                self.settle()
        else:
            for key in keys:
                self.add(key, store).wins += weight

    def settle(self) -> None:
        """
        Put the commits counted apart into the rows.
        """
        for store, won in self.won.items():
            for key, count in won.items():
                self.add(key, store).wins += count
        self.won.clear()

    def all(self) -> list[KeyTally]:
        """
        Every tally that is kept.
        """
        if self.won:
            self.settle()
        return [*self.rows.values(), *self.several.values()]

    def fold(self) -> None:
        """
        Keep the heat of all keys at twice the step.
        """
        for row in self.all():
            if row.heat:
                row.fold()

    def _make_room(self) -> None:
        ranked = sorted(self.rows.values(), key=lambda row: (row.losses, row.gave_up, row.wins))
        for row in ranked[: self.limit // 2]:
            del self.rows[row.key]
            row.heat = {}
            self.rest.merge(row)
            self.largest_evicted = max(self.largest_evicted, row.losses)
            self.evicted += 1

    def merge(self, other: KeyTable) -> None:
        """
        Add another worker's table.
        """
        for row in other.all():
            self.add(row.key, row.store).merge(row)
        self.rest.merge(other.rest)
        self.evicted += other.evicted
        self.largest_evicted += other.largest_evicted
