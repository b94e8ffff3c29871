"""
What the commands answer, as plain data: the JSON of ``--json`` and the rows of the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from toolkit.review.axis import text_of
from toolkit.review.engine import Review
from toolkit.review.reading import Intake
from toolkit.review.tally import KeyTally

Row = dict[str, Any]
ORDERS: Final = ("lost", "losses", "gave_up", "rate")


def number(value: float) -> float:
    """
    Counts as integers, everything else to a microsecond.
    """
    return int(value) if value == int(value) else round(value, 6)


def share(part: float, whole: float) -> float:
    """
    A ratio, 0 of nothing.
    """
    return round(part / whole, 6) if whole else 0.0


def footer(intake: Intake, *, least_sample: float = 1.0, dropped: float = 0) -> Row:
    """
    What was read, and what was not.
    """
    return {
        "files": len(intake.files),
        "bytes": intake.bytes,
        "lines": intake.lines,
        "events": intake.events,
        "kept": intake.kept,
        "torn": intake.torn,
        "foreign": intake.foreign,
        "future": intake.future,
        "oversized": intake.oversized,
        "sample": round(least_sample, 6),
        "dropped": number(dropped),
        "problems": list(intake.problems),
    }


def read_from(review: Review) -> Row:
    """
    The footer of a review.
    """
    totals = review.totals
    read = footer(review.intake, least_sample=totals.least_sample, dropped=totals.exact.get("dropped", 0))
    return read | {
        "clocks": [
            {"ahead": ahead, "behind": behind, "by_s": by_s}
            for ahead, behind, by_s in review.clocks.noticeable()
        ]
    }


def span(review: Review) -> Row:
    """
    When the log begins and ends.
    """
    axis = review.axis
    if axis.origin is None:
        return {"first": None, "last": None, "seconds": 0.0}
    return {
        "first": text_of(axis.first),
        "last": text_of(axis.last),
        "seconds": round(axis.last - axis.first, 3),
    }


def summary(review: Review) -> Row:
    """
    The log in numbers.

    Where lines were sampled, the totals come from the writers' exact summaries (``basis``).
    """
    totals, exact = review.totals, review.totals.exact
    conflicts, gave_up, lost_s = review.conflicts, totals.gave_up, review.lost_s
    operations, total_s = review.committed + gave_up + totals.unknown, review.total
    updates, noop, wait_s, basis = totals.updates, totals.noop, review.wait_s, "lines"
    if totals.least_sample < 1.0 and exact.get("ops"):
        operations, conflicts, gave_up = exact["ops"], exact["conflicts"], exact["gave_up"]
        updates, noop, basis = exact["updates"], exact["noop"], "summaries"
        lost_s, wait_s = exact["lost_s"] or lost_s, exact["wait_s"] or wait_s
        total_s = exact["total_s"]
    durations = review.total_s
    worst = max(review.keys.all(), key=lambda row: (row.lost_s, row.losses), default=None)
    return {
        "events": review.intake.kept,
        "operations": number(operations),
        "committed": number(operations - gave_up - totals.unknown),
        "updates": number(updates),
        "noop": number(noop),
        "conflicts": number(conflicts),
        # Of all attempts: an operation that gave up has lost its last one too.
        "conflict_ratio": share(conflicts, conflicts + operations - gave_up - totals.unknown),
        "gave_up": number(gave_up),
        "outcome_unknown": number(totals.unknown),
        "access_denied": number(totals.denied),
        "warnings": number(totals.warnings),
        "lost_s": round(lost_s, 6),
        "lost_share": share(lost_s, total_s),
        "wait_s": round(wait_s, 6),
        "total_s": {
            name: round(durations.quantile(q), 6) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "keys": len(review.keys.all()) + review.keys.evicted,
        "writers": len(review.writers.union(*(row.writers for row in review.keys.all()))),
        "causes": {name: number(count) for name, count in sorted(totals.causes.items())},
        "reasons": {name: number(count) for name, count in sorted(totals.reasons.items())},
        "paths": {name: number(count) for name, count in sorted(totals.paths.items())},
        "worst_key": worst.key if worst is not None and worst.losses else None,
        "basis": basis,
        "span": span(review),
        "read": read_from(review),
    }


def ranked(rows: list[KeyTally], by: str, limit: int) -> list[KeyTally]:
    """
    The first *limit* tallies by lost time, losses, give-ups or conflict rate; ties by name.
    """
    keys: dict[str, Callable[[KeyTally], float]] = {
        "lost": lambda row: row.lost_s,
        "losses": lambda row: row.losses,
        "gave_up": lambda row: row.gave_up,
        "rate": lambda row: share(row.losses, row.losses + row.wins),
    }
    order = keys[by]
    return sorted(rows, key=lambda row: (-order(row), -row.losses, row.key))[:limit]


def key_row(row: KeyTally, lost_s: float) -> Row:
    """
    One key as a row; *lost_s* is the lost time of all keys.
    """
    rivals = sorted(row.rivals.items(), key=lambda item: (-item[1][0], item[0]))[:3]
    return {
        "key": row.key,
        "store": row.store,
        "lost": number(row.losses),
        "won": number(row.wins),
        "updates": number(row.wins + row.extra),
        "loss_ratio": share(row.losses, row.losses + row.wins),
        "lost_s": round(row.lost_s, 6),
        "share": share(row.lost_s, lost_s),
        "gave_up": number(row.gave_up),
        "unmatched": number(row.unmatched),
        "writers": len(row.writers),
        "window_s": round(row.window_s, 6),
        "rivals": [{"loser": one, "winner": other, "count": number(n)} for (one, other), (n, _) in rivals],
    }


def top(review: Review, *, by: str = "lost", limit: int = 10) -> Row:
    """
    The most contended keys.
    """
    rows = [row for row in review.keys.all() if row.losses or row.gave_up]
    whole = review.lost_s
    rest = review.keys.rest
    return {
        "keys": [key_row(row, whole) for row in ranked(rows, by, limit)],
        "contended": len(rows),
        "all_keys": len(review.keys.all()) + review.keys.evicted,
        "rest": {"keys": review.keys.evicted, "lost": number(rest.losses), "lost_s": round(rest.lost_s, 6)},
        "error": number(review.keys.largest_evicted),
        "read": read_from(review),
    }


def pairs(review: Review, *, limit: int = 100) -> Row:
    """
    Who lost to whom, how often and at what cost.
    """
    rows = sorted(review.pairs.items(), key=lambda item: (-item[1][0], item[0]))
    return {
        "pairs": [
            {"loser": loser, "winner": winner, "count": number(count), "lost_s": round(lost_s, 6)}
            for (loser, winner), (count, lost_s) in rows[:limit]
        ],
        "all_pairs": len(rows),
        "by": review.by,
        "read": read_from(review),
    }
