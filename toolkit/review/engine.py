"""
One pass over a log: everything the commands and the report show, in bounded memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from toolkit.review import bulk
from toolkit.review.axis import COLUMNS, Axis, folded
from toolkit.review.bulk import HEAT_STEP, MAX_ATTEMPT, Names, first_key, numbered, remember
from toolkit.review.histogram import Histogram
from toolkit.review.join import OUTSIDE, UNNAMED, Loss, WinnerJoin
from toolkit.review.reading import Decoding, Intake
from toolkit.review.records import (
    DECODER,
    LEAN,
    AccessDenied,
    Committed,
    Conflict,
    GaveUp,
    LeanRecord,
    Lost,
    OutcomeUnknown,
    Record,
    Summary,
    Warned,
    Won,
)
from toolkit.review.tally import KeyTable, KeyTally
from toolkit.review.totals import Totals

MAX_STORIES: Final = 1000
MAX_CALLS: Final = 50_000

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
        # Lines of lost attempts by second of the minute and tenth of the second, such as "07.3".
        self.marks: Counter[str] = Counter()
        # Losses not yet put into the table of keys.
        self.charges = bulk.Charges()
        self.totals = Totals()
        self.keys = KeyTable()
        self.won_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.lost_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.gave_up_at: list[float] = [0] * (MAX_ATTEMPT + 1)
        self.waits = Histogram()
        self.names = Names()
        # Seconds waited between attempts, and from first read to end, in all.
        self.wait_s = self.total = 0.0
        # None for the usual answer, the writer.
        self.who: Callable[[Any], str] | None = None if by == "writer" else attrgetter(by)
        self.conflicts_in: list[float] = [0] * COLUMNS
        self.commits_in: list[float] = [0] * COLUMNS
        self.gave_up_in: list[float] = [0] * COLUMNS
        self.lost_s_in: list[float] = [0] * COLUMNS
        # How long operations took, by column of the heat map.
        self.durations: defaultdict[int, Histogram] = defaultdict(Histogram)
        self._decoding, self._lean = Decoding(self.intake, DECODER), Decoding(self.intake, LEAN)
        self.stories: list[tuple[GaveUp, list[Lost]]] = []
        self.untold = 0
        self.max_stories = max_stories
        self.join = WinnerJoin(self._matched, by)
        self.clocks = self.join.clocks
        # The lost attempts of calls under way, for their stories.
        self.calls: dict[str, list[Lost]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
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
    def writers(self) -> set[str]:
        """
        Everybody who committed.
        """
        return set(self.names.values())

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
        for durations in self.durations.values():
            found.merge(durations)
        return found

    def feed(self, block: bytes, decode: Callable[[bytes], Record | None] | None = None) -> None:
        """
        Take in a block of lines; *decode* is a query's, none takes every line.
        """
        intake, full = self.intake, self.clocks.due() or self.who is not None
        kept: list[Any]
        if decode is None:
            decoding = self._decoding if full else self._lean
            kept = records = decoding.records(block)
        else:
            records = self._decoding.one_by_one(block, decode)
            kept = [record for record in records if record is not None]
        intake.lines += len(records)
        intake.events += len(records)
        intake.kept += len(kept)
        if not kept:
            return
        columns = self.axis.columns([record.timestamp for record in kept])
        if isinstance(columns, int):
            self._take(kept, columns)
        else:
            for column, lines in groupby(zip(columns, kept, strict=True), key=lambda pair: pair[0]):
                self._take([line for _, line in lines], column)

    def _take(self, records: list[Any], column: int) -> None:
        """
        Count the lines of one column of time: those that are like most at once, the others one by one.
        """
        store, sample = records[0].store, records[0].sample
        usual, lost = list[Won](), list[Lost]()
        groups, others = {(store, sample): (usual, lost)}, list[Any]()
        for line in records:
            if line.store != store or line.sample != sample:
                store, sample = line.store, line.sample
                usual, lost = groups.setdefault((store, sample), ([], []))
            if type(line) is Won or type(line) is Committed:
                if (
                    line.path == "single" and line.write_id and line.race
                    and not (line.noop or line.keys or line.races)
                ):  # fmt: skip
                    usual.append(line)
                else:
                    others.append(line)
            elif type(line) is Lost or type(line) is Conflict:
                lost.append(line)
            else:
                others.append(line)
        for usual, lost in groups.values():
            if usual:
                bulk.commits(self, usual, column, self._weight(usual[0]))
            if lost:
                bulk.losses(self, lost, column, self._weight(lost[0]))
        # The ends of calls come after their lost attempts.
        for line in others:
            self._one(line, column)

    def _one(self, line: Record | LeanRecord, column: int) -> None:
        if isinstance(line, Won):
            self._committed(line, column)
        elif isinstance(line, GaveUp):
            self._gave_up(line, column)
        else:
            self._handlers[type(line)](line)

    def double(self) -> None:
        """
        Hold what is held at the old step at twice of it.
        """
        bulk.charge(self)
        for columns in self.rates.values():
            columns[:] = folded(columns)
        self.keys.fold()
        before, self.durations = self.durations, defaultdict(Histogram)
        for column, durations in before.items():
            self.durations[column // 2].merge(durations)

    def _weight(self, record: Record | LeanRecord) -> float:
        if record.sample == 1.0:
            return 1
        self.totals.least_sample = min(self.totals.least_sample, record.sample)
        return 1.0 / record.sample

    def tally(self, record: Record | LeanRecord) -> KeyTally:
        """
        The tally of the (first) key of a line.
        """
        return self.keys.add(first_key(record), record.store)

    def _name(self, line: Won | Lost) -> str:
        return (line.writer if self.who is None else self.who(line)) or UNNAMED

    def _matched(self, loss: Loss) -> None:
        line, row, weight, lost = loss
        bulk.add_rival(row, self._name(line), line.beaten_by, weight, lost)
        # Of a sampled log the winner may just not have been kept.
        if line.beaten_by[0] == "(" and line.sample == 1.0:
            row.unmatched += weight
            self.totals.foreign += weight if line.beaten_by == OUTSIDE else 0

    def _committed(self, line: Won, column: int) -> None:
        weight, who, attempt = self._weight(line), self._name(line), line.attempt
        self.commits_in[column] += weight
        self.durations[column // HEAT_STEP].add(line.total_s, weight)
        self.won_at[numbered(attempt)] += weight
        self.total += line.total_s * weight
        row = self.tally(line)
        row.wins += weight
        who = self.names[who]
        if attempt > 1:
            self.calls.pop(line.call_id, None)
        self._unusual(line, row, weight)
        if not line.noop:
            self.join.commit(line, who)

    def _unusual(self, line: Won, row: KeyTally, weight: float) -> None:
        row.extra += (line.combined - 1) * weight
        paths = self.totals.paths
        if line.path != "single":
            paths[line.path] = paths.get(line.path, 0) + weight
        self.totals.noop += weight if line.noop else 0
        for key in line.keys[0 if line.key else 1 :]:
            if key != line.key:
                self.keys.add(key, line.store).wins += weight

    def _gave_up(self, line: GaveUp, column: int) -> None:
        totals = self.totals
        self.gave_up_in[column] += 1
        totals.gave_up += 1
        self.total += line.total_s
        totals.reasons[line.reason] = totals.reasons.get(line.reason, 0) + 1
        self.gave_up_at[numbered(line.attempt)] += 1
        self.durations[column // HEAT_STEP].add(line.total_s)
        self.tally(line).gave_up += 1
        losses = self.calls.pop(line.call_id, [])
        if len(self.stories) < self.max_stories:
            self.stories.append((line, losses))
        else:
            self.untold += 1

    def _unknown(self, line: OutcomeUnknown) -> None:
        self.totals.unknown += 1
        self.calls.pop(line.call_id, None)

    def _denied(self, line: AccessDenied) -> None:
        self.totals.denied += 1

    def _warned(self, line: Warned) -> None:
        self.totals.warnings += 1

    def _summary(self, line: Summary) -> None:
        exact = self.totals.exact
        for name in (*_EXACT, "lost_s", "wait_s", "total_s"):
            exact[name] = exact.get(name, 0) + getattr(line, name)

    def advance(self, seconds: float | None) -> None:
        """
        Say that all sources have been read up to here; what waits too long is let go.
        """
        self.join.advance(seconds)
        if len(self.calls) > MAX_CALLS:
            # The oldest belong to calls whose end was never logged.
            for call_id in list(self.calls)[: MAX_CALLS // 2]:
                del self.calls[call_id]

    def finish(self) -> None:
        """
        Match what still waits, and fill in what is derived.
        """
        self.join.finish()
        bulk.charge(self)
        self.keys.settle()
        self.calls.clear()
        totals = self.totals
        totals.updates = self.committed + sum(row.extra for row in (*self.keys.all(), self.keys.rest))
        # The usual cause and path are what the unusual ones leave.
        for counts, usual, whole in (
            (totals.causes, "etag_mismatch", self.conflicts), (totals.paths, "single", self.committed),
        ):  # fmt: skip
            if left := whole - sum(count for name, count in counts.items() if name != usual):
                counts[usual] = left

    def overhear(self, line: Won) -> None:
        """
        Know of a commit that is counted elsewhere, or not at all.
        """
        if not line.noop:
            self.join.commit(line, self._name(line))

    def under_way(self, line: Record) -> None:
        """
        Know of a call that began before this review does.
        """
        if isinstance(line, Lost):
            remember(self.calls.setdefault(line.call_id, []), line)
        else:
            self.calls.pop(line.call_id, None)

    def __getstate__(self) -> dict[str, Any]:
        # What is needed while reading stays where the reading was done.
        self.axis.on_double = []
        left = ("join", "who", "_handlers", "_decoding", "_lean", "calls")
        return {name: value for name, value in vars(self).items() if name not in left}
