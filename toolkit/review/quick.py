"""
The same log with less asked of it: hot keys, rates and totals, about twice as fast as the whole review.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec

from toolkit.review.answers import Row, footer, number, share
from toolkit.review.axis import COLUMNS, EARLIEST, LATEST, Axis, seconds_of, text_of
from toolkit.review.reading import Decoding, Intake
from toolkit.review.records import EVENT_NAMES, Record, Seconds, Share, Version
from toolkit.review.slim import GROUPS, Hot, feed, slim_decoder
from toolkit.review.tally import MAX_KEYS

SPARKS: Final = 16
_KNOWN: Final = frozenset(EVENT_NAMES)


class TopCounter:
    """
    The most contended keys (or templates, operations, writers).
    """

    def __init__(self, group: str = "key", limit: int = MAX_KEYS) -> None:
        self.intake, self.axis = Intake(), Axis()
        self.axis.on_double.append(self._double)
        self.group, self.limit = GROUPS[group], limit
        self._decoding = Decoding(self.intake, slim_decoder(self.group))
        self.rows: dict[str, Hot] = {}
        # Commits that count once and are not yet in the rows.
        self.won: Counter[str] = Counter()
        self.rest = Hot("")
        self.evicted = 0
        self.error: float = 0
        self.least_sample = 1.0

    def feed(self, block: bytes, decode: Callable[[bytes], Record | None] | None = None) -> None:
        """
        Take in a block of lines; *decode* is a query's, none counts every line.
        """
        feed(self.intake, self._decoding, block, decode, self._count)

    def _count(self, records: list[Any]) -> int:
        name_of, won = attrgetter(self.group), list[Any]()
        for record in records:
            event = record.event
            if event == "occ.committed":
                won.append(record)
            else:
                self._count_one(record, event, name_of(record))
        names = [name_of(record) for record in won if record.sample == 1.0]
        if len(names) < len(won) or (self.group == "key" and "" in names):
            names = []
            for record in won:
                # A commit of several keys is one on each of them, and one of its operation or writer.
                several = self.group == "key" and not record.key
                for name in record.keys if several else (name_of(record),):
                    self._at(name).wins += self._weight(record)
        self.won.update(names)
        if len(self.won) > self.limit:
            self._settle()
        return 0

    def _count_one(self, record: Any, event: str, name: str) -> None:
        row = (self.rows.get(name) if name else None) or self._at(name, record)
        if event == "occ.conflict":
            weight = 1 if record.sample == 1.0 else self._weight(record)
            axis, timestamp = self.axis, record.timestamp
            column = axis.column if timestamp[:21] == axis.prefix else axis.locate(timestamp)
            row.losses += weight
            row.lost_s += record.lost_s * weight
            row.writers.add(record.writer)
            row.spark[column // (COLUMNS // SPARKS)] += weight
        elif event == "occ.gave_up":
            row.gave_up += 1

    def _settle(self) -> None:
        for name, count in self.won.items():
            self._at(name).wins += count
        self.won.clear()

    def _weight(self, record: Any) -> float:
        sample: float = record.sample
        self.least_sample = min(self.least_sample, sample)
        return 1.0 / sample

    def _at(self, name: str, record: Any = None) -> Hot:
        if not name and self.group == "key" and record is not None and record.keys:
            name = record.keys[0]
        row = self.rows.get(name)
        if row is None:
            if len(self.rows) >= self.limit:
                self._make_room()
            row = self.rows[name] = Hot(name)
        return row

    def _make_room(self) -> None:
        for row in sorted(self.rows.values(), key=lambda row: (row.losses, row.gave_up, row.wins))[
            : self.limit // 2
        ]:
            del self.rows[row.name]
            self.rest.losses += row.losses
            self.rest.wins += row.wins
            self.rest.lost_s += row.lost_s
            self.rest.gave_up += row.gave_up
            self.error = max(self.error, row.losses)
            self.evicted += 1

    def _double(self) -> None:
        for row in self.rows.values():
            spark: defaultdict[int, float] = defaultdict(int)
            for column, losses in row.spark.items():
                spark[column // 2] += losses
            row.spark = spark

    def advance(self, seconds: float | None) -> None:
        """
        Nothing waits here.
        """

    def finish(self) -> None:
        """
        Put what was counted apart into the rows.
        """
        self._settle()

    def answer(self, *, by: str = "lost", limit: int = 10) -> Row:
        """
        The rows, the most contended first.
        """
        orders: dict[str, Callable[[Hot], float]] = {
            "lost": lambda row: row.lost_s,
            "losses": lambda row: row.losses,
            "gave_up": lambda row: row.gave_up,
            "rate": lambda row: share(row.losses, row.losses + row.wins),
        }
        order = orders[by]
        contended = [row for row in self.rows.values() if row.losses or row.gave_up]
        contended.sort(key=lambda row: (-order(row), -row.losses, row.name))
        whole = sum(row.lost_s for row in contended) + self.rest.lost_s
        return {
            "keys": [self._row(row, whole) for row in contended[:limit]],
            "group": self.group,
            "contended": len(contended),
            "all_keys": sum(1 for row in self.rows.values() if row.name) + self.evicted,
            "rest": {
                "keys": self.evicted,
                "lost": number(self.rest.losses),
                "lost_s": round(self.rest.lost_s, 6),
            },
            "error": number(self.error),
            "read": footer(self.intake, least_sample=self.least_sample),
        }

    def _row(self, row: Hot, whole: float) -> Row:
        last = self.axis.used * SPARKS // COLUMNS + 1
        return {
            "key": row.name,
            "lost": number(row.losses),
            "won": number(row.wins),
            "loss_ratio": share(row.losses, row.losses + row.wins),
            "lost_s": round(row.lost_s, 6),
            "share": share(row.lost_s, whole),
            "gave_up": row.gave_up,
            "writers": len(row.writers),
            "trend": [number(row.spark.get(column, 0)) for column in range(min(last, SPARKS))],
        }


class _Slimmest(msgspec.Struct, gc=False):
    event: str
    timestamp: str
    v: Version = 1
    lost_s: Seconds = 0.0
    total_s: Seconds = 0.0
    sample: Share = 1.0


class RateCounter:
    """
    Conflicts, commits, give-ups and lost time per step of time; also what ``check`` needs.
    """

    MOST: Final = 100_000

    def __init__(self, every: float = 1.0) -> None:
        self.intake, self.every = Intake(), every
        self.buckets: dict[int, list[float]] = {}
        self.least_sample = 1.0
        self.total_s = 0.0
        self._decoding = Decoding(self.intake, msgspec.json.Decoder(_Slimmest))
        # What comes before the first moment that makes sense belongs to it.
        self._early: list[float] = [0, 0, 0, 0.0]
        self._prefix, self._bucket = "", self._early
        # To a tenth of a second a bucket is the same for all lines of that tenth; finer steps look at each line.
        self._tenths = every >= 0.1 and abs(every * 10 - round(every * 10)) < 1e-9

    def feed(self, block: bytes, decode: Callable[[bytes], Record | None] | None = None) -> None:
        """
        Take in a block of lines; *decode* is a query's, none counts every line.
        """
        feed(self.intake, self._decoding, block, decode, self._count)

    def _count(self, records: list[Any]) -> int:
        foreign = 0
        for record in records:
            event = record.event
            if event not in _KNOWN:
                foreign += 1
                continue
            bucket = self._bucket if record.timestamp[:21] == self._prefix else self._locate(record.timestamp)
            weight = 1.0
            if record.sample != 1.0:
                self.least_sample = min(self.least_sample, record.sample)
                weight = 1.0 / record.sample
            if event == "occ.committed":
                bucket[1] += weight
                self.total_s += record.total_s * weight
            elif event == "occ.conflict":
                bucket[0] += weight
                bucket[3] += record.lost_s * weight
            elif event == "occ.gave_up":
                bucket[2] += 1
                self.total_s += record.total_s
        return foreign

    def _locate(self, timestamp: str) -> list[float]:
        seconds = seconds_of(timestamp)
        if seconds is None or not EARLIEST <= seconds <= LATEST:
            return self._bucket
        number_of = int(seconds / self.every + 1e-6)
        bucket = self.buckets.get(number_of)
        if bucket is None:
            if len(self.buckets) >= self.MOST:
                self._double()
                number_of = int(seconds / self.every + 1e-6)
            bucket = self.buckets.setdefault(number_of, [0, 0, 0, 0.0])
        if self._tenths and timestamp.endswith("Z"):
            self._prefix, self._bucket = timestamp[:21], bucket
        return bucket

    def _double(self) -> None:
        self.every *= 2
        before, self.buckets = self.buckets, {}
        for number_of, counts in before.items():
            mine = self.buckets.setdefault(number_of // 2, [0, 0, 0, 0.0])
            for index, count in enumerate(counts):
                mine[index] += count
        self._prefix = ""

    def advance(self, seconds: float | None) -> None:
        """
        Nothing waits here.
        """

    def finish(self) -> None:
        """
        Count what had no time with the first that has.
        """
        if any(self._early):
            first = self.buckets.setdefault(min(self.buckets, default=0), [0, 0, 0, 0.0])
            for index, count in enumerate(self._early):
                first[index] += count

    def sums(self) -> tuple[float, float, float, float]:
        """
        Conflicts, commits, give-ups and lost seconds in all.
        """
        whole = [sum(bucket[index] for bucket in self.buckets.values()) for index in range(4)]
        return whole[0], whole[1], whole[2], whole[3]

    def answer(self, *, limit: int | None = None) -> Row:
        """
        One row per step, empty ones in between included.
        """
        rows: list[Row] = []
        if self.buckets:
            low, high = min(self.buckets), max(self.buckets)
            low = low if limit is None else max(low, high - limit + 1)
            for number_of in range(low, min(high, low + self.MOST) + 1):
                counts = self.buckets.get(number_of, [0, 0, 0, 0.0])
                rows.append(
                    {
                        "at": text_of(number_of * self.every),
                        "conflicts": number(counts[0]),
                        "commits": number(counts[1]),
                        "gave_up": number(counts[2]),
                        "lost_s": round(counts[3], 6),
                        "conflict_ratio": share(counts[0], counts[0] + counts[1]),
                    }
                )
        return {
            "every_s": self.every,
            "rates": rows,
            "read": footer(self.intake, least_sample=self.least_sample),
        }
