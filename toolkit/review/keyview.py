"""
One key: its commits and losses in order, how fast it is written, and by whom.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from toolkit.review.answers import Row, footer, share
from toolkit.review.axis import seconds_of
from toolkit.review.reading import Intake
from toolkit.review.story import Fields, beaten_by, needle, scan, winners_of


class _Counts:
    def __init__(self) -> None:
        self.wins = self.losses = self.gave_up = 0
        self.lost_s = self.busy_s = 0.0
        self.first = self.last = 0.0
        self.writers: Counter[str] = Counter()
        self.losers: Counter[str] = Counter()
        self.stores: set[str] = set()

    def add(self, fields: Fields) -> None:
        when = seconds_of(str(fields.get("timestamp", ""))) or 0.0
        self.first = min(self.first or when, when)
        self.last = max(self.last, when)
        self.busy_s += sum(fields.get(name) or 0.0 for name in ("read_s", "fn_s", "write_s"))
        self.stores.add(str(fields.get("store", "")))
        writer = str(fields.get("writer", ""))
        if fields["event"] == "occ.committed":
            self.wins += 1
            self.writers[writer] += 1
        elif fields["event"] == "occ.conflict":
            self.losses += 1
            self.lost_s += fields.get("lost_s") or 0.0
            self.losers[writer] += 1
        elif fields["event"] == "occ.gave_up":
            self.gave_up += 1


def key_view(files: Sequence[str], key: str, *, limit: int = 50) -> Row:
    """
    What happened to *key*: figures over the whole log, and its last *limit* lines, each loss with its winner.
    """
    intake, counts = Intake(), _Counts()
    piece = needle(key)
    kept: deque[Fields] = deque(maxlen=limit)
    for fields in scan(files, intake, lambda line: piece in line):
        if (fields.get("key") == key or key in fields.get("keys", ())) and fields["event"] != "occ.summary":
            counts.add(fields)
            kept.append(fields)
    winners = winners_of(files, kept)
    seconds = counts.last - counts.first
    ordered = sorted(kept, key=lambda fields: str(fields.get("timestamp", "")))
    return {
        "key": key,
        "stores": sorted(counts.stores),
        "won": counts.wins,
        "lost": counts.losses,
        "gave_up": counts.gave_up,
        "loss_ratio": share(counts.losses, counts.losses + counts.wins),
        "lost_s": round(counts.lost_s, 6),
        "seconds": round(seconds, 3),
        "writes_per_s": round(counts.wins / seconds, 3) if seconds else None,
        "concurrency": round(counts.busy_s / seconds, 3) if seconds else None,
        "writers": [
            {"writer": name, "won": counts.writers[name], "lost": counts.losers[name]}
            for name in sorted({*counts.writers, *counts.losers}, key=lambda n: (-counts.writers[n], n))
        ],
        "lines": [_line(fields, winners) for fields in ordered],
        "read": footer(intake),
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
