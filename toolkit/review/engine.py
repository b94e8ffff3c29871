"""
One pass over a log: everything the commands and the report show, in bounded memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from toolkit.review.axis import COLUMNS, Axis, folded
from toolkit.review.histogram import Histogram, bucket_of
from toolkit.review.join import OUTSIDE, Loss, WinnerJoin
from toolkit.review.reading import Intake, classify
from toolkit.review.records import (
    DECODER,
    AccessDenied,
    Committed,
    Conflict,
    GaveUp,
    OutcomeUnknown,
    Record,
    Summary,
    Warned,
)
from toolkit.review.tally import HEAT_COLUMNS, KeyTable, KeyTally

MAX_ATTEMPT: Final = 64
MAX_STORIES: Final = 1000
MAX_CALLS: Final = 50_000
HEAT_STEP: Final = COLUMNS // HEAT_COLUMNS


class Totals:
    """
    Sums over the whole log.
    """

    def __init__(self) -> None:
        self.committed: float = 0
        self.updates: float = 0
        self.noop: float = 0
        self.conflicts: float = 0
        self.gave_up: float = 0
        self.unknown: float = 0
        self.denied: float = 0
        self.warnings: float = 0
        self.lost_s = self.wait_s = self.total_s = 0.0
        self.least_sample = 1.0
        self.maybe_self: float = 0
        self.foreign: float = 0
        self.causes: defaultdict[str, float] = defaultdict(int)
        self.reasons: defaultdict[str, float] = defaultdict(int)
        self.paths: defaultdict[str, float] = defaultdict(int)
        # The same, exact, from the summaries of the writers; all zero where they wrote none.
        self.exact: defaultdict[str, float] = defaultdict(int)

    def merge(self, other: Totals) -> None:
        """
        Add another worker's sums.
        """
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, defaultdict):
                for key, count in cast("defaultdict[str, float]", value).items():
                    mine[key] += count
            elif name == "least_sample":
                self.least_sample = min(mine, value)
            else:
                setattr(self, name, mine + value)


class Review:
    """
    Feed it lines, ``finish()``, then read its attributes.
    """

    def __init__(
        self, *, by: str = "writer", origin: float | None = None, max_stories: int = MAX_STORIES
    ) -> None:
        self.by = by
        self.intake = Intake()
        self.axis = Axis(origin)
        self.axis.on_double.append(self._double)
        self.totals = Totals()
        self.keys = KeyTable()
        self.pairs: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
        self.won_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.lost_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.gave_up_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.total_s, self.waits = Histogram(), Histogram()
        self.rates: dict[str, list[float]] = {
            name: [0] * COLUMNS for name in ("conflicts", "commits", "gave_up", "lost_s")
        }
        self.latency: defaultdict[tuple[int, int], float] = defaultdict(int)
        self.stories: list[tuple[GaveUp, list[Loss]]] = []
        self.untold = 0
        self.max_stories = max_stories
        self.join = WinnerJoin(self._matched, by)
        self._calls: dict[str, list[Loss]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Conflict: self._conflict,
            Committed: self._committed,
            GaveUp: self._gave_up,
            OutcomeUnknown: self._unknown,
            AccessDenied: self._denied,
            Warned: self._warned,
            Summary: self._summary,
        }

    def feed(self, lines: list[bytes], decode: Callable[[bytes], Record | None] = DECODER.decode) -> None:
        """
        Take in a batch of lines.
        """
        handlers, intake = self._handlers, self.intake
        good = kept = 0
        for line in lines:
            try:
                record = decode(line)
            except (msgspec.DecodeError, RecursionError):
                classify(line, intake)
                continue
            good += 1
            if record is not None:
                kept += 1
                handlers[type(record)](record)
        intake.lines += good
        intake.events += good
        intake.kept += kept

    def _column(self, timestamp: str) -> int:
        axis = self.axis
        return axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)

    def _double(self) -> None:
        for name, columns in self.rates.items():
            self.rates[name] = folded(columns)
        self.keys.fold()
        latency: defaultdict[tuple[int, int], float] = defaultdict(int)
        for (column, band), count in self.latency.items():
            latency[column // 2, band] += count
        self.latency = latency

    def _weight(self, record: Record) -> float:
        self.totals.least_sample = min(self.totals.least_sample, record.sample)
        return 1.0 / record.sample if record.sample > 0 else 1.0

    def _tally(self, record: Record) -> KeyTally:
        row = self.keys.rows.get(record.key)
        if row is not None and row.store == record.store:
            return row
        key = record.key or (record.keys[0] if record.keys else "")
        return self.keys.add(key, record.store, record.key_tpl)

    def _conflict(self, line: Conflict) -> None:
        weight = 1 if line.sample == 1.0 else self._weight(line)
        axis, totals, row = self.axis, self.totals, self._tally(line)
        timestamp = line.timestamp
        column = axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)
        cost = line.read_s + line.fn_s + line.write_s
        lost = (line.lost_s or cost) * weight
        totals.conflicts += weight
        totals.lost_s += lost
        totals.causes[line.cause] += weight
        self.rates["conflicts"][column] += weight
        self.rates["lost_s"][column] += lost
        self.lost_at[min(MAX_ATTEMPT, line.attempt)] += weight
        row.losses += weight
        row.lost_s += lost
        row.wait_s += line.wait_s * weight
        row.cost_s += cost * weight
        row.cost_n += weight
        row.fn_s += line.fn_s * weight
        row.heat[column // HEAT_STEP] += weight
        if line.wait_s:
            self.waits.buckets[bucket_of(line.wait_s)] += weight
        loser: str = getattr(line, self.by)
        row.losers[loser] += weight
        loss = Loss(line, loser, weight, lost, row)
        self._calls.setdefault(line.call_id, []).append(loss)
        self.join.lose(loss)

    def _matched(self, loss: Loss) -> None:
        pair = self.pairs[loss.loser, loss.winner]
        pair[0] += loss.weight
        pair[1] += loss.lost_s
        loss.key.rivals[loss.loser, loss.winner] += loss.weight
        if loss.winner[:1] == "(":
            self._nobody(loss)

    def _nobody(self, loss: Loss) -> None:
        if loss.line.maybe_self:
            self.totals.maybe_self += loss.weight
        elif loss.line.sample == 1.0:
            # Of a sampled log the winner may just not have been kept.
            loss.key.unmatched += loss.weight
            self.totals.foreign += loss.weight if loss.winner == OUTSIDE else 0

    def _committed(self, line: Committed) -> None:
        weight = 1 if line.sample == 1.0 else self._weight(line)
        axis, totals = self.axis, self.totals
        timestamp = line.timestamp
        column = axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)
        bucket = bucket_of(line.total_s)
        totals.committed += weight
        totals.updates += line.combined * weight
        totals.total_s += line.total_s * weight
        totals.paths[line.path] += weight
        self.rates["commits"][column] += weight
        self.total_s.buckets[bucket] += weight
        self.latency[column, bucket // 25] += weight
        self.won_at[min(MAX_ATTEMPT, line.attempt)] += weight
        row = self._tally(line)
        cost = line.read_s + line.fn_s + line.write_s
        row.wins += weight
        row.combined += line.combined * weight
        row.cost_s += cost * weight
        row.cost_n += weight
        row.fn_s += line.fn_s * weight
        row.winners[getattr(line, self.by)] += weight
        if line.attempt > 1:
            self._calls.pop(line.call_id, None)
        if line.noop:
            totals.noop += weight
        else:
            self.join.commit(line)
        for key in line.keys[1:] if not line.key else line.keys:
            if key != line.key:
                self.keys.add(key, line.store, "").wins += weight

    def _gave_up(self, line: GaveUp) -> None:
        column = self._column(line.timestamp)
        self.totals.gave_up += 1
        self.totals.total_s += line.total_s
        self.totals.reasons[line.reason] += 1
        self.rates["gave_up"][column] += 1
        self.gave_up_at[min(line.attempt, MAX_ATTEMPT)] += 1
        self.total_s.add(line.total_s)
        self._tally(line).gave_up += 1
        losses = self._calls.pop(line.call_id, [])
        if len(self.stories) < self.max_stories:
            self.stories.append((line, losses))
        else:
            self.untold += 1

    def _unknown(self, line: OutcomeUnknown) -> None:
        self._column(line.timestamp)
        self.totals.unknown += 1
        self._calls.pop(line.call_id, None)

    def _denied(self, line: AccessDenied) -> None:
        self._column(line.timestamp)
        self.totals.denied += 1

    def _warned(self, line: Warned) -> None:
        self._column(line.timestamp)
        self.totals.warnings += 1

    def _summary(self, line: Summary) -> None:
        self._column(line.timestamp)
        exact = self.totals.exact
        for name in ("ops", "updates", "attempts", "conflicts", "gave_up", "noop", "unknown", "dropped"):
            exact[name] += getattr(line, name)
        exact["lost_s"] += line.lost_s
        exact["total_s"] += line.total_s

    def advance(self, seconds: float | None) -> None:
        """
        Say that all sources have been read up to here; what waits too long is let go.
        """
        if seconds is not None:
            self.join.advance(seconds)
        if len(self._calls) > MAX_CALLS:
            # The oldest belong to calls whose end was never logged.
            for call_id in list(self._calls)[: MAX_CALLS // 2]:
                del self._calls[call_id]

    def finish(self) -> None:
        """
        Match what still waits.
        """
        self.join.finish()
        self._calls.clear()
