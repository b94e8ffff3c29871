"""
Two reviews of one log become one.
"""

from __future__ import annotations

from toolkit.review.engine import Review


def merge(into: Review, other: Review) -> None:
    """
    Add a finished review of another stretch of the same log, made with the same origin.
    """
    for one, step in ((into, other.axis.step), (other, into.axis.step)):
        while one.axis.step < step:
            one.axis.step *= 2
            one.double()
    for name, columns in into.rates.items():
        columns[:] = [mine + theirs for mine, theirs in zip(columns, other.rates[name], strict=True)]
    for mine, theirs in (
        (into.won_at, other.won_at),
        (into.lost_at, other.lost_at),
        (into.gave_up_at, other.gave_up_at),
    ):
        mine[:] = [one + another for one, another in zip(mine, theirs, strict=True)]
    for column, durations in other.durations.items():
        into.durations[column].merge(durations)
    into.axis.first = min(into.axis.first or other.axis.first, other.axis.first or into.axis.first)
    into.axis.last = max(into.axis.last, other.axis.last)
    into.keys.merge(other.keys)
    into.clocks.merge(other.clocks)
    into.marks.update(other.marks)
    into.totals.merge(other.totals)
    into.waits.merge(other.waits)
    into.names.update(other.names)
    into.wait_s += other.wait_s
    into.total += other.total
    into.intake.merge(other.intake)
    room = into.max_stories - len(into.stories)
    into.stories += other.stories[:room]
    into.untold += other.untold + max(0, len(other.stories) - room)
