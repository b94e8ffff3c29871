"""
Follows growing logs: survives rotation, truncation and files that come later; counts over a sliding window.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from toolkit.review.answers import Row, footer, number, share
from toolkit.review.bulk import first_key
from toolkit.review.join import UNNAMED, WinnerJoin
from toolkit.review.query import Query
from toolkit.review.reading import CHUNK, MAX_LINE, UNREADABLE, Intake, classify
from toolkit.review.records import DECODER, Committed, Conflict, GaveUp, Record
from toolkit.review.tally import KeyTally

RECENT: Final = 200
# Lines read from one file in one go, so that a flood delays the screen but not for ever.
_CHUNKS: Final = 128


class Tail:
    """
    The new lines of one file.
    """

    def __init__(self, path: Path, intake: Intake, *, from_start: bool) -> None:
        self.path, self._intake = path, intake
        self._file: IO[bytes] | None = None
        self._carry = b""
        self._skipping = False
        self._from_start = from_start

    def lines(self) -> list[bytes]:
        """
        Whole lines that have come since the last call.
        """
        found: list[bytes] = []
        if self._file is None:
            self._open()
        for _ in range(_CHUNKS):
            if self._file is None or not (chunk := self._file.read(CHUNK)):
                break
            found += self._split(chunk)
        if not found and self._file is not None and self._replaced():
            # The old file has been read to its end; the new one is read from its beginning.
            self._file.close()
            self._file, self._from_start = None, True
            self._end_torn()
            self._open()
        return found

    def _open(self) -> None:
        try:
            self._file = self.path.open("rb")
        except OSError:
            # Not there (yet): looked for again with every call.
            self._from_start = True
            return
        if not self._from_start:
            self._file.seek(0, os.SEEK_END)
            self._from_start = True

    def _replaced(self) -> bool:
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except OSError:
            return False
        if not os.path.samestat(mine, there):
            return True
        if there.st_size < self._file.tell():
            # Cut short in place (copytruncate).
            self._file.seek(0)
            self._end_torn()
        return False

    def _split(self, chunk: bytes) -> list[bytes]:
        self._intake.bytes += len(chunk)
        lines = chunk.split(b"\n")
        if self._skipping:
            if len(lines) == 1:
                return []
            lines[0], self._skipping = b"", False
        lines[0] = self._carry + lines[0]
        self._carry = lines.pop()
        if len(self._carry) > MAX_LINE:
            self._intake.oversized += 1
            self._intake.lines += 1
            self._carry, self._skipping = b"", True
        return lines

    def _end_torn(self) -> None:
        if self._carry:
            classify(self._carry, self._intake)
            self._carry = b""

    def close(self) -> None:
        """
        Stop following.
        """
        if self._file is not None:
            self._file.close()
            self._file = None


class Second:
    """
    What arrived in one second.
    """

    __slots__ = ("commits", "conflicts", "gave_up", "keys", "lost_s")

    def __init__(self) -> None:
        self.conflicts = self.commits = self.gave_up = 0
        self.lost_s = 0.0
        # key -> [losses, wins, lost seconds, give-ups]
        self.keys: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0, 0])


class LiveView:
    """
    A sliding window over what arrives; the clock is the reader's, so that writers' clocks do not matter.
    """

    def __init__(
        self, files: Sequence[str], *, window: int = 60, from_start: bool = False,
        query: Query | None = None,
    ) -> None:  # fmt: skip
        self.intake = Intake(files=list(files))
        self.window = window
        self.tails = {name: Tail(Path(name), self.intake, from_start=from_start) for name in files}
        whole = query is None or query == Query()
        self._decode: Callable[[bytes], Record | None] = (
            DECODER.decode if query is None or whole else query.decoder(self._overhear)
        )
        self.seconds: dict[int, Second] = {}
        self.recent: deque[Conflict] = deque(maxlen=RECENT)
        self.failures: deque[GaveUp] = deque(maxlen=RECENT)
        self._join = WinnerJoin(lambda _: None)
        self._nowhere = KeyTally("", "")

    def follow(self, name: str) -> None:
        """
        Follow one more file, from its beginning.
        """
        if name not in self.tails:
            self.tails[name] = Tail(Path(name), self.intake, from_start=True)
            self.intake.files.append(name)

    def poll(self, now: float) -> int:
        """
        Take in what is new; answers how many events.
        """
        second = self.seconds.setdefault(int(now), Second())
        taken = 0
        for tail in self.tails.values():
            for line in tail.lines():
                try:
                    record = self._decode(line)
                except UNREADABLE:
                    classify(line, self.intake)
                    continue
                self.intake.lines += 1
                self.intake.events += 1
                taken += 1
                if record is not None:
                    self.intake.kept += 1
                    self._take(record, second)
        self._join.advance(now)
        for old in [at for at in self.seconds if at <= now - max(self.window, 300)]:
            del self.seconds[old]
        return taken

    def _overhear(self, record: Committed) -> None:
        if not record.noop:
            self._join.commit(record, record.writer or UNNAMED)

    def _take(self, record: Record, second: Second) -> None:
        if isinstance(record, Conflict):
            lost = record.lost_s
            second.conflicts += 1
            second.lost_s += lost
            counts = second.keys[first_key(record)]
            counts[0] += 1
            counts[2] += lost
            self.recent.append(record)
            record.beaten_by = self._join.known(record)
            if not record.beaten_by:
                self._join.wait((record, self._nowhere, 1, lost))
        elif isinstance(record, Committed):
            second.commits += 1
            for key in (record.key,) if record.key else record.keys:
                second.keys[key][1] += 1
            self._overhear(record)
        elif isinstance(record, GaveUp):
            second.gave_up += 1
            second.keys[first_key(record)][3] += 1
            self.failures.append(record)

    def close(self) -> None:
        """
        Stop following.
        """
        for tail in self.tails.values():
            tail.close()

    def snapshot(self, now: float, *, limit: int = 10, sort: str = "lost") -> Row:
        """
        What the window holds now.
        """
        begin = int(now) - self.window
        inside = {at: second for at, second in self.seconds.items() if at > begin}
        keys: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0, 0])
        for second in inside.values():
            for key, counts in second.keys.items():
                mine = keys[key]
                for index, value in enumerate(counts):
                    mine[index] += value
        order = {"lost": 2, "losses": 0, "gave_up": 3}[sort]
        hot = sorted(
            (item for item in keys.items() if item[1][0] or item[1][3]),
            key=lambda item: (-item[1][order], item[0]),
        )
        whole = sum(counts[2] for counts in keys.values())
        shown = [inside.get(at, Second()) for at in range(int(now) - min(self.window, 60) + 1, int(now) + 1)]
        return {
            "window_s": self.window,
            "conflicts": sum(second.conflicts for second in inside.values()),
            "commits": sum(second.commits for second in inside.values()),
            "gave_up": sum(second.gave_up for second in inside.values()),
            "lost_s": round(sum(second.lost_s for second in inside.values()), 6),
            "rates": {
                "conflicts": [second.conflicts for second in shown],
                "commits": [second.commits for second in shown],
            },
            "keys": [
                {
                    "key": key, "lost": number(counts[0]), "won": number(counts[1]),
                    "loss_ratio": share(counts[0], counts[0] + counts[1]), "lost_s": round(counts[2], 6),
                    "share": share(counts[2], whole), "gave_up": number(counts[3]),
                }
                for key, counts in hot[:limit]
            ],
            "recent": [
                {
                    "at": line.timestamp, "key": first_key(line), "loser": line.writer,
                    "winner": line.beaten_by or "(not logged)", "attempt": line.attempt,
                }
                for line in list(self.recent)[-limit:]
            ],
            "failures": [
                {"at": line.timestamp, "key": first_key(line), "op": line.op, "reason": line.reason, "attempts": line.attempt}
                for line in list(self.failures)[-5:]
            ],
            "read": footer(self.intake),
        }  # fmt: skip
