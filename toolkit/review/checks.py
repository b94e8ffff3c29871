"""
``check``: rules a run must keep, for CI.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from toolkit.review.answers import Row, footer, number, share
from toolkit.review.quick import RateCounter
from toolkit.review.reading import InputError

RULES: Final = {
    "max-conflict-ratio": "lost attempts of all attempts",
    "max-gave-up": "operations that gave up",
    "max-lost": "lost time of all operation time",
    "max-conflicts": "lost attempts",
    "min-operations": "operations ended",
}


def limit(text: str, rule: str = "") -> float:
    """
    Read ``5``, ``0.01`` or ``1%``.

    Raises:
        InputError: It is no number, or a share above 1.
    """
    try:
        found = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InputError(f"{text!r} is no limit: write a number such as 5, or a share such as 1%")
    if rule == "max-conflict-ratio" and found > 1:
        raise InputError(f"--{rule} {text!r}: a share is at most 1; write {text}% for a percentage")
    return found


def check(counter: RateCounter, limits: Mapping[str, float]) -> Row:
    """
    Hold the counts against the limits; a log without events passes no rule.
    """
    conflicts, commits, gave_up, lost_s = counter.sums()
    operations = commits + gave_up
    values = {
        "max-conflict-ratio": share(conflicts, conflicts + commits),
        "max-gave-up": gave_up,
        "max-lost": share(lost_s, counter.total_s),
        "max-conflicts": conflicts,
        "min-operations": operations,
    }
    rows: list[Row] = []
    for rule, bound in limits.items():
        value = values[rule]
        passed = value >= bound if rule.startswith("min-") else value <= bound
        rows.append(
            {
                "rule": rule,
                "meaning": RULES[rule],
                "value": number(value),
                "limit": bound,
                "passed": passed and bool(counter.intake.kept),
            }
        )
    return {
        "passed": all(row["passed"] for row in rows),
        "rules": rows,
        "events": counter.intake.kept,
        "read": footer(counter.intake, least_sample=counter.least_sample),
    }
