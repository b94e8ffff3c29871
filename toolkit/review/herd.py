"""
Losses that come in step with the clock: jobs that all start at the full minute, or at the full second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from toolkit.review.engine import Review
from toolkit.review.finding import LEAST_LOSSES, Advice, confidence, percent

# How many times its even share a moment must have, and for how many rounds of the clock.
_PEAK: Final = 5
_ROUNDS: Final = 3


def _burst(review: Review, period: float) -> bool:
    """
    Whether most losses came in one round of the clock: that is one burst, not a schedule.
    """
    width = max(1, round(period / review.axis.step))
    columns = review.conflicts_in
    rounds = [sum(columns[at : at + width]) for at in range(0, len(columns), width)]
    return max(rounds) > 0.5 * sum(rounds)


def herd(review: Review) -> Iterator[Advice]:
    """
    One second of the minute, or one tenth of the second, has most of the losses.
    """
    losses, seconds = review.conflicts, review.axis.last - review.axis.first
    if losses < LEAST_LOSSES:
        return
    in_minute: Counter[str] = Counter()
    in_second: Counter[str] = Counter()
    for mark, count in review.marks.items():
        in_minute[mark[:2]] += count
        in_second[mark[3:]] += count
    for marks, parts, period, name in (
        (in_minute, 60, 60.0, "second {} of the minute"),
        (in_second, 10, 1.0, "tenth {} of the second"),
    ):
        if not marks or seconds < _ROUNDS * period or _burst(review, period):
            continue
        mark, count = max(marks.items(), key=lambda item: item[1])
        seen = sum(marks.values())
        # Of ten parts none can have more than ten times its share: half of all is a peak there.
        if count / seen <= min(_PEAK / parts, 0.5):
            continue
        yield Advice(
            "herd",
            "Do not let everybody start at the same moment",
            f"{percent(count, seen)} of the losses fall into {name.format(mark.lstrip('0') or '0')}, which has "
            f"{percent(1, parts)} of the time.",
            "Spread the schedules: give each job its own offset, or wait a random time before it begins.",
            tuple(
                row.key for row in sorted(review.keys.all(), key=lambda row: -row.lost_s)[:3] if row.losses
            ),
            0.3 * review.lost_s * count / seen,
            confidence(count),
        )
        return
