"""
A time axis of fixed size: it starts fine and doubles its step as the log gets longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

COLUMNS: Final = 512
FINEST: Final = 0.1
# No log has times outside these: a damaged line must not stretch the axis over centuries.
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


def seconds_of(timestamp: str) -> float | None:
    """
    Unix time of an ISO 8601 text, taken as UTC when it names no zone; None when it is not one.
    """
    try:
        when = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return when.timestamp()


def text_of(seconds: float) -> str:
    """
    ISO 8601 in UTC with milliseconds.
    """
    seconds = min(max(EARLIEST, seconds), LATEST)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Axis:
    """
    Maps timestamps to columns.

    Attributes:
        on_double: Called when the step doubles: whoever holds columns adds each odd one to its even neighbour.
    """

    def __init__(self, origin: float | None = None) -> None:
        self.origin = origin
        self.step = FINEST
        self.first = self.last = 0.0
        self.on_double: list[Callable[[], None]] = []
        # The text up to a tenth of a second, and its column: most lines share it with the line before.
        self.prefix = ""
        self.column = 0

    def locate(self, timestamp: str) -> int:
        """
        The column of a moment; a moment before the origin falls into the first.
        """
        seconds = seconds_of(timestamp)
        if seconds is None or not EARLIEST <= seconds <= LATEST:
            return self.column
        if self.origin is None:
            self.origin = seconds // 1
        if not self.first or seconds < self.first:
            self.first = seconds
        self.last = max(self.last, seconds)
        column = max(0, int((seconds - self.origin) / self.step + 1e-6))
        while column >= COLUMNS:
            self.step *= 2
            for double in self.on_double:
                double()
            column = max(0, int((seconds - self.origin) / self.step + 1e-6))
        if timestamp.endswith("Z"):
            self.prefix, self.column = timestamp[:21], column
        return column

    def columns(self, timestamps: Sequence[str]) -> int | list[int]:
        """
        The columns of moments, in their order; one number where it is the same for all.
        """
        # Texts compare as times where all are UTC: each ends with Z, and no other zone has one.
        if "\n".join(timestamps).count("Z\n") == len(timestamps) - 1 and timestamps[-1].endswith("Z"):
            ordered = sorted(timestamps)
            low, high = ordered[0], ordered[-1]
        else:
            low = high = ""
        if low > "2000" and high < "2100":
            # The first sets the origin, the last the step.
            self.locate(low)
            last = self.locate(high)
            if self.locate(low) == last:
                return last
        step = self.step
        found = [self._column(timestamp) for timestamp in timestamps]
        return found if self.step == step else [self._column(timestamp) for timestamp in timestamps]

    def _column(self, timestamp: str) -> int:
        return self.column if timestamp[:21] == self.prefix else self.locate(timestamp)

    def start_of(self, column: int) -> float:
        """
        Unix time at which a column begins.
        """
        return (self.origin or 0.0) + column * self.step

    @property
    def used(self) -> int:
        """
        How many columns the log spans.
        """
        if self.origin is None:
            return 0
        return max(1, min(COLUMNS, int((self.last - self.origin) / self.step + 1e-6) + 1))


def folded(columns: list[float]) -> list[float]:
    """
    The same sums at twice the step.
    """
    half = [columns[i] + columns[i + 1] for i in range(0, len(columns), 2)]
    return half + [0] * (len(columns) - len(half))
