"""
Two runs side by side: each figure with its change and a 95 % interval.

Losses come in bursts, so a run is cut into slices of time and the interval is that of the slices' means, not of a
Poisson count, which would call every burst a change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from toolkit.review.answers import Row, number, read_from, share, summary
from toolkit.review.engine import Review
from toolkit.review.tally import KeyTally

SLICES: Final = 20
# Student's t, two-sided 95 %, by degrees of freedom; beyond the table the normal value is close enough.
_T: Final = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 15: 2.13, 20: 2.09, 30: 2.04, 40: 2.02}  # fmt: skip


def student(freedom: float) -> float:
    """
    The two-sided 95 % quantile of Student's t.
    """
    return next((value for most, value in _T.items() if freedom <= most), 1.98)


def slices(columns: Sequence[float], used: int) -> list[float]:
    """
    The sums of a run cut into at most ``SLICES`` pieces, as equal in length as its columns allow.
    """
    pieces = min(SLICES, used)
    edges = [used * n // pieces for n in range(pieces + 1)] if pieces else []
    return [sum(columns[begin:end]) for begin, end in pairwise(edges)]


def linear(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """
    Values whose mean is the quotient of the sums, and whose spread is that of the quotient from slice to slice.
    """
    whole = sum(under)
    if not whole:
        return []
    quotient = sum(over) / whole
    return [
        quotient + (one - quotient * other) * len(under) / whole
        for one, other in zip(over, under, strict=True)
    ]


def mean_and_error(parts: list[float]) -> tuple[float, float]:
    """
    Mean and its squared standard error.
    """
    if not parts:
        return 0.0, 0.0
    mean = sum(parts) / len(parts)
    if len(parts) < 2:
        return mean, math.inf
    return mean, sum((part - mean) ** 2 for part in parts) / (len(parts) - 1) / len(parts)


def _ratio_parts(review: Review) -> list[float]:
    used = review.axis.used
    lost = slices(review.rates["conflicts"], used)
    won = slices(review.rates["commits"], used)
    return linear(lost, [one + other for one, other in zip(lost, won, strict=True)])


def _per_second(review: Review, name: str) -> list[float]:
    used, step = review.axis.used, review.axis.step
    return linear(slices(review.rates[name], used), slices([step] * used, used))


def compare(one: list[float], other: list[float]) -> Row:
    """
    The change of a mean with its interval (Welch); ``clear`` when the interval leaves out zero.
    """
    (before, error_before), (after, error_after) = mean_and_error(one), mean_and_error(other)
    error = error_before + error_after
    change = after - before
    if not math.isfinite(error):
        return {"before": before, "after": after, "change": change, "low": None, "high": None, "clear": False}
    parts = sum(e * e / max(1, len(s) - 1) for e, s in ((error_before, one), (error_after, other)))
    freedom = error * error / parts if parts else float(len(one) + len(other) - 2)
    half = student(freedom) * math.sqrt(error)
    return {
        "before": round(before, 6),
        "after": round(after, 6),
        "change": round(change, 6),
        "low": round(change - half, 6),
        "high": round(change + half, 6),
        "clear": bool(abs(change) > half),
    }


def _key_changes(before: Review, after: Review, limit: int) -> list[Row]:
    rows: list[Row] = []
    old = {(row.store, row.key): row for row in before.keys.all()}
    new = {(row.store, row.key): row for row in after.keys.all()}
    for name in old.keys() | new.keys():
        one, other = old.get(name), new.get(name)
        lost = (one.losses if one else 0, other.losses if other else 0)
        if not any(lost):
            continue
        rows.append(_key_change(name[1], one, other))
    rows.sort(key=lambda row: (-abs(row["after_lost_s"] - row["before_lost_s"]), row["key"]))
    return rows[:limit]


def _key_change(key: str, one: KeyTally | None, other: KeyTally | None) -> Row:
    before = share(one.losses, one.losses + one.wins) if one else 0.0
    after = share(other.losses, other.losses + other.wins) if other else 0.0
    tries = [row.losses + row.wins if row else 0 for row in (one, other)]
    error = sum(r * (1 - r) / n for r, n in zip((before, after), tries, strict=True) if n)
    if one is None or not one.losses:
        verdict = "new"
    elif other is None or not other.losses:
        verdict = "gone"
    elif abs(after - before) <= 1.96 * math.sqrt(error):
        verdict = "same"
    else:
        verdict = "worse" if after > before else "better"
    return {
        "key": key,
        "verdict": verdict,
        "before_lost": number(one.losses if one else 0),
        "after_lost": number(other.losses if other else 0),
        "before_ratio": before,
        "after_ratio": after,
        "before_lost_s": round(one.lost_s if one else 0.0, 6),
        "after_lost_s": round(other.lost_s if other else 0.0, 6),
    }


def diff(before: Review, after: Review, *, limit: int = 20) -> Row:
    """
    What changed from one run to the other.
    """
    figures: list[dict[str, Any]] = [
        {"figure": "conflict_ratio", **compare(_ratio_parts(before), _ratio_parts(after))}
    ]
    for figure, name in (
        ("conflicts_per_s", "conflicts"), ("commits_per_s", "commits"), ("gave_up_per_s", "gave_up"), ("lost_per_s", "lost_s"),
    ):  # fmt: skip
        figures.append({"figure": figure, **compare(_per_second(before, name), _per_second(after, name))})
    return {
        "figures": figures,
        "keys": _key_changes(before, after, limit),
        "before": summary(before),
        "after": summary(after),
        "read": {"before": read_from(before), "after": read_from(after)},
    }
