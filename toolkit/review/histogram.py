"""
Quantiles in bounded memory: logarithmic buckets one percent wide, which can be added up.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

# Buckets per e-fold; the middle of a bucket is at most 1 % off.
RESOLUTION: Final = 50.0
SMALLEST: Final = 1e-6
LONGEST: Final = 6e5
HIGHEST: Final = int(math.log(LONGEST * 1e6) * RESOLUTION)


def bucket_of(seconds: float) -> int:
    """
    The bucket of a duration; everything up to a microsecond shares the lowest, everything from a week on the highest.
    """
    return (
        int(math.log(seconds * 1e6) * RESOLUTION)
        if SMALLEST < seconds < LONGEST
        else 0
        if seconds < LONGEST
        else HIGHEST
    )


def middle_of(bucket: int) -> float:
    """
    The duration in the middle of a bucket.
    """
    return math.exp((bucket + 0.5) / RESOLUTION) * 1e-6


class Histogram:
    """
    Weighted counts by bucket.
    """

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets: defaultdict[int, float] = defaultdict(int)

    def add(self, seconds: float, weight: float = 1) -> None:
        """
        Count one duration.
        """
        self.buckets[bucket_of(seconds)] += weight

    def merge(self, other: Histogram) -> None:
        """
        Add another histogram.
        """
        for bucket, count in other.buckets.items():
            self.buckets[bucket] += count

    def count(self) -> float:
        """
        How much was counted.
        """
        return sum(self.buckets.values())

    def quantile(self, share: float) -> float:
        """
        The duration below which *share* of the counts lie; 0 when there are none.
        """
        total = self.count()
        if not total:
            return 0.0
        wanted, seen = share * total, 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return middle_of(bucket)
        return middle_of(max(self.buckets))
