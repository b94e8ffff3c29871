"""
What the report's charts are drawn from.
"""

from __future__ import annotations

import json
from typing import Any, Final

from toolkit.review import series
from toolkit.review.engine import Review
from toolkit.review.text import clean

MATRIX: Final = 12
HEAT_ROWS: Final = 40
HEAT_COLUMNS: Final = 64
OTHERS: Final = "all others"


def charts(review: Review, *, max_rows: int) -> dict[str, Any]:
    """
    Rates, the heat of keys, latency: all the scripts need.
    """
    heat = series.heat(review, rows=min(max_rows, HEAT_ROWS), columns=HEAT_COLUMNS)
    for row in heat["rows"]:
        row["key"] = clean(row["key"])
    del heat["read"]
    return {
        "rates": series.over_time(review),
        "heat": heat,
        "latency": series.latency(review, columns=HEAT_COLUMNS) | {"start": review.axis.start_of(0)},
    }


def as_script(data: dict[str, Any]) -> str:
    """
    JSON that cannot end its script element, whatever the keys contain.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def matrix(review: Review) -> tuple[list[str], list[str], dict[tuple[str, str], tuple[float, float]]]:
    """
    Losers, winners and (count, lost seconds) of each pair; beyond the busiest, writers are counted together.
    """
    lost: dict[str, float] = {}
    won: dict[str, float] = {}
    for (loser, winner), (count, _) in review.pairs.items():
        lost[loser] = lost.get(loser, 0) + count
        won[winner] = won.get(winner, 0) + count
    losers, winners = _busiest(lost), _busiest(won)
    cells: dict[tuple[str, str], tuple[float, float]] = {}
    for (loser, winner), (count, seconds) in review.pairs.items():
        at = (loser if loser in losers else OTHERS, winner if winner in winners else OTHERS)
        before = cells.get(at, (0, 0.0))
        cells[at] = (before[0] + count, before[1] + seconds)
    return losers, winners, cells


def _busiest(counts: dict[str, float]) -> list[str]:
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    named = sorted(ranked[:MATRIX], key=lambda name: (name.startswith("("), name))
    return [*named, OTHERS] if len(ranked) > MATRIX else named
