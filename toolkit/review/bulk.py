"""
Counting many lines of one column of time at once: what a line costs here is what reading a log costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from toolkit.review.axis import COLUMNS
from toolkit.review.join import ITSELF, OUTSIDE, UNNAMED
from toolkit.review.records import LeanRecord, Lost, Record, Won
from toolkit.review.tally import HEAT_COLUMNS, KeyTally

if TYPE_CHECKING:
    from toolkit.review.engine import Review

MAX_ATTEMPT: Final = 64
HEAT_STEP: Final = COLUMNS // HEAT_COLUMNS
# Losses counted apart at most, by key, loser and winner.
MOST_CELLS: Final = 20_000
# Attempts of one operation that its story tells.
MAX_STEPS: Final = 1000


class Names(dict[str, str]):
    """
    Gives the same text for equal ones, and a name to who has none.
    """

    def __missing__(self, name: str) -> str:
        self[name] = name or UNNAMED
        return self[name]


class Charges:
    """
    Losses of one store and one column of the heat map, of one weight.

    Attributes:
        of: Which ones.
        cells: (key, loser, winner) to [losses, lost seconds, the function's seconds].
    """

    def __init__(self) -> None:
        self.of: tuple[str, int, float] = ("", 0, 1)
        self.cells: dict[tuple[str, str, str], list[float]] = {}


def first_key(line: Record | LeanRecord) -> str:
    """
    The key a line is counted under.
    """
    return line.key or (line.keys[0] if line.keys else "")


def numbered(attempt: int) -> int:
    """
    The place of an attempt in the counts by number; the last place has all that are later.
    """
    return max(0, min(attempt, MAX_ATTEMPT))


def remember(told: list[Lost], line: Lost) -> None:
    """
    Add an attempt to a story; of a very long one the first attempts and the last are kept.
    """
    if len(told) < MAX_STEPS:
        told.append(line)
    else:
        told[-1] = line


def commits(review: Review, lines: Sequence[Won], column: int, weight: float) -> None:
    """
    Count commits of one store that are like most: on one key, by its ETag.
    """
    who = review.who
    # One text for each writer: what is kept must not keep the memory of the lines from being used again.
    names = review.names
    whos = [names[line.writer] for line in lines] if who is None else [names[who(line)] for line in lines]
    durations = [line.total_s for line in lines]
    count = len(lines) * weight
    review.commits_in[column] += count
    review.won_at[1] += count
    for line in [line for line in lines if line.attempt != 1]:
        review.won_at[1] -= weight
        review.won_at[numbered(line.attempt)] += weight
        review.calls.pop(line.call_id, None)
    review.total += sum(durations) * weight
    for line in [line for line in lines if line.combined != 1]:
        review.tally(line).extra += (line.combined - 1) * weight
    review.durations[column // HEAT_STEP].add_all(durations, weight)
    review.keys.won_by(lines[0].store, [line.key for line in lines], weight)
    review.join.keep(lines, whos)


def losses(review: Review, lines: Sequence[Lost], column: int, weight: float) -> None:
    """
    Count lost attempts of one store.
    """
    costs = [line.lost_s for line in lines]
    waits = [line.wait_s for line in lines if line.wait_s > 0]
    for attempt, count in Counter([line.attempt for line in lines]).items():
        review.lost_at[numbered(attempt)] += count * weight
    for line in [line for line in lines if line.cause != "etag_mismatch"]:
        review.totals.count_cause(line.cause, weight)
    review.conflicts_in[column] += len(lines) * weight
    review.lost_s_in[column] += sum(costs) * weight
    review.marks.update([line.timestamp[17:21] for line in lines])
    review.wait_s += sum(waits) * weight
    review.waits.add_all(waits, weight)
    clocks = review.join.clocks
    if clocks.recent:
        for line in lines:
            if (winner := clocks.recent.get(line.winner or line.race)) is not None:
                clocks.met(line, winner)
    _blame(review, lines, costs, column, weight)


def _blame(review: Review, lines: Sequence[Lost], costs: list[float], column: int, weight: float) -> None:
    """
    Say who beat each attempt, and count it for key, loser and winner.
    """
    join, calls, who_of = review.join, review.calls, review.who
    latest, later = join.latest.get, join.later.get
    cells = _cells(review, lines[0].store, column // HEAT_STEP, weight)
    for line, cost in zip(lines, costs, strict=True):
        call_id, winner = line.call_id, line.winner
        if call_id in calls:
            remember(calls[call_id], line)
        else:
            calls[call_id] = [line]
        who = latest(winner) or later(winner)
        if who is None or line.maybe_self:
            who = join.known(line)
        line.beaten_by = who
        loser = (line.writer if who_of is None else who_of(line)) or UNNAMED
        cell = (line.key or first_key(line), loser, who)
        if not who:
            join.wait((line, review.tally(line), weight, cost * weight))
        if cell in cells:
            counts = cells[cell]
            counts[0] += 1
            counts[1] += cost
            counts[2] += line.fn_s
        else:
            cells[cell] = [1, cost, line.fn_s]


def _cells(review: Review, store: str, column: int, weight: float) -> dict[tuple[str, str, str], list[float]]:
    now, charges = (store, column, weight), review.charges
    if charges.of != now or len(charges.cells) > MOST_CELLS:
        charge(review)
        charges.of = now
    return charges.cells


def charge(review: Review) -> None:
    """
    Put the losses that were counted apart into the table of keys.
    """
    store, column, weight = review.charges.of
    rows, totals = review.keys.rows, review.totals
    for (key, loser, who), (lines, seconds, fn_s) in review.charges.cells.items():
        row = rows.get(key)
        if row is None or row.store != store:
            row = review.keys.add(key, store)
        count, cost = lines * weight, seconds * weight
        row.losses += count
        row.lost_s += cost
        row.fn_s += fn_s * weight
        row.heat[column] = row.heat.get(column, 0) + count
        if not who:
            # Counted once its winner is known.
            continue
        add_rival(row, loser, who, count, cost)
        if who == ITSELF:
            totals.maybe_self += count
        elif who == OUTSIDE and weight == 1:
            row.unmatched += count
            totals.foreign += count
    review.charges.cells.clear()


def add_rival(row: KeyTally, loser: str, who: str, count: float, cost: float) -> None:
    """
    Count losses to one winner.
    """
    pair = (loser, who)
    if pair in row.rivals:
        cell = row.rivals[pair]
        cell[0] += count
        cell[1] += cost
    else:
        row.rivals[pair] = [count, cost]
