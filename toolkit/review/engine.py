"""
One pass over a log: everything the commands and the report show, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from operator import attrgetter
from typing import Any, Final

from toolkit.review.axis import COLUMNS, Axis, folded
from toolkit.review.histogram import LONGEST, RESOLUTION, SMALLEST, Histogram, bucket_of
from toolkit.review.join import OUTSIDE, Loss, WinnerJoin
from toolkit.review.reading import Decoding, Intake
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
from toolkit.review.totals import Totals

MAX_ATTEMPT: Final = 64
MAX_STORIES: Final = 1000
MAX_CALLS: Final = 50_000
HEAT_STEP: Final = COLUMNS // HEAT_COLUMNS
# More than any duration has: the bucket of 9 hours is 1,218.
BUCKETS: Final = 2048


_EXACT: Final = ("ops", "updates", "attempts", "conflicts", "gave_up", "noop", "unknown", "dropped")


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
        self.axis.on_double.append(self.double)
        self.totals = Totals()
        self.keys = KeyTable()
        self.won_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.lost_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.gave_up_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.waits = Histogram()
        # Everybody who committed.
        self.writers: set[str] = set()
        # Seconds waited between attempts, and from first read to end, in all.
        self.wait_s = self.total = 0.0
        self._who: Callable[[Any], str] = attrgetter(by)
        self._by_writer = by == "writer"
        self.conflicts_in: list[float] = [0] * COLUMNS
        self.commits_in: list[float] = [0] * COLUMNS
        self.gave_up_in: list[float] = [0] * COLUMNS
        self.lost_s_in: list[float] = [0] * COLUMNS
        # column // HEAT_STEP * BUCKETS + bucket of duration -> operations
        self.durations: dict[int, float] = {}
        self._decoding = Decoding(self.intake, DECODER)
        self.stories: list[tuple[GaveUp, list[Conflict]]] = []
        self.untold = 0
        self.max_stories = max_stories
        self.join = WinnerJoin(self._matched, by)
        self._calls: dict[str, list[Conflict]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Conflict: self._conflict,
            Committed: self._committed,
            GaveUp: self._gave_up,
            OutcomeUnknown: self._unknown,
            AccessDenied: self._denied,
            Warned: self._warned,
            Summary: self._summary,
        }

    @property
    def conflicts(self) -> float:
        """
        Lost attempts.
        """
        return sum(self.lost_at)

    @property
    def committed(self) -> float:
        """
        Writes that went through, and calls that had nothing to write.
        """
        return sum(self.won_at)

    @property
    def lost_s(self) -> float:
        """
        Seconds of work thrown away.
        """
        return sum(row.lost_s for row in self.keys.all()) + self.keys.rest.lost_s

    @property
    def pairs(self) -> dict[tuple[str, str], list[float]]:
        """
        (loser, winner) to [losses, lost seconds], over all keys.
        """
        whole = KeyTally("", "")
        for row in (*self.keys.all(), self.keys.rest):
            for pair, (count, lost_s) in row.rivals.items():
                cell = whole.rivals.setdefault(pair, [0, 0.0])
                cell[0] += count
                cell[1] += lost_s
        return whole.rivals

    @property
    def rates(self) -> dict[str, list[float]]:
        """
        Counts by column of time.
        """
        return {
            "conflicts": self.conflicts_in,
            "commits": self.commits_in,
            "gave_up": self.gave_up_in,
            "lost_s": self.lost_s_in,
        }

    @property
    def total_s(self) -> Histogram:
        """
        How long operations took.
        """
        found = Histogram()
        for cell, count in self.durations.items():
            found.buckets[cell % BUCKETS] += count
        return found

    def feed(self, block: bytes, decode: Callable[[bytes], Record | None] | None = None) -> None:
        """
        Take in a block of lines; *decode* is a query's, none takes every line.
        """
        handlers, intake = self._handlers, self.intake
        if decode is None:
            records = self._decoding.records(block)
            intake.kept += len(records)
            committed = self._committed
            for record in records:
                if type(record) is Committed:
                    committed(record)
                else:
                    handlers[type(record)](record)
        else:
            records = self._decoding.one_by_one(block, decode)
            for record in records:
                if record is not None:
                    intake.kept += 1
                    handlers[type(record)](record)
        intake.lines += len(records)
        intake.events += len(records)

    def _column(self, timestamp: str) -> int:
        axis = self.axis
        return axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)

    def double(self) -> None:
        """
        Hold what is held at the old step at twice of it.
        """
        for columns in self.rates.values():
            columns[:] = folded(columns)
        self.keys.fold()
        durations: dict[int, float] = {}
        for cell, count in self.durations.items():
            at = cell // BUCKETS // 2 * BUCKETS + cell % BUCKETS
            durations[at] = durations.get(at, 0) + count
        self.durations = durations

    def _weight(self, record: Record) -> float:
        self.totals.least_sample = min(self.totals.least_sample, record.sample)
        return 1.0 / record.sample if record.sample > 0 else 1.0

    def _tally(self, record: Record) -> KeyTally:
        return self.keys.add(record.key or (record.keys[0] if record.keys else ""), record.store)

    def _conflict(self, line: Conflict) -> None:
        weight = 1 if line.sample == 1.0 else self._weight(line)
        row = self.keys.rows.get(line.key)
        if row is None or row.store != line.store:
            row = self._tally(line)
        axis, timestamp = self.axis, line.timestamp
        column = axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)
        lost = (line.lost_s or line.read_s + line.fn_s + line.write_s) * weight
        attempt, wait_s, calls, call_id = line.attempt, line.wait_s, self._calls, line.call_id
        self.conflicts_in[column] += weight
        self.lost_s_in[column] += lost
        self.lost_at[attempt if attempt < MAX_ATTEMPT else MAX_ATTEMPT] += weight  # noqa: FURB136 - a call is slower
        row.losses += weight
        row.lost_s += lost
        row.fn_s += line.fn_s * weight
        heat, cell = row.heat, column // HEAT_STEP
        heat[cell] = heat.get(cell, 0) + weight
        if wait_s > SMALLEST:
            self.wait_s += wait_s * weight
            self.waits.buckets[int(log(wait_s * 1e6) * RESOLUTION)] += weight
        if line.cause != "etag_mismatch":
            self.totals.causes[line.cause] = self.totals.causes.get(line.cause, 0) + weight
        if call_id in calls:
            calls[call_id].append(line)
        else:
            calls[call_id] = [line]
        who = self.join.young.get(line.winner)
        if who is None or line.maybe_self:
            who = self.join.known(line)
            if not who:
                self.join.wait((line, row, weight, lost))
                return
        line.beaten_by = who
        rivals, pair = row.rivals, (line.writer if self._by_writer else self._who(line), who)
        if pair in rivals:
            count = rivals[pair]
            count[0] += weight
            count[1] += lost
        else:
            rivals[pair] = [weight, lost]
        if who[0] == "(":
            self._nobody(line, row, weight)

    def _matched(self, loss: Loss) -> None:
        line, row, weight, lost = loss
        cell = row.rivals.setdefault((self._who(line), line.beaten_by), [0, 0.0])
        cell[0] += weight
        cell[1] += lost
        if line.beaten_by[0] == "(":
            self._nobody(line, row, weight)

    def _nobody(self, line: Conflict, row: KeyTally, weight: float) -> None:
        if line.maybe_self:
            self.totals.maybe_self += weight
        elif line.sample == 1.0:
            # Of a sampled log the winner may just not have been kept.
            row.unmatched += weight
            self.totals.foreign += weight if line.beaten_by == OUTSIDE else 0

    def _committed(self, line: Committed) -> None:
        weight = 1 if line.sample == 1.0 else self._weight(line)
        axis, timestamp = self.axis, line.timestamp
        column = axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)
        attempt, total_s = line.attempt, line.total_s
        who = line.writer if self._by_writer else self._who(line)
        self.commits_in[column] += weight
        bucket = int(log(total_s * 1e6) * RESOLUTION) if SMALLEST < total_s < LONGEST else bucket_of(total_s)
        cell = column // HEAT_STEP * BUCKETS + bucket
        self.durations[cell] = self.durations.get(cell, 0) + weight
        self.won_at[attempt if attempt < MAX_ATTEMPT else MAX_ATTEMPT] += weight  # noqa: FURB136 - a call is slower
        self.total += total_s * weight
        row = self.keys.rows.get(line.key)
        if row is None or row.store != line.store:
            row = self._tally(line)
        row.wins += weight
        if who not in self.writers:
            self.writers.add(who)
        if attempt > 1:
            self._calls.pop(line.call_id, None)
        if line.path != "single" or line.combined != 1 or line.noop or line.keys:
            self._unusual(line, row, weight)
            if line.noop:
                return
        join = self.join
        if join.held or line.races or not line.race or not line.write_id:
            join.commit(line, who)
        else:
            # The same in line, for the bulk of a log.
            young = join.young
            young[line.write_id] = young[line.race] = who

    def _unusual(self, line: Committed, row: KeyTally, weight: float) -> None:
        row.extra += (line.combined - 1) * weight
        paths = self.totals.paths
        if line.path != "single":
            paths[line.path] = paths.get(line.path, 0) + weight
        self.totals.noop += weight if line.noop else 0
        for key in line.keys[0 if line.key else 1 :]:
            if key != line.key:
                self.keys.add(key, line.store).wins += weight

    def _gave_up(self, line: GaveUp) -> None:
        totals = self.totals
        column = self._column(line.timestamp)
        self.gave_up_in[column] += 1
        totals.gave_up += 1
        self.total += line.total_s
        totals.reasons[line.reason] = totals.reasons.get(line.reason, 0) + 1
        self.gave_up_at[min(line.attempt, MAX_ATTEMPT)] += 1
        cell = column // HEAT_STEP * BUCKETS + bucket_of(line.total_s)
        self.durations[cell] = self.durations.get(cell, 0) + 1
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
        for name in (*_EXACT, "lost_s", "total_s"):
            exact[name] = exact.get(name, 0) + getattr(line, name)

    def advance(self, seconds: float | None) -> None:
        """
        Say that all sources have been read up to here; what waits too long is let go.
        """
        self.join.advance(seconds)
        if len(self._calls) > MAX_CALLS:
            # The oldest belong to calls whose end was never logged.
            for call_id in list(self._calls)[: MAX_CALLS // 2]:
                del self._calls[call_id]

    def finish(self) -> None:
        """
        Match what still waits, and fill in what is derived.
        """
        self.join.finish()
        self._calls.clear()
        totals = self.totals
        totals.updates = self.committed + sum(row.extra for row in (*self.keys.all(), self.keys.rest))
        # The usual cause and path are what the unusual ones leave.
        for counts, usual, whole in (
            (totals.causes, "etag_mismatch", self.conflicts), (totals.paths, "single", self.committed),
        ):  # fmt: skip
            if left := whole - sum(count for name, count in counts.items() if name != usual):
                counts[usual] = left

    def overhear(self, line: Committed) -> None:
        """
        Know of a commit that is counted elsewhere.
        """
        self.join.commit(line, self._who(line))

    def under_way(self, line: Record) -> None:
        """
        Know of a call that began before this review does.
        """
        if isinstance(line, Conflict):
            self._calls.setdefault(line.call_id, []).append(line)
        else:
            self._calls.pop(line.call_id, None)

    def __getstate__(self) -> dict[str, Any]:
        # What is needed while reading stays where the reading was done.
        self.axis.on_double = []
        left = ("join", "_handlers", "_decoding", "_calls")
        return {name: value for name, value in vars(self).items() if name not in left}
