"""
Answers with an axis: attempts, heat, give-ups, rates and latency over time.
"""

from __future__ import annotations

from typing import Any, Final

from toolkit.review.answers import Row, number, ranked, read_from, share
from toolkit.review.axis import text_of
from toolkit.review.bulk import HEAT_STEP, MAX_ATTEMPT
from toolkit.review.engine import Review
from toolkit.review.histogram import start_of
from toolkit.review.records import GaveUp, Lost

# Buckets of duration that share a row of the grid.
BAND: Final = 48


def curve(review: Review) -> list[tuple[int, float, float]]:
    """
    For each attempt number: how many committed at it and how many lost it.
    """
    last = max((k for k in range(1, MAX_ATTEMPT + 1) if review.won_at[k] or review.lost_at[k]), default=0)
    return [(k, review.won_at[k], review.lost_at[k]) for k in range(1, last + 1)]


def predicted(review: Review, limit: int) -> float:
    """
    Give-ups to expect if every operation stopped after *limit* attempts.

    Up to the last attempt seen this is a count; beyond it, the last attempts' success is taken to go on.
    """
    steps = curve(review)
    tries = [won + lost for _, won, lost in steps]
    if limit < len(steps):
        return tries[limit]
    remaining = steps[-1][2] if steps else 0.0
    if limit == len(steps):
        return remaining
    chance = tail_success(steps)
    return remaining * (1.0 - chance) ** (limit - len(steps))


def tail_success(steps: list[tuple[int, float, float]], least: float = 30) -> float:
    """
    The share of the last attempts that committed, over as many of the last attempt numbers as give *least* tries.
    """
    won = tries = 0.0
    for _, here, lost in reversed(steps):
        won, tries = won + here, tries + here + lost
        if tries >= least:
            break
    return won / tries if tries else 0.0


def attempts(review: Review) -> Row:
    """
    How attempts fare by their number, and what another limit would do.
    """
    steps = curve(review)
    begun = sum(won for _, won, _ in steps) + review.totals.gave_up
    done = 0.0
    rows: list[Row] = []
    for k, won, lost in steps:
        done += won
        rows.append(
            {
                "attempt": k,
                "committed": number(won),
                "lost": number(lost),
                "success": share(won, won + lost),
                "cumulative": share(done, begun),
                "gave_up": number(review.gave_up_at[k]),
            }
        )
    limits = sorted({1, 2, 3, 5, 8, 13, 21, len(steps)} - {0}) if steps else []
    return {
        "attempts": rows,
        "limits": [{"max_attempts": n, "gave_up": number(round(predicted(review, n), 1))} for n in limits],
        "gave_up": number(review.totals.gave_up),
        "wait_s": {name: round(review.waits.quantile(q), 6) for name, q in (("p50", 0.5), ("p95", 0.95))},
        "read": read_from(review),
    }


def heat(review: Review, *, rows: int = 40, sort: str = "hot", columns: int = 64) -> Row:
    """
    Losses per key over time.
    """
    used = max(1, -(-review.axis.used // HEAT_STEP))
    fold = 1
    while -(-used // fold) > columns:
        fold *= 2
    width = -(-used // fold)
    kept = ranked([row for row in review.keys.all() if row.losses], "losses", rows)
    if sort == "name":
        kept.sort(key=lambda row: row.key)
    grid: list[Row] = []
    for row in kept:
        cells: list[float] = [0] * width
        for column, losses in row.heat.items():
            cells[min(column // fold, width - 1)] += losses
        grid.append(
            {
                "key": row.key,
                "lost": number(row.losses),
                "lost_s": round(row.lost_s, 6),
                "cells": [number(n) for n in cells],
            }
        )
    step = review.axis.step * HEAT_STEP * fold
    begin = review.axis.start_of(0)
    return {
        "rows": grid,
        "step_s": round(step, 3),
        "starts": [text_of(begin + step * n) for n in range(width)] if review.axis.origin is not None else [],
        "read": read_from(review),
    }


def gave_up(review: Review, *, limit: int = 20) -> Row:
    """
    Operations that gave up, the latest last.
    """
    kept = sorted(review.stories, key=lambda story: story[0].timestamp)[-limit:] if limit else []
    return {
        "gave_up": [failure(line, losses) for line, losses in kept],
        "all": number(review.totals.gave_up),
        "reasons": {name: number(count) for name, count in sorted(review.totals.reasons.items())},
        "read": read_from(review),
    }


def failure(line: GaveUp, losses: list[Lost]) -> Row:
    """
    One operation that gave up, with its attempts.
    """
    losses = sorted(losses, key=lambda line: line.attempt)
    return {
        "at": line.timestamp,
        "op": line.op,
        "store": line.store,
        "key": line.key or ", ".join(line.keys),
        "writer": line.writer,
        "call_id": line.call_id,
        "op_id": line.op_id or None,
        "attempts": line.attempt,
        "reason": line.reason,
        "error_type": line.error_type or None,
        "total_s": round(line.total_s, 6),
        "lost_s": round(line.lost_s, 6),
        "wait_s": round(line.wait_s, 6),
        "last_winner": losses[-1].beaten_by if losses else None,
        "steps": [step(one) for one in losses],
    }


def step(line: Lost) -> Row:
    """
    One lost attempt.
    """
    return {
        "attempt": line.attempt,
        "at": line.timestamp,
        "read_s": line.read_s,
        "fn_s": line.fn_s,
        "write_s": line.write_s,
        "wait_s": line.wait_s,
        "cause": line.cause,
        "winner": line.beaten_by,
        "winner_id": line.winner or None,
        "winner_kind": line.winner_kind or None,
    }


def over_time(review: Review, *, columns: int = 240) -> Row:
    """
    Conflicts, commits, give-ups and lost seconds per step, in at most *columns* steps.
    """
    used, axis = review.axis.used, review.axis
    fold = max(1, -(-used // columns))
    found: Row = {
        name: [number(sum(counts[at : at + fold])) for at in range(0, used, fold)]
        for name, counts in review.rates.items()
    }
    found["start"] = axis.start_of(0)
    found["step_s"] = round(axis.step * fold, 3)
    return found


def latency(review: Review, *, columns: int = 64) -> Row:
    """
    How long operations took, over time: a grid of bands, each three quarters of a doubling high.
    """
    used = -(-review.axis.used // HEAT_STEP)
    fold = max(1, -(-used // columns))
    cells: dict[tuple[int, int], float] = {}
    for column, durations in review.durations.items():
        for bucket, count in durations.items():
            at = (column // fold, bucket // BAND)
            cells[at] = cells.get(at, 0) + count
    bands = sorted({band for _, band in cells})
    low, high = (bands[0], bands[-1]) if bands else (0, -1)
    edges = [start_of(band * BAND) for band in range(low, high + 2)]
    width = -(-used // fold) if used else 0
    grid: list[list[Any]] = [
        [number(cells.get((column, band), 0)) for column in range(width)] for band in range(low, high + 1)
    ]
    step = review.axis.step * HEAT_STEP * fold
    return {"edges_s": [round(edge, 6) for edge in edges], "cells": grid, "step_s": round(step, 3)}


def distribution(review: Review) -> list[Row]:
    """
    The quantiles of the time an operation took.
    """
    durations = review.total_s
    return [
        {"quantile": q, "total_s": round(durations.quantile(q), 6)}
        for q in (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
    ]
