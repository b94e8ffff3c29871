"""
Quantiles in bounded memory: buckets at most 1.6 % wide, which can be added up.

A bucket is the exponent of a duration and the first six bits of its fraction, taken from the bits of the number: that is
several times as fast as a logarithm.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

# Buckets per doubling; the middle of a bucket is at most 0.8 % off.
RESOLUTION: Final = 64
SMALLEST: Final = 1e-6
LONGEST: Final = 6e5
_BIAS: Final = 1022
# The upper half of a number's eight bytes, less the bits of its fraction that do not matter.
_UPPER: Final = slice(1, None, 2) if sys.byteorder == "little" else slice(0, None, 2)
_REST: Final = 14


def _bucket(seconds: float) -> int:
    fraction, exponent = math.frexp(seconds)
    return (exponent + _BIAS) * RESOLUTION + int((2 * fraction - 1) * RESOLUTION)


LOWEST: Final = _bucket(SMALLEST)
HIGHEST: Final = _bucket(LONGEST)


def bucket_of(seconds: float) -> int:
    """
    The bucket of a duration; everything up to a microsecond shares the lowest, everything from a week on the highest.
    """
    return min(max(LOWEST, _bucket(seconds)), HIGHEST) if seconds > 0 else LOWEST


def start_of(bucket: int) -> float:
    """
    The shortest duration of a bucket.
    """
    doublings, part = divmod(bucket, RESOLUTION)
    return math.ldexp(1 + part / RESOLUTION, doublings - _BIAS - 1)


def middle_of(bucket: int) -> float:
    """
    The duration in the middle of a bucket.
    """
    return (start_of(bucket) + start_of(bucket + 1)) / 2


class Histogram:
    """
    Weighted counts by bucket.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        # Of any numbers: those that are no duration worth the name are put into the outer buckets when asked.
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float, weight: float = 1) -> None:
        """
        Count one duration.
        """
        counts: Any = self._counts
        counts[bucket_of(seconds)] += weight

    def add_all(self, seconds: Sequence[float], weight: float = 1) -> None:
        """
        Count many.
        """
        upper = memoryview(array("d", seconds)).cast("B").cast("I")[_UPPER].tolist()
        found = [bits >> _REST for bits in upper]
        if weight == 1:
            self._counts.update(found)
        else:
            counts: Any = self._counts
            for bucket, count in Counter(found).items():
                counts[bucket] += count * weight

    def items(self) -> Iterator[tuple[int, float]]:
        """
        Buckets with their counts; a bucket may come twice.
        """
        for bucket, count in self._counts.items():
            # The sign is the highest bit: a negative number looks like a very large one.
            negative = bucket >> (31 - _REST)
            yield LOWEST if negative else min(max(LOWEST, bucket), HIGHEST), count

    def merge(self, other: Histogram) -> None:
        """
        Add another histogram.
        """
        self._counts.update(other._counts)

    def count(self) -> float:
        """
        How much was counted.
        """
        return sum(self._counts.values())

    def quantile(self, share: float) -> float:
        """
        The duration below which *share* of the counts lie; 0 when there are none.
        """
        total = self.count()
        if not total:
            return 0.0
        wanted, seen, rows = share * total, 0.0, sorted(self.items())
        for bucket, count in rows:
            seen += count
            if seen >= wanted:
                return middle_of(bucket)
        return middle_of(rows[-1][0])
