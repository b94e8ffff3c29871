"""
One key: its commits and losses in order, how fast it is written, and by whom.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from toolkit.review.answers import Row, footer, number, share
from toolkit.review.axis import seconds_of
from toolkit.review.query import EVERYTHING, Query
from toolkit.review.reading import Intake
from toolkit.review.story import Fields, beaten_by, needle, scan, told, winners_of


class _Counts:
    def __init__(self) -> None:
        self.wins = self.losses = self.gave_up = 0.0
        self.lost_s = self.busy_s = 0.0
        self.first = self.last = 0.0
        self.least_sample = 1.0
        self.writers: defaultdict[str, float] = defaultdict(float)
        self.losers: defaultdict[str, float] = defaultdict(float)
        self.stores: set[str] = set()

    def add(self, fields: Fields) -> None:
        when = seconds_of(str(fields.get("timestamp", ""))) or 0.0
        self.first = min(self.first or when, when)
        self.last = max(self.last, when)
        sample: float = fields.get("sample", 1.0)
        self.least_sample = min(self.least_sample, sample)
        weight = 1 / sample if sample != 1 else 1
        self.busy_s += weight * sum(fields.get(name) or 0.0 for name in ("read_s", "fn_s", "write_s"))
        self.stores.add(str(fields.get("store", "")))
        writer = str(fields.get("writer", ""))
        if fields["event"] == "occ.committed":
            self.wins += weight
            self.writers[writer] += weight
        elif fields["event"] == "occ.conflict":
            self.losses += weight
            self.lost_s += weight * (fields.get("lost_s") or 0.0)
            self.losers[writer] += weight
        elif fields["event"] == "occ.gave_up":
            self.gave_up += 1


def key_view(files: Sequence[str], key: str, *, limit: int = 50, query: Query = EVERYTHING) -> Row:
    """
    What happened to *key*: figures over the whole log, and its last *limit* lines, each loss with its winner.
    """
    intake, counts = Intake(), _Counts()
    piece = needle(key)
    kept: deque[Fields] = deque(maxlen=limit)
    for _, line in scan(files, lambda line: piece in line, query, intake):
        fields = told(line, query)
        if (fields.get("key") == key or key in fields.get("keys", ())) and fields["event"] != "occ.summary":
            intake.kept += 1
            counts.add(fields)
            kept.append(fields)
    winners = winners_of(files, kept, query)
    seconds = counts.last - counts.first
    ordered = sorted(kept, key=lambda fields: str(fields.get("timestamp", "")))
    return {
        "key": key,
        "stores": sorted(counts.stores),
        "won": number(counts.wins),
        "lost": number(counts.losses),
        "gave_up": number(counts.gave_up),
        "loss_ratio": share(counts.losses, counts.losses + counts.wins),
        "lost_s": round(counts.lost_s, 6),
        "seconds": round(seconds, 3),
        "writes_per_s": round(counts.wins / seconds, 3) if seconds else None,
        "concurrency": round(counts.busy_s / seconds, 3) if seconds else None,
        "writers": [
            {"writer": name, "won": number(counts.writers[name]), "lost": number(counts.losers[name])}
            for name in sorted({*counts.writers, *counts.losers}, key=lambda n: (-counts.writers[n], n))
        ],
        "lines": [_line(fields, winners) for fields in ordered],
        "read": footer(intake, least_sample=counts.least_sample),
    }


def _line(fields: Fields, winners: dict[str, Fields]) -> dict[str, Any]:
    lost = fields["event"] == "occ.conflict"
    return {
        "at": fields.get("timestamp"),
        "event": fields["event"],
        "op": fields.get("op"),
        "writer": fields.get("writer"),
        "call_id": fields.get("call_id"),
        "attempt": fields.get("attempt"),
        "base_etag": fields.get("base_etag"),
        "combined": fields.get("combined"),
        "lost_s": fields.get("lost_s") if lost else None,
        "winner": beaten_by(fields, winners)["writer"] if lost else None,
        "write_id": fields.get("write_id"),
    }
