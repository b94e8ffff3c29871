"""
Which races are kept: a loser and its winner are kept together, in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

# Lines per second of one process up to which a rate is used.
_STEPS: Final = ((200, 1.0), (400, 0.5), (2000, 0.1))
_LEAST: Final = 0.01
_SPAN: Final = float(1 << 64)


class Sampler:
    """
    Decides by the hash of a race, so that all processes agree; a lower rate keeps a subset of a higher one.
    """

    def __init__(self, sample: float | Literal["auto"], clock: Callable[[], float]) -> None:
        self._auto = sample == "auto"
        self._rate = 1.0 if sample == "auto" else sample
        self._clock = clock
        self._window: int = int(clock())
        self._lines = 0

    def weigh(self, races: Sequence[str]) -> float:
        """
        The probability with which a line of these races is kept, or 0 when this one is not.
        """
        if self._auto:
            self._adapt()
        rate = self._rate
        if rate >= 1.0 or not races:
            return 1.0
        if all(int(race, 16) / _SPAN >= rate for race in races):
            return 0.0
        return rate if len(races) == 1 else 1.0 - (1.0 - rate) ** len(races)

    def _adapt(self) -> None:
        second = int(self._clock())
        if second == self._window:
            self._lines += 1
            return
        # Threads may race here; the worst is one second at the neighbouring rate.
        lines = self._lines if second == self._window + 1 else 0
        self._window, self._lines = second, 1
        self._rate = next((rate for most, rate in _STEPS if lines <= most), _LEAST)
