"""
What is counted per key and in all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

HEAT_COLUMNS: Final = 128
MAX_KEYS: Final = 100_000


class KeyTally:
    """
    One key: who won and lost on it, when, and at what cost.
    """

    __slots__ = (
        "combined",
        "cost_n",
        "cost_s",
        "fn_s",
        "gave_up",
        "heat",
        "key",
        "losers",
        "losses",
        "lost_s",
        "op",
        "rivals",
        "store",
        "template",
        "unmatched",
        "wait_s",
        "winners",
        "wins",
    )  # fmt: skip

    def __init__(self, key: str, store: str, template: str) -> None:
        self.key, self.store, self.template = key, store, template
        self.op = ""
        self.wins: float = 0
        self.combined: float = 0
        self.losses: float = 0
        self.gave_up: float = 0
        self.unmatched: float = 0
        self.lost_s = self.wait_s = 0.0
        # The time from read to write, of attempts that won and lost: the window in which others get in the way.
        self.cost_s = self.fn_s = 0.0
        self.cost_n: float = 0
        self.losers: defaultdict[str, float] = defaultdict(int)
        self.winners: defaultdict[str, float] = defaultdict(int)
        # (loser, winner) -> losses, of the losses whose winner is known.
        self.rivals: defaultdict[tuple[str, str], float] = defaultdict(int)
        self.heat: defaultdict[int, float] = defaultdict(int)

    def fold(self) -> None:
        """
        Keep the heat at twice the step.
        """
        heat: defaultdict[int, float] = defaultdict(int)
        for column, losses in self.heat.items():
            heat[column // 2] += losses
        self.heat = heat

    def merge(self, other: KeyTally) -> None:
        """
        Add what another worker saw of this key.
        """
        for name in (
            "wins",
            "combined",
            "losses",
            "gave_up",
            "unmatched",
            "lost_s",
            "wait_s",
            "cost_s",
            "fn_s",
            "cost_n",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.losers, other.losers), (self.winners, other.winners)):
            for writer, count in theirs.items():
                mine[writer] += count
        for pair, count in other.rivals.items():
            self.rivals[pair] += count
        for column, count in other.heat.items():
            self.heat[column] += count
        self.op = self.op or other.op

    @property
    def window_s(self) -> float:
        """
        Mean time from read to write.
        """
        return self.cost_s / self.cost_n if self.cost_n else 0.0


class KeyTable:
    """
    Tallies by (store, key), at most ``limit`` of them; the least contended make room and are counted as a rest.
    """

    def __init__(self, limit: int = MAX_KEYS, make: Callable[[str, str, str], KeyTally] = KeyTally) -> None:
        self.rows: dict[str, KeyTally] = {}
        self.limit, self._make = limit, make
        self.rest = KeyTally("", "", "")
        self.evicted = 0
        # No key that was dropped had lost more than this: the error bound of every row.
        self.largest_evicted: float = 0
        # Stores by key, to tell keys of two stores apart only where two stores share one.
        self.several: dict[tuple[str, str], KeyTally] = {}

    def add(self, key: str, store: str, template: str) -> KeyTally:
        """
        The tally of a key, made on first sight.
        """
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= self.limit:
                self._make_room()
            row = self.rows[key] = self._make(key, store, template)
        elif row.store != store:
            other = self.several.get((store, key))
            if other is None:
                other = self.several[store, key] = self._make(key, store, template)
            return other
        return row

    def all(self) -> list[KeyTally]:
        """
        Every tally that is kept.
        """
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
            row.heat.clear()
            row.rivals.clear()
            row.losers.clear()
            row.winners.clear()
            self.rest.merge(row)
            self.largest_evicted = max(self.largest_evicted, row.losses)
            self.evicted += 1

    def merge(self, other: KeyTable) -> None:
        """
        Add another worker's table.
        """
        for row in other.all():
            self.add(row.key, row.store, row.template).merge(row)
        self.rest.merge(other.rest)
        self.evicted += other.evicted
        self.largest_evicted += other.largest_evicted
