"""
How long to try and how long to wait: arithmetic only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# Backoff trades writes for tail latency and never buys throughput: beyond about eight round trips it only adds waiting.
CAP_ROUND_TRIPS: Final = 8.0
FLOOR: Final = 0.0005
# Round trips for which a winner gives way: a rival that waits needs two, for its read and its write. Measured with 4
# processes of 16 tasks on PostgreSQL and SQLite: 0 to 4 is less even, more costs updates.
GIVE_WAY_LEAST: Final = 2.0
GIVE_WAY_MOST: Final = 6.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    When to give up and how to wait between attempts.

    The first retry after a conflict comes at once; from the second loss on the wait is drawn evenly from zero to a cap
    that doubles (full jitter). Where ``initial`` and ``maximum`` are not given they follow the measured round trip.
    Whoever wins a conflict gives way before its next write of that key, for two to six round trips and never longer
    than ``maximum``.

    Attributes:
        attempts: The most attempts, the first included; ``None`` for no limit but the deadline.
        deadline: Seconds the whole call may take; it flows into every RPC.
        initial: Seconds of the first cap; ``None`` for one measured round trip.
        maximum: Seconds of the highest cap; ``None`` for eight measured round trips.

    >>> RetryPolicy(attempts=3).allows(3)
    False
    """

    attempts: int | None = None
    deadline: float = 10.0
    initial: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.attempts is not None and (type(self.attempts) is not int or self.attempts < 1):
            raise ValueError(f"RetryPolicy(attempts={self.attempts!r}): a whole number from 1, or None")
        if not _positive(self.deadline):
            raise ValueError(f"RetryPolicy(deadline={self.deadline!r}): a number of seconds above 0")
        for name, value in (("initial", self.initial), ("maximum", self.maximum)):
            if value is not None and not (_positive(value) or value == 0):
                raise ValueError(f"RetryPolicy({name}={value!r}): a number of seconds from 0, or None")

    def allows(self, attempts: int) -> bool:
        """
        Whether another attempt may follow after so many.
        """
        return self.attempts is None or attempts < self.attempts

    def wait(self, losses: int, round_trip: float, chance: float) -> float:
        """
        Seconds to wait after so many losses in a row; ``chance`` is drawn from [0, 1).
        """
        if losses < 2:
            return 0.0
        unit = max(round_trip, FLOOR)
        first = self.initial if self.initial is not None else unit
        cap = self.maximum if self.maximum is not None else unit * CAP_ROUND_TRIPS
        return chance * min(cap, first * 2.0 ** min(losses - 2, 30))

    def give_way(self, round_trip: float, chance: float) -> float:
        """
        Seconds for which a winner leaves the key to the rivals it met; ``chance`` is drawn from [0, 1).
        """
        unit = max(round_trip, FLOOR)
        cap = self.maximum if self.maximum is not None else unit * CAP_ROUND_TRIPS
        return min(cap, unit * (GIVE_WAY_LEAST + (GIVE_WAY_MOST - GIVE_WAY_LEAST) * chance))


def _positive(value: float) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    )
