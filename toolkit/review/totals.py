"""
Sums over a whole log.
"""

from __future__ import annotations

from typing import cast


class Totals:
    """
    Sums over the whole log that no other table holds.
    """

    def __init__(self) -> None:
        self.updates: float = 0
        self.noop: float = 0
        self.gave_up: float = 0
        self.unknown: float = 0
        self.denied: float = 0
        self.warnings: float = 0
        self.least_sample = 1.0
        self.maybe_self: float = 0
        self.foreign: float = 0
        self.causes: dict[str, float] = {}
        self.reasons: dict[str, float] = {}
        self.paths: dict[str, float] = {}
        # The same, exact, from the summaries of the writers; empty where they wrote none.
        self.exact: dict[str, float] = {}

    def count_cause(self, cause: str, weight: float) -> None:
        """
        Count a loss that has not the usual cause.
        """
        self.causes[cause] = self.causes.get(cause, 0) + weight

    def merge(self, other: Totals) -> None:
        """
        Add another worker's sums.
        """
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, dict):
                for key, count in cast("dict[str, float]", value).items():
                    mine[key] = mine.get(key, 0) + count
            elif name == "least_sample":
                self.least_sample = min(mine, value)
            else:
                setattr(self, name, mine + value)
